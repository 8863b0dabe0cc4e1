"""Rules for asyncpg. Nothing here imports it.

A refused port is a ``ConnectionRefusedError`` and a time limit a ``TimeoutError``: the standard library's rules.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, cause_of
from otel_resilience.classification.causes import by_class_name, message_of
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.sqlstate import CLOSED, judge_sqlstate


def _interface(exception: BaseException) -> Classification:
    return CLOSED if "connection is closed" in message_of(exception) else verdicts.MISUSE


_by_name: Final = by_class_name(
    {
        # A prepared statement no longer fits the schema; it is prepared again.
        "asyncpg.exceptions": {"InvalidCachedStatementError": verdicts.CONFLICT},
        "asyncpg.exceptions._base": {
            "OutdatedSchemaCacheError": verdicts.CONFLICT,
            "TargetServerAttributeNotMatched": os_errors.REFUSED,
            "ProtocolError": verdicts.GARBAGE,
            "InternalClientError": verdicts.GARBAGE,
            "InterfaceError": _interface,
        },
    }
)


def classify_asyncpg(exception: BaseException) -> Classification | None:
    """The verdict on an exception of asyncpg; ``None`` on any other."""
    # If the server ended a connection, its reason is chained behind the connection's error.
    behind = attribute(cause_of(exception), "sqlstate")
    return _by_name(exception) or judge_sqlstate(behind) or judge_sqlstate(attribute(exception, "sqlstate"))
