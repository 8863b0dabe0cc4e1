"""Rules for redis-py 6 to 8. Nothing here imports it.

Its hierarchy misleads: a wrong password is a ``ConnectionError``, a busy lock a ``ValueError``, and many replies are a
plain ``ResponseError`` that only the text distinguishes. A class with its own meaning is therefore matched before its
base classes, and then the prefix of the reply.

Not covered: a lasting ``READONLY``. A failover ends within a minute; after that the address is that of a replica.
"""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import cause_of, context_of
from otel_resilience.classification import error_types
from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity, flagged
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.verdicts import permanent, slow, transient

_NEUTRAL: Final = BreakerEffect.NEUTRAL
_PERMANENT: Final = permanent(error_types.OTHER)
_PASSES: Final = transient(error_types.OTHER)
_HEALED: Final = Classification(ErrorClass.SELF_HEAL, Severity.LOW, error_types.OTHER)

_GROUPS: Final = (
    # A cluster client follows MOVED and ASK itself: if one surfaces, the client is for a single server.
    (_PERMANENT, "ASK BUSYKEY CROSSSLOT DENIED ERR EXECABORT MOVED NOPERM NOPROTO WRONGTYPE"),
    (_PASSES, "BUSY LOADING MASTERDOWN READONLY"),
    (_PASSES.replace(breaker=_NEUTRAL), "INPROG IOERR NOMASTERLINK TRYAGAIN UNBLOCKED"),
    (slow(error_types.OTHER), "CLUSTERDOWN"),
    (slow(error_types.OTHER, _NEUTRAL), "UNKILLABLE"),
    (verdicts.WRITES_PAUSED, "NOREPLICAS OOM"),
    (verdicts.WRITES_PAUSED.replace(severity=Severity.CRITICAL), "MISCONF"),
    (_HEALED, "NOGROUP NOSCRIPT"),
    (_HEALED.replace(breaker=BreakerEffect.SUCCESS), "BUSYGROUP"),
)
_AUTH: Final = permanent(error_types.redis_reply("auth"), Severity.CRITICAL)
_BY_PREFIX: Final = {
    "NOAUTH": _AUTH,
    "WRONGPASS": _AUTH,
    **{
        prefix: verdict.replace(error_type=error_types.redis_reply(prefix))
        for verdict, prefixes in _GROUPS
        for prefix in prefixes.split()
    },
}
_ERR: Final = _BY_PREFIX["ERR"]
_EXEC_ABORT: Final = _BY_PREFIX["EXECABORT"]
_MAX_CLIENTS: Final = slow(_ERR.error_type, unsent=True)
_CONNECTION: Final = os_errors.BROKEN
_LOCK_BUSY: Final = Classification(ErrorClass.CONTROL, Severity.LOW, error_types.OTHER)

_CLASSES: Final = {
    # auth
    "AuthenticationError": _AUTH,
    "AuthorizationError": _AUTH,
    "AuthenticationWrongNumberOfArgsError": _AUTH,
    "ExternalAuthProviderError": transient(_ERR.error_type),
    "NoPermissionError": _BY_PREFIX["NOPERM"],
    # lock
    "LockNotOwnedError": _PERMANENT,
    "LockError": _LOCK_BUSY,
    # cluster
    "MasterDownError": _BY_PREFIX["MASTERDOWN"],
    "ClusterDownError": _BY_PREFIX["CLUSTERDOWN"],
    "TryAgainError": _BY_PREFIX["TRYAGAIN"],
    "MovedError": _BY_PREFIX["MOVED"],
    "AskError": _BY_PREFIX["ASK"],
    "ClusterCrossSlotError": _BY_PREFIX["CROSSSLOT"],
    "CrossSlotTransactionError": _BY_PREFIX["CROSSSLOT"],
    "SlotNotCoveredError": _BY_PREFIX["CLUSTERDOWN"],
    "ClusterError": _BY_PREFIX["CLUSTERDOWN"],
    "InvalidPipelineStack": verdicts.MISUSE,
    "IncorrectPolicyType": verdicts.MISUSE,
    "RedisClusterException": _BY_PREFIX["CLUSTERDOWN"],
    # replies with a class of their own
    "OutOfMemoryError": _BY_PREFIX["OOM"],
    "ReadOnlyError": _BY_PREFIX["READONLY"],
    "NoScriptError": _BY_PREFIX["NOSCRIPT"],
    "ExecAbortError": _EXEC_ABORT,
    "ModuleError": _ERR,
    "NoSuchFieldsetError": _HEALED.replace(error_type=_ERR.error_type),
    "ResponseError": _ERR,
    # connection and the rest
    "BusyLoadingError": _BY_PREFIX["LOADING"],
    "MaxConnectionsError": verdicts.POOL,
    "ConnectionError": _CONNECTION,
    "TimeoutError": verdicts.READ_TIMEOUT,
    "DataError": verdicts.MISUSE,
    "PubSubError": verdicts.MISUSE,
    "InvalidResponse": permanent(error_types.INVALID_RESPONSE),
    "WatchError": _PASSES.replace(breaker=_NEUTRAL),
    "ChildDeadlockedError": _PERMANENT.replace(severity=Severity.CRITICAL),
}

