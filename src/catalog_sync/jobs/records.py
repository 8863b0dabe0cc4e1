"""Job records as stored in Redis: one hash, read as a whole."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from catalog_sync.domain.models import ErrorInfo, LockHolder, Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.domain.reports import failed_report, is_report
from catalog_sync.domain.times import is_moment, rfc3339
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.port import Job, JobStatus
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.sync.progress import GroupProgress
from catalog_sync.sync.shared.distributed import DistributedSync
from catalog_sync.sync.shared.failures import error_from_json
from otel_resilience.correlation import is_correlation_id

_SCOPES: Final = TypeAdapter(tuple[str, ...])
_SCOPE: Final = TypeAdapter(str | None)
_CARRIER: Final = TypeAdapter(dict[str, str])
_PROGRESS: Final = TypeAdapter(GroupProgress)

_log = logging.getLogger(__name__)

NO_CORRELATION_ID = "0" * 32
"""For a record without a correlation ID."""
PLAN = "plan"
"""The first step: the lock and the list of groups."""
PUBLISH = "publish"
"""The last step: merge, guards and publication; it also ends a sync that failed or was cancelled."""


def step_of(number: int) -> str:
    """The step that fetches scope ``number`` of the plan."""
    return f"fetch-{number}"


def number_of(step: str) -> int | None:
    """The inverse of :func:`step_of`; ``None`` for the first and the last step."""
    number = step.partition("-")[2]
    return int(number) if number else None


def progress_field(number: int) -> str:
    """The field of the record that holds the progress of scope ``number``."""
    return f"group:{number}"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A job with additional fields for the workers."""

    job: Job
    request: SyncRequest
    """What was requested."""
    carrier: Mapping[str, str]
    """Trace context and baggage of its steps."""
    scopes: tuple[str, ...]
    """What is fetched, one step each; empty before the plan."""
    planned: bool
    token: int | None
    refused_by: Mapping[str, Any] | None
    """Who held the lock when the plan tried to acquire it."""
    fatal: Mapping[str, Any] | None
    """The error that ends the sync."""
    created_ms: int
    deadline_ms: int | None
    """When the sync must have ended, by the clock of Redis."""

    def distributed_sync(self, attempt: str = "", elapsed: float = 0.0) -> DistributedSync:
        """The identity of the sync, for its steps."""
        return DistributedSync(
            job=self.job.id,
            correlation_id=self.job.correlation_id,
            since=self.job.created_at,
            started_at=self.job.started_at or self.job.created_at,
            token=self.token,
            record=JobKeys(self.job.id).record,
            attempt=attempt,
            elapsed=elapsed,
            refused_by=None if self.refused_by is None else LockHolder.from_json(self.refused_by),
        )


def dead_letter(
    at: datetime.datetime,
    reason: str,
    *,
    job: str | None = None,
    step: str | None = None,
    scope: str | None = None,
    starts: int = 0,
    correlation_id: str | None = None,
) -> dict[str, Any]:
    """A dead letter for a step, or for a message that names none."""
    found = {"job": job, "step": step, "scope": scope, "starts": starts}
    return {**found, "at": rfc3339(at), "correlation_id": correlation_id, "reason": reason}


def record_fields(
    request: SyncRequest, *, correlation_id: str, created_at: str, carrier: Mapping[str, str]
) -> list[str]:
    """Fields and values of a new record."""
    fields = {
        "kind": request.kind.value,
        "scope": json.dumps(request.scope),
        "force": "1" if request.force else "0",
        "trigger": request.trigger,
        "correlation_id": correlation_id,
        "created_at": created_at,
        "carrier": json.dumps(dict(carrier)),
    }
    return [part for pair in fields.items() for part in pair]


