"""The job record and the port through which syncs are requested, watched and cancelled."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from catalog_sync.domain.errors import CatalogSyncError, permanent
from catalog_sync.domain.models import Outcome, SyncKind, SyncRequest
from catalog_sync.sync.progress import GroupProgress
from otel_resilience import Severity


class JobStatus(StrEnum):
    """The state of a job. A cancelled one is finished too, but nothing of it was published."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to the job any more."""
        return self in {JobStatus.FINISHED, JobStatus.CANCELLED}


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One requested sync. Times are RFC 3339, UTC."""

    id: str
    correlation_id: str
    """The trace ID of the request, and so of everything that was done for it."""
    kind: SyncKind
    scope: str | None
    force: bool
    status: JobStatus
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    outcome: Outcome | None = None
    groups: tuple[GroupProgress, ...] = ()
    """Empty until the groups are known."""
    report: Mapping[str, Any] | None = None
    """The object of ``catalog-sync run --json``, once finished."""
    cancel_requested: bool = False
    trigger: str | None = None
    """Who asked, as in ``SyncRequest``; ``None`` if unknown."""
    ended_ms: int | None = None
    """When it ended, in milliseconds since the epoch, by the clock of Redis (the times above are by the clocks of
    several machines); ``None`` if unknown."""

    def to_json(self) -> dict[str, Any]:
        """The object of ``GET /syncs/{id}``, without links."""
        done = sum(group.status not in {"pending", "running"} for group in self.groups)
        return {
            "id": self.id,
            "correlation_id": self.correlation_id,
            "kind": self.kind.value,
            "scope": self.scope,
            "force": self.force,
            "trigger": self.trigger,
            "status": self.status.value,
            "outcome": self.outcome.value if self.outcome else None,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "cancel_requested": self.cancel_requested,
            "progress": {
                "groups_done": done,
                "groups_total": len(self.groups),
                "groups": [group._asdict() for group in self.groups],
            },
            "report": dict(self.report) if self.report is not None else None,
        }


class JobConflictError(CatalogSyncError, default=permanent("sync_conflict", Severity.LOW)):
    """A sync is already running; ``running`` is its job."""

    def __init__(self, running: Job) -> None:
        super().__init__(f"sync {running.id} is {running.status.value}", context={"conflict": running.id})
        self.running = running


class JobNotFoundError(CatalogSyncError, default=permanent("job_not_found", Severity.LOW)):
    """No job with this ID is known, or no longer."""


class JobAbandonedError(CatalogSyncError, default=permanent("job_abandoned")):
    """No worker will finish the job any more."""


class PoisonedStepError(CatalogSyncError, default=permanent("job_poisoned")):
    """A step of a job was started again and again without finishing: it is set aside as a dead letter."""


class Sender(Protocol):
    """Sends the steps of jobs to workers. A message that cannot be sent is not an error: the sweep sends it later."""

    async def send(self, job_id: str, step: str, carrier: Mapping[str, str] | None = None, *, every: float = 0) -> None:
        """Sends one step (see :mod:`catalog_sync.jobs.records`) unless it was sent within the last ``every`` seconds.

        ``carrier`` is the trace context that it belongs to, ``None`` for the current one.
        """
        ...

    async def waiting(self) -> int:
        """Messages that no worker has taken."""
        ...


class Jobs(Protocol):
    """Requests syncs and watches them. Every method raises ``CacheConnectionError`` if the records are unavailable."""

    async def submit(self, request: SyncRequest) -> Job:
        """Requests a sync; the current trace context becomes the parent of everything that is done for it.

        Single flight: raises :class:`JobConflictError` while another job is queued or running.
        """
        ...

    async def get(self, job_id: str) -> Job:
        """One job. Raises :class:`JobNotFoundError`."""
        ...

    async def latest(self, *, limit: int = 50, offset: int = 0) -> Sequence[Job]:
        """The last jobs, newest first; ended ones are kept for a limited time and number."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Requests that the job stops; one that has ended is not changed. Raises :class:`JobNotFoundError`."""
        ...

    def changes(self) -> AsyncIterator[Job]:
        """Every job that changes from now on, on each change; memory is bounded, so slow readers miss some."""
        ...
