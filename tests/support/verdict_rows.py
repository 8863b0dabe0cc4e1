"""Rows of the classification table for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity, classify
from otel_resilience.classification import error_types

KINDS = {
    "T": ErrorClass.TRANSIENT,
    "TS": ErrorClass.TRANSIENT_SLOW,
    "P": ErrorClass.PERMANENT,
    "H": ErrorClass.SELF_HEAL,
    "C": ErrorClass.CONTROL,
    "RateLimit": ErrorClass.THROTTLED,
    "local": ErrorClass.LOCAL,
    "quarantine": ErrorClass.QUARANTINE,
    "cancelled": ErrorClass.CANCELLED,
}
BREAKERS = {"yes": BreakerEffect.FAILURE, "no": BreakerEffect.NEUTRAL, "success": BreakerEffect.SUCCESS}


@dataclasses.dataclass(frozen=True)
class Row:
    """An exception and what the table says about it; ``fields`` are further fields of the verdict."""

    name: str
    exception: BaseException
    kind: str
    breaker: str
    error_type: str
    fields: dict[str, Any]


def row(name: str, exception: BaseException, kind: str, breaker: str, error_type: str, **fields: Any) -> Any:
    """A parameter for ``pytest.mark.parametrize``."""
    return pytest.param(Row(name, exception, kind, breaker, error_type, fields), id=name)


def assert_verdict(verdict: Classification, kind: str, breaker: str, error_type: str, **fields: Any) -> None:
    """Compares a verdict with a row; ``fields`` are those that differ from a plain verdict of that kind."""
    assert (verdict.error_class, verdict.breaker, verdict.error_type) == (KINDS[kind], BREAKERS[breaker], error_type)
    assert not verdict.unclassified
    assert error_type in error_types.NAMES or error_type.startswith("redis_") or error_type.isdigit()
    for name, expected in {"max_retries": None, "unsent": False, "immediate": False, **fields}.items():
        assert getattr(verdict, name) == expected, name
    if kind == "TS":
        assert verdict.severity >= Severity.HIGH


def check(row: Row) -> None:
    """Classifies the row's exception by the default rules."""
    assert_verdict(classify(row.exception), row.kind, row.breaker, row.error_type, **row.fields)


def behind(exception: BaseException, cause: BaseException | None, *, context: bool = False) -> BaseException:
    """``exception`` with ``cause`` behind it, as its cause or only as its context."""
    if context:
        exception.__context__ = cause
    else:
        exception.__cause__ = cause
    return exception