def read_record(job_id: str, raw: Mapping[bytes, bytes]) -> Record:
    """The record of a job. Raises ``CorruptEntryError`` if it is not valid."""
    try:
        return _read(job_id, {name.decode(): value.decode() for name, value in raw.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptEntryError(f"the record of job {job_id} cannot be read") from error


def shown_job(job_id: str, raw: Mapping[bytes, bytes]) -> Job:
    """The job of a record; if that cannot be read, a placeholder that says so, so that lists still work."""
    try:
        return read_record(job_id, raw).job
    except CorruptEntryError as error:
        _log.warning("%s", error)
    report = unreadable_report(raw)
    return Job(
        id=job_id,
        correlation_id=report.correlation_id,
        kind=report.kind,
        scope=None,
        force=False,
        status=JobStatus.FINISHED,
        created_at=report.started_at,
        outcome=report.outcome,
        report=report.to_json(),
    )


def unreadable_report(raw: Mapping[bytes, bytes]) -> SyncReport:
    """The report of a sync whose record cannot be read, with what can be read of it."""
    correlation_id = raw.get(b"correlation_id", b"").decode("ascii", "replace")
    error_info = ErrorInfo(
        CorruptEntryError.default.error_type,
        "permanent",
        "MEDIUM",
        "the record of this sync cannot be read; what became of it is not known",
        None,
        correlation_id if is_correlation_id(correlation_id) else NO_CORRELATION_ID,
    )
    created_ms = raw.get(b"created_ms", b"")
    created_at = rfc3339(int(created_ms[:14]) / 1000 if created_ms.isdigit() else 0.0)
    return failed_report(error_info, kind=SyncKind.FULL, scope=None, started_at=created_at)


def _read(job_id: str, fields: Mapping[str, str]) -> Record:
    scopes = _SCOPES.validate_json(fields.get("scopes", "[]"), strict=True)
    groups = []
    for number, name in enumerate(scopes):
        text = fields.get(progress_field(number))
        if text is None:
            groups.append(GroupProgress(name, "pending"))
        else:
            groups.append(_PROGRESS.validate_json(text, strict=True)._replace(name=name))
    report = json.loads(fields["report"]) if "report" in fields else None
    if report is not None and not is_report(report, partial=True):
        raise ValueError("the report has an unexpected format")
    fatal = json.loads(fields["fatal"]) if "fatal" in fields else None
    if fatal is not None:
        error_from_json(fatal)
    refused_by = json.loads(fields["refused_by"]) if fields.get("refused_by") else None
    if refused_by is not None:
        LockHolder.from_json(refused_by)
    if not is_correlation_id(fields["correlation_id"]):
        raise ValueError("no correlation ID")
    request = SyncRequest(
        kind=SyncKind(fields["kind"]),
        scope=_SCOPE.validate_json(fields["scope"], strict=True),
        force=fields["force"] == "1",
        trigger=fields["trigger"],
    )
    job = Job(
        id=job_id,
        correlation_id=fields["correlation_id"],
        kind=request.kind,
        scope=request.scope,
        force=request.force,
        status=JobStatus(fields["status"]),
        created_at=is_moment(fields["created_at"]),
        started_at=is_moment(fields["started_at"]) if "started_at" in fields else None,
        finished_at=is_moment(fields["finished_at"]) if "finished_at" in fields else None,
        outcome=Outcome(fields["outcome"]) if fields.get("outcome") else None,
        groups=tuple(groups),
        report=report,
        cancel_requested="cancel" in fields,
        trigger=request.trigger,
        ended_ms=int(fields["ended_ms"]) if "ended_ms" in fields else None,
    )
    return Record(
        job=job,
        request=request,
        carrier=_CARRIER.validate_json(fields["carrier"], strict=True),
        scopes=scopes,
        planned="missing" in fields,
        token=int(fields["token"]) if fields.get("token") else None,
        refused_by=refused_by,
        fatal=fatal,
        created_ms=int(fields["created_ms"]),
        deadline_ms=int(fields["deadline_ms"]) if "deadline_ms" in fields else None,
    )