_by_name: Final = by_class_name({"redis.exceptions": _CLASSES})

_IN_PIPELINE: Final = " of pipeline caused error: "
_PREFIX: Final = re.compile(r"-?([A-Z][A-Z0-9_]*)(?=[ :]|$)")
_IN_OLD_SCRIPT: Final = re.compile(r"-?\b(OOM|READONLY|MISCONF|BUSY|NOREPLICAS|WRONGTYPE|NOPERM)\b")
_ACL_IN_SCRIPT: Final = ("ACL failure in script", "user executing the script can't")
"""How servers before 7.2 report NOPERM within a script."""
_POOL_TEXTS: Final = ("No connection available", "Too many connections")
_SETTING_TEXTS: Final = ("Invalid RESP version", "Invalid Database", "protocol must be ")
_CONNECTING: Final = re.compile(r"Error\b.* connecting to ", re.DOTALL)


def classify_redis(exception: BaseException) -> Classification | None:
    """The verdict on an exception of redis-py; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is None:
        return None
    if verdict is _ERR:
        return _response(exception)
    if verdict is _CONNECTION:
        return _connection(exception)
    if verdict is verdicts.READ_TIMEOUT:
        return _timeout(message_of(exception))
    if verdict is _EXEC_ABORT:
        return _exec_abort(exception)
    if verdict is _LOCK_BUSY and message_of(exception).startswith("Cannot "):
        return verdicts.MISUSE  # released or extended a lock that was never acquired
    return verdict


def _response(exception: BaseException) -> Classification:
    """By the reply's prefix; an unknown prefix, such as a script's own, is an error of the command."""
    text = _reply_text(exception)
    if "max number of clients" in text:
        return _MAX_CLIENTS
    if any(words in text for words in _ACL_IN_SCRIPT):
        return _BY_PREFIX["NOPERM"]
    if "Script killed" in text:
        return transient(_ERR.error_type, _NEUTRAL)
    if "Error running script" in text:
        inner = _IN_OLD_SCRIPT.search(text.partition("Error running script")[2])
        return _ERR if inner is None else _BY_PREFIX[inner[1]]
    found = _PREFIX.match(text)
    return _ERR if found is None else _BY_PREFIX.get(found[1], _ERR)


def _reply_text(exception: BaseException) -> str:
    """The reply, without the prefix that a pipeline adds."""
    text = message_of(exception)
    return text.rpartition(_IN_PIPELINE)[2]


def _exec_abort(exception: BaseException) -> Classification:
    reason = _PREFIX.match(message_of(exception).rpartition("because of: ")[2])
    if reason is not None and reason[1] in _BY_PREFIX and reason[1] != "EXECABORT":
        return _BY_PREFIX[reason[1]]
    for inner in (cause_of(exception), context_of(exception)):
        if inner is not None and type(inner) is not type(exception):
            verdict = _by_name(inner)
            if verdict is not None:
                return _response(inner) if verdict is _ERR else verdict
    return _EXEC_ABORT


def _connection(exception: BaseException) -> Classification:
    text = _reply_text(exception)
    if text.startswith(_POOL_TEXTS):
        return verdicts.POOL
    if "max number of clients" in text:
        return _MAX_CLIENTS
    if text.startswith(_SETTING_TEXTS):
        return verdicts.MISUSE
    replied = _replied_while_connecting(exception)
    if replied is not None:
        return replied
    behind = nearest_verdict(exception, os_errors.judge) or _CONNECTION
    unsent = behind.unsent or _CONNECTING.match(text) is not None
    return behind if unsent == behind.unsent else flagged(behind, "unsent", unsent)


def _replied_while_connecting(exception: BaseException) -> Classification | None:
    """The server's reply to the greeting, if that is the cause: redis-py's asyncio client wraps it like this on a unix
    socket."""
    inner = cause_of(exception)
    verdict = None if inner is None else _by_name(inner)
    if inner is None or verdict in (None, _CONNECTION, _EXEC_ABORT, verdicts.READ_TIMEOUT):
        return None
    return _response(inner) if verdict is _ERR else verdict


def _timeout(text: str) -> Classification:
    if text.startswith("Timeout connecting"):
        return verdicts.CONNECT_TIMEOUT
    if text.startswith("Timeout writing"):
        return verdicts.WRITE_TIMEOUT
    return verdicts.READ_TIMEOUT
