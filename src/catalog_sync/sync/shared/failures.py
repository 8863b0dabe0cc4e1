"""Errors passed from one process to another: what the report needs of them, and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import catalog_sync.store.errors  # noqa: F401  # registers its errors as subclasses
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.sync.reporting import error_info
from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity, classify

_FIELDS = tuple(field.name for field in dataclasses.fields(Classification) if field.init)


def error_to_json(error: BaseException) -> dict[str, Any]:
    """``error`` without traceback and cause, its message redacted."""
    verdict, info = classify(error), error_info(error)
    classification = {name: getattr(verdict, name) for name in _FIELDS}
    return {
        "kind": type(error).__name__,
        "message": info.message,
        "correlation_id": info.correlation_id,
        "classification": {**classification, "severity": verdict.severity.value},
    }


def error_from_json(data: Mapping[str, Any]) -> CatalogSyncError:
    """The inverse of :func:`error_to_json`: an error of the same class if it is one of this package.

    What another version of this program adds is left out: while an upgrade goes on, workers of both do one sync.
    Raises ``KeyError``, ``TypeError`` or ``ValueError`` on anything else.
    """
    fields = data["classification"]
    verdict = Classification(
        **{
            **{name: fields[name] for name in _FIELDS if name in fields},
            "error_class": ErrorClass(fields["error_class"]),
            "severity": Severity(fields["severity"]),
            "breaker": BreakerEffect(fields["breaker"]),
        }
    )
    kind = next((kind for kind in _subclasses(CatalogSyncError) if kind.__name__ == data["kind"]), CatalogSyncError)
    error = kind.__new__(kind)
    # Some subclasses build their message from other arguments; here it is complete already.
    CatalogSyncError.__init__(error, data["message"], classification=verdict)
    error.correlation_id = data["correlation_id"]
    return error


def _subclasses(kind: type[CatalogSyncError]) -> Iterator[type[CatalogSyncError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _subclasses(child)
