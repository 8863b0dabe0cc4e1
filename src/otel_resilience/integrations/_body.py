"""Bodies that are read within the attempt: bounded in bytes, decoded piece by piece, with a time limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from otel_resilience._internal.foreign import header_of
from otel_resilience._internal.nesting import enclosing, nearest_deadline
from otel_resilience._internal.pickled import reduced
from otel_resilience.classification import error_types
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.errors import AttemptTimeoutError, DeadlineExceededError
from otel_resilience.policy.policy import Policy

CHUNK: Final = 65_536
"""Bytes that are read in one step."""
_INFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""The content encodings that are decoded in bounded steps: a small piece may expand to a very large one."""


class BodyError(Exception):
    """The body of a successful response cannot be used. Base of the two errors of ``max_body_bytes``, which count for
    the breaker. The client's caller gets them if no attempt brings a better response.

    Examples:
        >>> from otel_resilience.integrations import BodyError, BodyTooLargeError
        >>> issubclass(BodyTooLargeError, BodyError)
        True
    """

    classification: Classification

    def __init__(self, message: str, response: Any) -> None:
        super().__init__(message)
        self.response = response
        """The client's own response, without its body."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)


class BodyTooLargeError(BodyError):
    """The body is larger than ``max_body_bytes``, perhaps only when decoded. Never retried.

    Examples:
        >>> from otel_resilience.integrations import BodyTooLargeError
        >>> BodyTooLargeError(None, limit=1_000_000)
        BodyTooLargeError('the answer is larger than 1000000 bytes')
    """

    classification = Classification(
        ErrorClass.PERMANENT, Severity.HIGH, error_types.PAYLOAD_TOO_LARGE, BreakerEffect.FAILURE
    )

    def __init__(self, response: Any, limit: int) -> None:
        super().__init__(f"the answer is larger than {limit} bytes", response)
        self.limit = limit
        """Bytes."""


class BodyEncodingError(BodyError):
    """The body is not in the ``Content-Encoding`` that the response names, ends too early, or has an encoding that was
    not requested. Retried once, since gateways do that occasionally.

    Examples:
        >>> from otel_resilience.integrations import BodyEncodingError
        >>> classify(BodyEncodingError("the answer is not gzip", None)).max_retries
        1
    """

    classification = Classification(
        ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, BreakerEffect.FAILURE, max_retries=1
    )


class Body:
    """Collects the body of one response. The body of an error is truncated, so that its status stays what counts."""

    def __init__(self, response: Any, headers: Any, limit: int, *, empty: bool, cut: bool, decoded: bool) -> None:
        self.data = bytearray()
        """What has arrived so far, decoded."""
        self._response = response
        self._limit = limit
        self._cut = cut
        encoding = "" if empty or decoded else (header_of(headers, "content-encoding") or "").strip().lower()
        self._encoding = "" if encoding == "identity" else encoding
        self.changed = self._encoding != ""
        """Whether the encoding and length in the headers no longer apply."""
        # The first bytes of the data distinguish gzip from zlib.
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if self._encoding in _INFLATED else None
        self._received = 0
        announced = header_of(headers, "content-length") or ""
        if not (cut or empty) and announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise BodyTooLargeError(response, limit)
        if self._encoding and self._inflate is None and not cut:
            raise BodyEncodingError("the answer has a content encoding that was not asked for", response)

    def add(self, piece: bytes) -> bool:
        """Adds the next piece. Returns whether more is wanted. Raises :class:`BodyError`."""
        try:
            self.data += piece if self._inflate is None else self._decoded(self._inflate, piece)
        except zlib.error as error:
            if self._cut:
                return False
            raise BodyEncodingError("the answer is not in the encoding it claims", self._response) from error
        self._received += len(piece)
        if len(self.data) <= self._limit and self._received <= self._limit + CHUNK:  # the second: data without content
            return True
        if not self._cut:
            raise BodyTooLargeError(self._response, self._limit)
        self.changed = True
        del self.data[self._limit :]
        return False

    def end(self) -> bytes:
        """The whole body, after the last piece. Raises :class:`BodyError`."""
        if self._inflate is not None and self._received and not self._inflate.eof and not self._cut:
            raise BodyEncodingError("the compressed answer ends too early", self._response)
        return bytes(self.data)

    def _decoded(self, inflate: zlib._Decompress, piece: bytes) -> bytes:
        room = self._limit + 1 - len(self.data)
        if inflate.eof:
            return b""
        try:
            return inflate.decompress(piece, room)
        except zlib.error:
            if self._received or self._encoding != "deflate":
                raise
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers omit the zlib header
            return self._inflate.decompress(piece, room)


def bounded_encodings(accepted: str | None) -> str | None:
    """The ``Accept-Encoding`` of a request, without encodings that cannot be decoded in bounded pieces."""
    if accepted is None:
        return None
    names = (each.strip() for each in accepted.split(","))
    kept = [each for each in names if each.partition(";")[0].strip().lower() in {*_INFLATED, "identity"}]
    return ", ".join(kept) or "identity"


def time_check(policy: Policy) -> Callable[[], None]:
    """For a ``def`` attempt that starts now: to be called between pieces of its body; raises once its time is up."""
    started = policy.clock()

    def check() -> None:
        nearest = nearest_deadline(enclosing.get())
        if nearest is not None and nearest[0] <= 0:
            raise DeadlineExceededError(nearest[1].seconds)
        if policy.attempt_timeout is not None and policy.clock() - started > policy.attempt_timeout:
            raise AttemptTimeoutError(policy.attempt_timeout)

    return check
