"""The record of an ended sync."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator

from catalog_sync.domain.json_form import JsonForm
from catalog_sync.domain.models import FAILED_OUTCOMES, Outcome, SyncKind, SyncReport
from catalog_sync.domain.reports import is_report
from catalog_sync.domain.times import Moment, epoch, rfc3339

ASKED_BY: Final = {"cli": "command line", "schedule": "scheduler", "api": "API", "demo": "demo"}
"""Who asked for a sync, for people, by its ``trigger``."""

_SHOWN: Final = ("version", "bundles", "attempts", "retries", "error")


def _report(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if not is_report(data, partial=True):
        raise ValueError("no report")
    return data


@dataclasses.dataclass(frozen=True, slots=True)
class SyncRecord(JsonForm):
    """One sync, wherever it ran. Times are RFC 3339, UTC."""

    correlation_id: str
    kind: SyncKind
    scope: str | None
    trigger: str | None
    """Who asked: ``cli``, ``schedule``, ``api`` or ``demo``; ``None`` if unknown."""
    process: str
    """``service.name`` of the process that ended it."""
    outcome: Outcome
    started_at: Moment
    ended_at: Moment
    duration_s: float
    report: Annotated[Mapping[str, Any], AfterValidator(_report)]
    """The object of ``catalog-sync run --json``, without the quarantined rows."""

    @classmethod
    def of(cls, report: SyncReport, process: str) -> Self:
        """The record of a report. Raises ``ValueError`` if its start is not a time."""
        return cls(
            correlation_id=report.correlation_id,
            kind=report.kind,
            scope=report.scope,
            trigger=report.trigger,
            process=process,
            outcome=report.outcome,
            started_at=report.started_at,
            ended_at=rfc3339(epoch(report.started_at) + report.duration_s),
            duration_s=round(report.duration_s, 3),
            report=dataclasses.replace(report, quarantined_rows=()).to_json(),
        )

    @property
    def failed(self) -> bool:
        """Whether anything in it failed: also if it is PARTIAL."""
        return self.outcome in FAILED_OUTCOMES

    @property
    def error_types(self) -> list[str]:
        """Of the sync itself, then of its groups."""
        errors = [self.report.get("error"), *(group.get("error") for group in self.report.get("groups", ()))]
        return [str(error["type"]) for error in errors if error]

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for two records of one sync. One trace may request several syncs."""
        return self.correlation_id, self.started_at

    def line(self) -> dict[str, Any]:
        """The entry in ``catalog-sync syncs --json``."""
        whole = self.to_json()
        report = whole.pop("report")
        return {**whole, **{name: report.get(name) for name in _SHOWN}}
