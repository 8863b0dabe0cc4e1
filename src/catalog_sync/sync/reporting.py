"""Converts errors to the form that reports show."""

from __future__ import annotations

import traceback
from typing import Final

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.models import ErrorInfo
from catalog_sync.domain.text import printable
from otel_resilience import Severity, classify, correlation_id
from otel_resilience.redaction import redact

MAX_MESSAGE: Final = 500


def error_info(error: BaseException) -> ErrorInfo:
    """The report's view of ``error``: classified, redacted, without traceback."""
    verdict = classify(error)
    text = str(error) or type(error).__name__
    if not isinstance(error, CatalogSyncError):
        text = "".join(traceback.format_exception_only(error)).strip()
    return ErrorInfo(
        type=verdict.error_type,
        error_class=verdict.error_class.value,
        severity=verdict.severity.value,
        message=printable(redact(text).strip(), limit=MAX_MESSAGE),
        retry_after_s=verdict.retry_after,
        correlation_id=error.correlation_id if isinstance(error, CatalogSyncError) else correlation_id(),
        dependency=error.dependency if isinstance(error, CatalogSyncError) else None,
    )


def worst(errors: list[ErrorInfo]) -> ErrorInfo | None:
    """The most severe one; the first if there are several; ``None`` if there are none."""
    return max(errors, key=lambda error: Severity(error.severity), default=None)


def first_leaf(error: BaseException) -> BaseException:
    """The error hidden in a task group: its first member that is not itself a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
