"""The last syncs and failed traces: bounded, in two places, and unaffected by a bad record."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.models import ErrorInfo, Outcome, SyncReport
from catalog_sync.domain.times import rfc3339
from catalog_sync.history import KEPT, History, SyncRecord, TraceFiles
from catalog_sync.history.files import DatedFiles
from catalog_sync.history.history import MAX_AGE, REDIS_PAUSE, SYNCS
from catalog_sync.observability.traces import SpanRecord
from catalog_sync.settings.settings import Settings
from support.redis_server import RedisServer
from support.sync_reports import report

BEGAN = datetime.datetime(2026, 11, 28, 2, tzinfo=datetime.UTC)
NOW = BEGAN.timestamp()


def settings(directory: Path, **environ: str) -> Settings:
    return Settings.from_env({"CATALOG_STATE_DIR": str(directory), **environ})


def ended(number: int, outcome: Outcome = Outcome.COMPLETE, **changes: Any) -> SyncReport:
    started = rfc3339(BEGAN + datetime.timedelta(minutes=number))
    plain = report(outcome, correlation_id=f"{number + 1:032x}", started_at=started, trigger="cli")
    return dataclasses.replace(plain, **changes)


def kept(history: History) -> list[str]:
    return [record.correlation_id for record in history.latest().syncs]


def span(number: int, trace: int = 1, **changes: Any) -> SpanRecord:
    values: dict[str, Any] = {
        "trace_id": f"{trace:032x}", "span_id": f"{number:016x}", "parent_id": None, "name": f"span {number}",
        "kind": "INTERNAL", "service": "catalog-sync", "start": float(number), "end": number + 0.5, "status": "error",
        "message": None, "attributes": {},
    }  # fmt: skip
    return SpanRecord(**{**values, **changes})


def test_a_record_says_who_what_when_and_why(tmp_path: Path) -> None:
    error = ErrorInfo("503", "transient", "MEDIUM", "not well", 12.5, f"{1:032x}")
    with History(settings(tmp_path), "catalog-sync") as history:
        history.sync_ended(ended(0, Outcome.FAILED, error=error, duration_s=2.5))
    with History(settings(tmp_path), "catalog-api") as history:
        [record] = history.latest().syncs
    assert record.failed
    line = record.line()
    assert (line["trigger"], line["process"], line["outcome"]) == ("cli", "catalog-sync", "FAILED")
    assert (line["started_at"], line["ended_at"]) == ("2026-11-28T02:00:00.000Z", "2026-11-28T02:00:02.500Z")
    assert line["error"] == error.to_json()


def test_one_report_is_listed_once_and_bad_records_are_left_out(tmp_path: Path) -> None:
    with History(settings(tmp_path), "catalog-sync") as history:
        for number in (0, 1, 1):
            history.sync_ended(ended(number))
    folder = tmp_path / "syncs"
    for name, text in {"9-a": "{", "9-b": "[]", "9-c": '{"outcome": "MAYBE"}', "9-d": "[" * 100_000}.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "9-e.json").write_bytes(b"\xff")
    with History(settings(tmp_path), "catalog-sync") as history:
        assert kept(history) == [f"{2:032x}", f"{1:032x}"]


def test_number_age_and_bytes_are_bounded(tmp_path: Path) -> None:
    files = DatedFiles(tmp_path / "x", most=3, age=100.0, total=1000)
    for at in range(5):
        files.write(NOW + at, f"n{at}", {})
    assert [name.partition("-")[2] for name in files.names()] == ["n4.json", "n3.json", "n2.json"]
    files.write(NOW + 103, "later", {})
    assert [name.partition("-")[2] for name in files.names()] == ["later.json", "n4.json", "n3.json"]
    files.write(NOW + 104, "large", {"text": "x" * 990})
    assert not list(files.names())


def test_redis_keeps_them_for_all_and_bounds_them(tmp_path: Path, redis_server: RedisServer) -> None:
    now = NOW
    shared = settings(tmp_path / "one", REDIS_URL=redis_server.url)
    with History(shared, "catalog-worker", wall_clock=lambda: now) as history:
        for number in range(KEPT + 2):
            now += 1
            history._keep(ended(number))
        redis_server.command("ZADD", SYNCS, str(now), "no record")
        found = history.latest(3)
        assert [record.correlation_id for record in found.syncs] == [f"{KEPT + 2:032x}", f"{KEPT + 1:032x}"]
        assert found.complete
        now += MAX_AGE
        history._keep(ended(KEPT + 2))
    assert not (tmp_path / "one" / "syncs").exists()
    with History(settings(tmp_path / "two", REDIS_URL=redis_server.url), "catalog-api") as elsewhere:
        assert kept(elsewhere) == [f"{KEPT + 3:032x}"]


async def test_what_redis_does_not_take_is_kept_in_the_state_folder(tmp_path: Path, redis_server: RedisServer) -> None:
    both = settings(tmp_path / "state", REDIS_URL=redis_server.url)
    with History(both, "catalog-sync") as history:
        history.sync_ended(ended(0))
    redis_server.kill()
    with History(both, "catalog-sync") as history:
        history.sync_ended(ended(1, Outcome.LOCK_UNAVAILABLE))
        history.keep_trace([span(1)])
    with History(both, "catalog-sync") as history:
        found = history.latest()
        assert [record.correlation_id for record in found.syncs] == [f"{2:032x}"]
        assert not found.complete
        assert [each.span_id for each in await history.traces.get(f"{1:032x}")] == [f"{1:016x}"]


class SilentRedis:
    """Counts its commands."""

    def __init__(self) -> None:
        self.asked = 0

    def _ask(self, *_: Any) -> Any:
        self.asked += 1
        raise TimeoutError

    zrevrange = hgetall = transaction = _ask

    def close(self) -> None:
        """Nothing to close."""


def test_a_redis_that_did_not_answer_is_not_asked_again_at_once(tmp_path: Path) -> None:
    now, silent = 0.0, SilentRedis()
    both = settings(tmp_path, REDIS_URL="redis://127.0.0.1:9/0")
    with History(both, "catalog-sync", clock=lambda: now) as history:
        history._redis = silent
        assert not history.latest().complete
        assert not history.days().complete
        history._keep(ended(0))
        assert silent.asked == 1
        assert kept(history) == [f"{1:032x}"]
        now = REDIS_PAUSE
        assert not history.latest().complete
        assert silent.asked == 2


def test_a_disk_that_takes_nothing_is_logged_and_nothing_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with History(settings(tmp_path / "file" / "state"), "catalog-sync") as history:
        history.sync_ended(ended(0))
        history.keep_trace([span(1)])
    assert [line.levelname for line in caplog.records] == ["ERROR", "ERROR"]


async def test_traces_in_files_are_found_and_listed(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path)
    files.write([span(2), span(1)])
    files.write([span(5, trace=2)])
    (tmp_path / "traces" / f"9-{3:032x}.json").write_text('{"spans": [{}]}')
    assert [found.span_id for found in await files.get(f"{1:032x}")] == [f"{1:016x}", f"{2:016x}"]
    assert [summary.trace_id for summary in await files.failed()] == [f"{2:032x}", f"{1:032x}"]
    assert await files.get(f"{3:032x}") == []
    assert await files.get("../../etc/passwd") == []


def test_a_record_is_read_as_it_was_written() -> None:
    record = SyncRecord.of(ended(3, Outcome.PARTIAL), "catalog-worker")
    assert SyncRecord.from_json(record.to_json()) == record
