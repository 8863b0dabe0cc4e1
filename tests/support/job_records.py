"""Shorthand for creating jobs in the ledger."""

from __future__ import annotations

from typing import Any

from catalog_sync.domain.models import SyncRequest
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.records import PLAN, record_fields
from catalog_sync.sync.progress import GroupProgress
from catalog_sync.sync.shared.staged import Part

NOW = "2026-11-24T02:00:00.000Z"
LATER = "2026-11-24T02:01:00.000Z"
CORRELATION = "c" * 32


def job_id(number: int = 1) -> str:
    return f"{number:016x}"


def fields(**changes: Any) -> list[str]:
    return record_fields(
        SyncRequest(**changes), correlation_id=CORRELATION, created_at=NOW, carrier={"traceparent": "00-…"}
    )


async def start(ledger: JobLedger, step: str, claim: str = "me", lease: float = 30.0, job: str | None = None) -> Any:
    return await ledger.start(job or job_id(), step, claim, lease=lease, now=NOW, time_limit=900)


async def planned(ledger: JobLedger, *scopes: str, token: int | None = 7) -> str:
    """A job whose plan is done."""
    await ledger.submit(job_id(), fields())
    await start(ledger, PLAN)
    await ledger.planned(job_id(), Part(groups=scopes), scopes, token=token, refused_by=None, carrier={"a": "b"})
    return job_id()


async def finish(ledger: JobLedger, number: int, part: Part) -> tuple[bool, bool]:
    status: Any = "ok" if part.error is None else "failed"
    return await ledger.finish(job_id(), number, part, GroupProgress("g", status, part.bundles))
