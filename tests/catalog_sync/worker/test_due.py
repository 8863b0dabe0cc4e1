"""A full sync is due by age, with jitter; what cannot be read and what was just tried is not."""

from __future__ import annotations

import datetime
from typing import Any

from catalog_sync.index import CatalogueIndex
from catalog_sync.jobs import Job, JobStatus
from catalog_sync.models import SyncKind
from catalog_sync.worker.due import JITTER, due_at
from support.published import AS_OF, make_meta

EVERY = 86_400.0
SYNCED = datetime.datetime.fromisoformat(AS_OF)


def after(seconds: float) -> datetime.datetime:
    return SYNCED + datetime.timedelta(seconds=seconds)


def job(finished: float, kind: SyncKind = SyncKind.FULL) -> Job:
    at = after(finished).isoformat()
    scope = None if kind is SyncKind.FULL else "A"
    return Job("a" * 16, "c" * 32, kind, scope, False, JobStatus.FINISHED, at, at, at)


def due(now: float, version: str = "v1", jobs: Any = ()) -> bool:
    return due_at(make_meta(version, CatalogueIndex()), jobs, EVERY, after(now)) <= after(now)


def test_a_catalogue_is_due_at_its_age_and_a_little_later_not_earlier() -> None:
    assert not due(EVERY - 1)
    assert due(EVERY * (1 + JITTER))


def test_the_jitter_differs_between_versions_and_not_between_questions() -> None:
    meta = [make_meta(f"v{number}", CatalogueIndex()) for number in range(100)]
    times = [due_at(one, (), EVERY, after(0)) for one in meta]
    assert times == [due_at(one, (), EVERY, after(50)) for one in meta]
    assert all(after(EVERY) <= time < after(EVERY * (1 + JITTER)) for time in times)
    assert max(times) - min(times) > datetime.timedelta(seconds=EVERY * JITTER / 2)


def test_where_nothing_was_published_a_sync_is_due_at_once() -> None:
    assert due_at(None, (), EVERY, after(0)) == after(0)


def test_a_sync_that_did_not_complete_is_not_tried_again_at_once() -> None:
    late = EVERY * 2
    assert not due(late + 60, jobs=[job(late)])
    assert due(late + EVERY / 24, jobs=[job(late)])


def test_syncs_of_a_part_delay_nothing() -> None:
    assert due(EVERY * 2, jobs=[job(EVERY * 2, SyncKind.GROUP)])
