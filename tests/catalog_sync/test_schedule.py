"""When a sync is due: by age with a constant jitter, never because something is unknown, never during a pause."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from catalog_sync.domain.models import CatalogueMeta, ErrorInfo, GroupReport, Outcome, SyncKind, SyncReport
from catalog_sync.domain.schedule import JITTER, LONGEST_PAUSE, UNREADABLE, Due, Pause, decide, pause_after

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
HOUR = 3600.0


def published(age: float, version: str = "v1") -> CatalogueMeta:
    as_of = (NOW - datetime.timedelta(seconds=age)).isoformat()
    return CatalogueMeta(version, as_of, 10, "", {}, 1, "c" * 32, SyncKind.FULL, None)


def after(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def test_nothing_published_is_due() -> None:
    assert decide(None, NOW, every=HOUR) == Due(due=True, reason="never_synced")


@pytest.mark.fault("S3")
def test_a_damaged_catalogue_is_due_but_not_while_the_supplier_wants_to_be_left_alone() -> None:
    assert decide(None, NOW, every=HOUR, damaged=True) == Due(due=True, reason="damaged")
    assert not decide(None, NOW, every=HOUR, damaged=True, pause=Pause(90)).due


def test_an_old_catalogue_is_due_and_a_young_one_is_not() -> None:
    assert decide(published(HOUR), NOW, every=HOUR) == Due(due=True, reason="old")
    young = decide(published(HOUR * (1 - JITTER) - 1), NOW, every=HOUR)
    assert not young.due
    assert young.reason == "young"
    assert young.next_due_at is not None
    assert NOW < young.next_due_at <= after(HOUR * JITTER + 1)


@pytest.mark.fault("S5")
@pytest.mark.parametrize("seconds", [60.0, 86_400.0, 10 * 365 * 86_400.0])
def test_a_catalogue_from_the_future_is_due(seconds: float) -> None:
    assert decide(published(-seconds), NOW, every=HOUR) == Due(due=True, reason="future")
    assert not decide(published(-seconds), NOW, every=HOUR, pause=Pause(90)).due


def test_the_clock_of_another_machine_may_be_a_little_ahead() -> None:
    assert decide(published(-10), NOW, every=HOUR).reason == "young"


def test_the_jitter_stays_until_the_next_publication_and_spreads_installations() -> None:
    moments = {decide(published(0, version), NOW, every=HOUR, place="a").next_due_at for version in "abcdefgh"}
    assert len(moments) == 8
    assert all(after(HOUR * (1 - JITTER)) <= moment <= after(HOUR) for moment in moments if moment is not None)
    first, again = (decide(published(0), NOW, every=HOUR, place="a").next_due_at for _ in range(2))
    assert first == again
    assert first != decide(published(0), NOW, every=HOUR, place="b").next_due_at


@pytest.mark.parametrize("meta", [None, published(10 * HOUR)], ids=["nothing published", "old"])
def test_a_supplier_that_asked_for_time_is_left_alone(meta: CatalogueMeta | None) -> None:
    found = decide(meta, NOW, every=HOUR, pause=Pause(90))
    assert found == Due(due=False, reason="paused", next_due_at=after(90))


def test_the_later_of_age_and_pause_counts() -> None:
    assert decide(published(0), NOW, every=HOUR, pause=Pause(1e5)).next_due_at == after(1e5)
    assert decide(published(0), NOW, every=HOUR, pause=Pause(1)).next_due_at != after(1)


@pytest.mark.parametrize(
    ("served", "left"),
    [(None, 90), (-700.0, 90), (-500.0, 0), (20.0, 0), (HOUR, 90)],
    ids=["never", "before it was asked for", "since it was asked for", "a clock a little ahead", "a wrong clock"],
)
def test_a_complete_sync_ends_the_pause_that_was_asked_for_before_it(served: float | None, left: float) -> None:
    last_full_sync = None if served is None else after(served).isoformat()
    pause = Pause(90, asked_ago=600)
    assert pause.left_after(last_full_sync, NOW) == left
    meta = dataclasses.replace(published(10 * HOUR), last_full_sync=last_full_sync)
    assert decide(meta, NOW, every=HOUR, pause=pause).reason == ("paused" if left else "old")
    assert decide(None, NOW, every=HOUR, pause=pause).reason == "paused"


def test_what_cannot_be_read_is_not_due() -> None:
    assert UNREADABLE.to_json() == {"outcome": None, "due": False, "reason": "unreadable", "next_due_at": None}


def test_the_json_of_a_run_that_is_not_due() -> None:
    assert decide(published(HOUR), NOW, every=HOUR, pause=Pause(60)).to_json() == {
        "outcome": None,
        "due": False,
        "reason": "paused",
        "next_due_at": "2026-11-24T12:01:00.000Z",
    }


def error(kind: str, retry_after: float | None) -> ErrorInfo:
    return ErrorInfo(kind, "throttled", "MEDIUM", "wait", retry_after, "c" * 32)


REPORT = SyncReport(
    Outcome.FAILED, SyncKind.FULL, None, "c" * 32, None, 0, 0, (), "2026-11-24T12:00:00Z", 1.0, attempts=1, retries=0
)


def test_the_longest_wait_that_the_supplier_asked_for_moves_the_next_start() -> None:
    groups = (
        GroupReport("a", "failed", 0, error("503", 30.0)),
        GroupReport("b", "failed", 0, error("429", 700.0)),
        GroupReport("c", "ok", 5),
    )
    assert pause_after(REPORT) == 0
    assert pause_after(dataclasses.replace(REPORT, error=error("429", 86.0))) == 86
    assert pause_after(dataclasses.replace(REPORT, error=error("429", None))) == 0
    assert pause_after(dataclasses.replace(REPORT, groups=groups)) == 700
    assert pause_after(dataclasses.replace(REPORT, groups=groups, error=error("429", 1e12))) == LONGEST_PAUSE


def test_a_circuit_of_our_own_moves_nothing() -> None:
    assert pause_after(dataclasses.replace(REPORT, error=error("circuit_open", 60.0))) == 0
