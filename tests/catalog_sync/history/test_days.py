"""The summaries of days: ninety of them at any interval of syncs, in a few kilobytes, even if some are damaged."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.api.pages.chart import chart, days
from catalog_sync.domain.models import Outcome, SyncKind, SyncReport
from catalog_sync.domain.times import rfc3339
from catalog_sync.history import DAYS, KEPT, DaySummary, History
from catalog_sync.history.history import SYNC_DAYS, SYNCS
from catalog_sync.settings.settings import Settings
from support.redis_server import RedisServer
from support.sync_reports import report

END = dt.datetime(2026, 11, 28, 22, tzinfo=dt.UTC).timestamp()
DAY = 86_400.0
HOUR = 3600.0


def settings(directory: Path, **environ: str) -> Settings:
    return Settings.from_env({"CATALOG_STATE_DIR": str(directory), **environ})


def ended(at: float, outcome: Outcome = Outcome.COMPLETE, seconds: float = 2.0, **changes: Any) -> SyncReport:
    """A sync that ended at this time."""
    plain = report(
        outcome,
        correlation_id=f"{int(at * 1000):032x}",
        started_at=rfc3339(at - seconds),
        duration_s=seconds,
        trigger="cli",
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(params=["Redis", "files"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings under which the history is kept in one of its places."""
    if request.param == "files":
        yield settings(tmp_path / "state")
        return
    with RedisServer(tmp_path / "redis") as server:
        yield settings(tmp_path / "state", REDIS_URL=server.url)


def test_ninety_days_of_a_sync_every_hour_are_shown(tmp_path: Path, redis_server: RedisServer) -> None:
    """Of 2,160 syncs the last 500 are kept whole; the chart has all of them, in less than 32 kB of Redis."""
    clock = [END - DAYS * DAY]
    shared = settings(tmp_path, REDIS_URL=redis_server.url)
    number = 0
    with History(shared, "catalog-worker", wall_clock=lambda: clock[0]) as history:
        while clock[0] < END - HOUR:
            clock[0] += HOUR
            number += 1
            outcome = Outcome.FAILED if number % 24 < 6 else Outcome.COMPLETE  # six hours of each day
            history._keep(ended(clock[0], outcome, 60.0 if number % 24 == 12 else 2.0))
        found = history.days()
        kept = history.latest(10_000).syncs
    assert len(kept) == KEPT
    shown = days(found.days, END)
    # Of the first and the last day a part lies outside.
    whole = shown[1:-1]
    assert {day.count for day in whole} == {24}
    assert {(day.good, day.failed) for day in whole} == {(18, 6)}
    assert {day.longest for day in whole} == {60.0}
    assert {round(day.oldest or 0) for day in whole[1:]} == {7 * HOUR}
    assert sum(day.count for day in shown) > number - 24
    assert redis_server.command("HLEN", SYNC_DAYS) in (DAYS, DAYS + 1)
    assert int(redis_server.command("MEMORY", "USAGE", SYNC_DAYS, "SAMPLES", "0")) < 32_000
    assert f"{sum(day.count for day in shown):,} syncs in 90 days" in chart(found.days, END, stale_after=DAY)


def test_a_day_has_outcomes_durations_and_the_greatest_age(place: Settings) -> None:
    with History(place, "catalog-sync", wall_clock=lambda: END) as history:
        midnight = END - 22 * 3600
        for at, outcome in (
            (midnight - 3600, Outcome.PARTIAL), (midnight + 3600, Outcome.COMPLETE), (midnight + 7200, Outcome.FAILED),
            (midnight + 36_000, Outcome.COMPLETE), (midnight + 36_060, Outcome.SKIPPED_LOCKED),
        ):  # fmt: skip
            history._keep(ended(at, outcome, 4.0))
        history._keep(ended(midnight + 50_000, seconds=10.0, kind=SyncKind.COUNTRY, scope="PT"))
        found = history.days()
    assert found.complete
    *_, before, today = days(found.days, END)
    assert before.partial == 1
    assert before.oldest == pytest.approx(3600)
    assert (today.good, today.partial, today.failed) == (4, 0, 1)
    assert today.longest == 10.0
    assert today.mean == pytest.approx((4 * 4 + 10) / 5)
    assert today.oldest == pytest.approx(END - (midnight + 36_000))  # a part of the catalogue does not renew it


def test_a_sync_that_is_reported_twice_is_counted_once(place: Settings) -> None:
    with History(place, "catalog-worker", wall_clock=lambda: END) as history:
        history._keep(ended(END - 60))
        history._keep(ended(END - 60, attempts=9))  # by another process, which saw more
        history._keep(ended(END - 50))
        [day] = history.days().days.values()
    assert day.count == 2


