"""Name resolution, TLS and ``errno``: what the operating system reports, directly or behind a client's exception."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification import error_types
from otel_resilience.classification.causes import judged_behind, message_of, nearest_verdict
from otel_resilience.classification.model import BreakerEffect, Classification, Severity, badness, flagged
from otel_resilience.classification.rules import verdicts

BROKEN: Final = verdicts.transient(error_types.CONNECTION_ERROR)
"""The connection failed or broke."""
REFUSED: Final = BROKEN.replace(unsent=True)
"""No connection was established."""
EXHAUSTED: Final = verdicts.slow(error_types.RESOURCE_EXHAUSTED, BreakerEffect.NEUTRAL)
"""A limit of this process or host."""
DISK_FULL: Final = EXHAUSTED.replace(error_type=error_types.DISK_FULL)
DENIED: Final = verdicts.permanent(error_types.PERMISSION_DENIED)

TLS_BROKEN: Final = verdicts.transient(error_types.SECURE_CONNECTION_ERROR)
TLS_REFUSED: Final = verdicts.permanent(error_types.SECURE_CONNECTION_ERROR)
CERTIFICATE: Final = verdicts.permanent(error_types.SECURE_CONNECTION_ERROR, Severity.CRITICAL, unsent=True)

RESOLVER_BUSY: Final = verdicts.transient(error_types.NAME_RESOLUTION_ERROR, unsent=True)
RESOLVER_FAILED: Final = verdicts.permanent(error_types.NAME_RESOLUTION_ERROR, unsent=True)
RESOLVER_EXHAUSTED: Final = EXHAUSTED.replace(error_type=error_types.NAME_RESOLUTION_ERROR, unsent=True)
NAME_UNKNOWN: Final = RESOLVER_FAILED.replace(max_retries=1)
"""Retried once to confirm it: most often a wrong setting, sometimes a failing resolver."""


def _eai(**names: Classification) -> dict[int, Classification]:
    """By the numbers of this platform; names it does not have are left out."""
    return {getattr(socket, name): verdict for name, verdict in names.items() if hasattr(socket, name)}


_BY_EAI: Final = _eai(
    EAI_AGAIN=RESOLVER_BUSY,
    EAI_NODATA=NAME_UNKNOWN,
    EAI_NONAME=NAME_UNKNOWN,
    EAI_FAIL=RESOLVER_FAILED,
    EAI_MEMORY=RESOLVER_EXHAUSTED,
    EAI_SYSTEM=RESOLVER_EXHAUSTED,
)

_BY_ERRNO: Final[dict[int | None, Classification]] = {
    errno.ECONNREFUSED: REFUSED,
    **dict.fromkeys(
        (
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.EPIPE,
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.EHOSTDOWN,
            errno.ENETRESET,
            errno.ETIMEDOUT,
            errno.ENOTCONN,
            errno.ESHUTDOWN,
        ),
        BROKEN,
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS), EXHAUSTED),
    errno.EADDRNOTAVAIL: EXHAUSTED.replace(unsent=True),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), DENIED),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), DISK_FULL),
}

_PLAIN: Final = frozenset(
    {
        BrokenPipeError,
        ConnectionAbortedError,
        ConnectionRefusedError,
        ConnectionResetError,
        OSError,
        PermissionError,
        TimeoutError,
    }
)
"""Classes of Python itself that are not special cases in :func:`judge`."""
_SEVERAL_ADDRESSES: Final = "Multiple exceptions: "
_HANDSHAKE: Final = "The handshake operation timed out"
_ERRNO_IN_TEXT: Final = re.compile(r"\[Errno (\d{1,4})\]")


def judge(exception: BaseException) -> Classification | None:
    """The verdict on a socket, TLS or file error; ``None`` if the exception alone says too little."""
    kind = type(exception)
    if not issubclass(kind, OSError):
        return None
    if kind in _PLAIN:
        number = exception.errno  # type: ignore[attr-defined]  # an OSError
        if type(number) is not int:
            number = errno_of(exception)
        return _BY_ERRNO.get(number) or _by_type(exception)  # type: ignore[arg-type]  # classes are hashable
    if is_a(exception, socket.gaierror):
        return _BY_EAI.get(errno_of(exception) or 0, RESOLVER_FAILED)
    if is_a(exception, socket.herror):  # its errno is the resolver's own
        return RESOLVER_FAILED
    if is_a(exception, ssl.SSLError):  # its errno is OpenSSL's, not the system's
        return _tls(exception)
    number = errno_of(exception)
    verdict = None if number is None else _BY_ERRNO.get(number)
    return verdict or _by_type(exception)  # type: ignore[arg-type]  # classes are hashable


def connecting(exception: BaseException) -> Classification:
    """The verdict on a client's exception which says that no connection was established: the system's error behind it
    says why. Nothing was sent."""
    behind = nearest_verdict(exception, judge)
    return REFUSED if behind is None else flagged(behind, "unsent", True)


def handshake(exception: BaseException) -> Classification | None:
    """The verdict on a TLS handshake that took too long, which clients report as a read that did; nothing was sent."""
    stalled = is_a(exception, TimeoutError) and message_of(exception).endswith(_HANDSHAKE)
    return verdicts.CONNECT_TIMEOUT if stalled else None


read_timeout: Final = judged_behind(handshake, verdicts.READ_TIMEOUT)
"""The verdict on a client's exception about an answer that takes too long."""


def errno_of(exception: BaseException) -> int | None:
    """The system's error number; ``None`` if it is missing or not a number."""
    number = attribute(exception, "errno")
    return int.__index__(number) if is_a(number, int) else None


def _tls(exception: ssl.SSLError) -> Classification | None:
    if is_a(exception, ssl.SSLCertVerificationError):
        return CERTIFICATE
    if is_a(exception, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return None  # an unfinished handshake that was ended by something else
    if is_a(exception, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return TLS_BROKEN
    return TLS_REFUSED


def _by_type(exception: OSError) -> Classification | None:
    if is_a(exception, ConnectionRefusedError):
        return REFUSED
    if is_a(exception, ConnectionError):
        return BROKEN
    if is_a(exception, PermissionError):
        return DENIED
    return handshake(exception) or _several_addresses(message_of(exception))


def _several_addresses(text: str) -> Classification | None:
    """asyncio joins the failures of several addresses into one text without its own number."""
    if not text.startswith(_SEVERAL_ADDRESSES):
        return None
    failures = [_BY_ERRNO.get(int(number), BROKEN) for number in _ERRNO_IN_TEXT.findall(text)]
    if not failures:
        return BROKEN
    # The addresses are alternatives for one connection: the worst failure represents it, as a whole.
    return min(failures, key=badness).replace(unsent=all(each.unsent for each in failures))
