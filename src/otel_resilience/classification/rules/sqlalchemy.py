"""Rules for SQLAlchemy. Nothing here imports it.

The wrapped exception decides: that of the driver is judged by the driver's rules.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, cause_of, is_a, name_of
from otel_resilience.classification.causes import by_class_name
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import clients, stdlib, verdicts
from otel_resilience.classification.rules.sqlstate import judge_pep_249, judge_sqlstate

_by_name: Final = by_class_name(
    {
        "sqlalchemy.exc": {
            "TimeoutError": verdicts.POOL,
            "NoResultFound": verdicts.NOT_FOUND,
            "DisconnectionError": verdicts.ENDED,
            "SQLAlchemyError": verdicts.MISUSE,
        },
        "sqlalchemy.orm.exc": {"ObjectDeletedError": verdicts.NOT_FOUND, "StaleDataError": verdicts.CONFLICT},
    }
)
_MOST_SHELLS: Final = 5


def classify_sqlalchemy(exception: BaseException) -> Classification | None:
    """The verdict on an exception of SQLAlchemy; ``None`` on any other."""
    original = _original(exception)
    if original is exception:
        return _by_name(exception)
    verdict = None if _is_own(original) else clients.classify_client(original) or stdlib.classify_stdlib(original)
    # A statement that could not even be built has a programming error behind it.
    return verdict or judge_sqlstate(attribute(original, "sqlstate")) or judge_pep_249(exception) or verdicts.MISUSE


def _original(exception: BaseException) -> BaseException:
    """The driver's exception: in ``orig``, with asynchronous drivers one level deeper."""
    for _ in range(_MOST_SHELLS):
        inner = attribute(exception, "orig")
        if inner is None and name_of(type(exception)).startswith("sqlalchemy.dialects."):
            inner = cause_of(exception)
        if not is_a(inner, BaseException):
            break
        exception = inner
        if not _is_own(exception):
            break
    return exception


def _is_own(exception: BaseException) -> bool:
    return name_of(type(exception)).startswith("sqlalchemy.")