def test_damage_is_logged_costs_one_day_and_is_mended_from_the_records(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    shared = settings(tmp_path, REDIS_URL=redis_server.url)
    with History(shared, "catalog-sync", wall_clock=lambda: END) as history:
        for back in (3, 2, 1):
            history._keep(ended(END - back * DAY))
        dates = sorted(history.days().days)
        for date, text in zip(
            dates, ('{"date": 1}', "{", '{"date": "2026-11-27", "outcomes": {"COMPLETE": -5}}'), strict=True
        ):
            redis_server.command("HSET", SYNC_DAYS, date, text)
        redis_server.command("HSET", SYNC_DAYS, "not a date", "x" * 1000)
        redis_server.command("HSET", SYNC_DAYS, "2026-11-20", json.dumps(DaySummary("2026-11-19", {}).to_json()))
        assert [day.count for _, day in sorted(history.days().days.items())] == [1, 1, 1]
        assert sum("the summary of a day cannot be read" in line.message for line in caplog.records) == 5
        history._keep(ended(END - DAY + 1))
        found = history.days().days
        assert found[dates[-1]].count == 2
        assert redis_server.command("HEXISTS", SYNC_DAYS, "not a date") == 0
        redis_server.command("DEL", SYNC_DAYS)
        redis_server.command("SET", SYNC_DAYS, "of another kind")
        assert not history.days().complete
        history._keep(ended(END))
        assert sum(day.count for day in history.days().days.values()) == 5
    assert not (tmp_path / "syncs").exists()  # Redis took them all


@pytest.mark.parametrize("text", ["{", "[]", '{"2026-11-28": 5}', "[" * 100_000, '"x"', "\udcff"])
def test_so_it_is_in_the_state_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "sync-days.json").write_text(text, "utf-8", "surrogateescape")
    with History(settings(tmp_path), "catalog-sync", wall_clock=lambda: END) as history:
        history._keep(ended(END))
        [day] = history.days().days.values()
    assert day.count == 1


def test_days_that_are_too_old_or_far_ahead_go(place: Settings) -> None:
    clock = [END]
    with History(place, "catalog-sync", wall_clock=lambda: clock[0]) as history:
        history._keep(ended(END))
        history._keep(ended(END + 30 * DAY))  # by a clock that was wrong
        clock[0] = END + (DAYS - 1) * DAY
        history._keep(ended(clock[0]))
        assert len(history._days.read() or history._redis.hgetall(SYNC_DAYS)) == 2
        clock[0] += DAY
        history._keep(ended(clock[0]))
        assert len(history._days.read() or history._redis.hgetall(SYNC_DAYS)) == 2


def test_several_processes_count_every_sync(place: Settings) -> None:
    def work(number: int) -> None:
        with History(place, f"worker-{number}", wall_clock=lambda: END) as history:
            for step in range(10):
                history._keep(ended(END - 1000 + number * 100 + step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with History(place, "catalog-api", wall_clock=lambda: END) as history:
        [day] = (history._days.read() if history._redis is None else history.days().days).values()
    assert day.count == 40


def test_what_was_kept_before_days_were_is_shown_too(tmp_path: Path, redis_server: RedisServer) -> None:
    shared = settings(tmp_path, REDIS_URL=redis_server.url)
    with History(shared, "catalog-sync", wall_clock=lambda: END) as history:
        for minutes in range(5):
            history._keep(ended(END - DAY + 60 * minutes))
        redis_server.command("DEL", SYNC_DAYS)
        history._keep(ended(END - DAY + 600))
        [day] = history.days().days.values()
        assert day.count == 6
        redis_server.command("DEL", SYNCS)
        [day] = history.days().days.values()
        assert day.count == 1


def test_redis_and_the_state_folder_are_added_up(tmp_path: Path, redis_server: RedisServer) -> None:
    shared = settings(tmp_path, REDIS_URL=redis_server.url)
    with History(shared, "catalog-sync", wall_clock=lambda: END) as history:
        history._keep(ended(END - 100))
    redis_server.kill()
    with History(shared, "catalog-sync", wall_clock=lambda: END) as history:
        history._keep(ended(END, Outcome.LOCK_UNAVAILABLE))
        found = history.days()
    assert not found.complete
    redis_server.start()
    with History(shared, "catalog-sync", wall_clock=lambda: END) as history:
        found = history.days()
    assert found.days["2026-11-28"].outcomes[Outcome.LOCK_UNAVAILABLE] == 1
