"""The content of a job's record in Redis, and how a damaged one is handled."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

import pytest

from catalog_sync.domain.errors import RateLimitError
from catalog_sync.domain.models import LockHolder, Outcome, SyncKind, SyncRequest
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.port import Job, JobStatus
from catalog_sync.jobs.records import (
    NO_CORRELATION_ID,
    PLAN,
    PUBLISH,
    dead_letter,
    number_of,
    progress_field,
    read_record,
    record_fields,
    shown_job,
    step_of,
)
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.sync.progress import GroupProgress
from catalog_sync.sync.shared.distributed import DistributedSync
from catalog_sync.sync.shared.failures import error_from_json, error_to_json
from support.job_records import CORRELATION, LATER, NOW, job_id

HOLDER = LockHolder("pid 7 on host", NOW, 12.5, CORRELATION)
REPORT = {"outcome": "COMPLETE", "kind": "group", "started_at": NOW, "correlation_id": CORRELATION}
REQUEST = SyncRequest(SyncKind.GROUP, "Standard Fixed", force=True, trigger="api")
EARLY = {"status": "queued", "created_ms": "1795485600000"}
LATE = {
    "status": "finished",
    "created_ms": "1795485600000",
    "deadline_ms": "1795486500000",
    "started_at": NOW,
    "finished_at": LATER,
    "outcome": "COMPLETE",
    "scopes": '["a", "b", "c"]',
    "missing": "0",
    "token": "7",
    "cancel": "1",
    "group:0": json.dumps(GroupProgress("a", "ok", 12)),
    "group:1": json.dumps(GroupProgress("b", "failed", 0, {"type": "timeout"})),
    "report": json.dumps(REPORT),
    "refused_by": json.dumps(HOLDER.to_json()),
    "fatal": json.dumps(error_to_json(RateLimitError("slower", retry_after=30.0))),
}


def raw(more: dict[str, str], request: SyncRequest = REQUEST, **changes: str | None) -> dict[bytes, bytes]:
    """A record as Redis answers; a field that is ``None`` is not there."""
    flat = record_fields(request, correlation_id=CORRELATION, created_at=NOW, carrier={"traceparent": "00-…"})
    fields = {**dict(zip(flat[::2], flat[1::2], strict=True)), **more, **changes}
    return {name.encode(): value.encode() for name, value in fields.items() if value is not None}


class TestARecord:
    def test_of_a_new_job_is_what_was_asked_for(self) -> None:
        record = read_record(job_id(), raw(EARLY))
        assert record.job == Job(
            id=job_id(),
            correlation_id=CORRELATION,
            kind=SyncKind.GROUP,
            scope="Standard Fixed",
            force=True,
            status=JobStatus.QUEUED,
            created_at=NOW,
            trigger="api",
        )
        assert record.request == REQUEST
        assert (record.carrier, record.created_ms) == ({"traceparent": "00-…"}, 1795485600000)
        assert (record.scopes, record.planned, record.token) == ((), False, None)
        assert (record.refused_by, record.fatal, record.deadline_ms) == (None, None, None)

    def test_of_a_full_sync_has_no_scope_and_no_force(self) -> None:
        record = read_record(job_id(), raw(EARLY, SyncRequest()))
        assert record.request == SyncRequest(SyncKind.FULL, None, force=False, trigger="cli")

    def test_of_one_that_ended_says_how(self) -> None:
        record = read_record(job_id(), raw(LATE))
        job = record.job
        assert (job.status, job.started_at, job.finished_at, job.outcome) == (
            JobStatus.FINISHED, NOW, LATER, Outcome.COMPLETE,
        )  # fmt: skip
        assert (job.cancel_requested, job.report) == (True, REPORT)
        assert job.groups == (
            GroupProgress("a", "ok", 12),
            GroupProgress("b", "failed", 0, {"type": "timeout"}),
            GroupProgress("c", "pending"),
        )
        assert (record.scopes, record.planned, record.token) == (("a", "b", "c"), True, 7)
        assert record.deadline_ms == 1795486500000
        assert record.refused_by == HOLDER.to_json()
        assert record.fatal is not None
        assert record.fatal["message"] == "slower"

    def test_shows_a_group_by_its_name_in_the_plan(self) -> None:
        found = read_record(job_id(), raw({**LATE, "group:0": json.dumps(GroupProgress("else", "ok", 1))}))
        assert found.job.groups[0] == GroupProgress("a", "ok", 1)

    def test_may_have_empty_fields_where_nothing_is_known(self) -> None:
        found = read_record(job_id(), raw(LATE, token="", outcome="", refused_by=""))
        assert (found.token, found.job.outcome, found.refused_by) == (None, None, None)

    def test_is_the_identity_of_the_sync_for_its_steps(self) -> None:
        assert read_record(job_id(), raw(LATE, started_at=LATER)).distributed_sync("2") == DistributedSync(
            job=job_id(),
            correlation_id=CORRELATION,
            since=NOW,
            started_at=LATER,
            token=7,
            attempt="2",
            refused_by=HOLDER,
            record=JobKeys(job_id()).record,
        )
        waiting = read_record(job_id(), raw(EARLY)).distributed_sync()
        assert (waiting.started_at, waiting.token, waiting.attempt, waiting.refused_by) == (NOW, None, "", None)

    def test_is_stored_as_texts(self) -> None:
        stored = {"kind": "full", "scope": "null", "force": "0", "trigger": "cli", "correlation_id": CORRELATION,
                  "created_at": NOW, "carrier": '{"a": "b"}'}  # fmt: skip
        flat = record_fields(SyncRequest(), correlation_id=CORRELATION, created_at=NOW, carrier={"a": "b"})
        assert dict(zip(flat[::2], flat[1::2], strict=True)) == stored

    def test_names_its_steps_and_their_progress(self) -> None:
        assert (step_of(3), progress_field(3)) == ("fetch-3", "group:3")
        assert [number_of(step) for step in (PLAN, step_of(0), step_of(12), PUBLISH)] == [None, 0, 12, None]

    def test_keeps_the_progress_of_a_group(self) -> None:
        assert json.loads(json.dumps(GroupProgress("a", "ok", 12))) == ["a", "ok", 12, None]
        failed = GroupProgress("a", "failed", 0, {"type": "timeout"})
        assert json.loads(json.dumps(failed)) == ["a", "failed", 0, {"type": "timeout"}]

    def test_may_have_been_written_by_a_newer_version(self) -> None:
        """While an upgrade goes on, workers of both versions do one sync; to end it would be to lose it."""
        group = {"name": "a", "status": "ok", "bundles": 12, "error": None}
        objects = {
            "report": {**REPORT, "groups": [{**group, "of a newer version": 1}], "of a newer version": 1},
            "refused_by": {**HOLDER.to_json(), "of a newer version": 1},
            "fatal": _with_more(error_to_json(RateLimitError("slower", retry_after=30.0))),
        }
        fields = {name: json.dumps(found) for name, found in objects.items()}
        record = read_record(job_id(), raw({**LATE, **fields, "of a newer version": "1"}))
        assert record.distributed_sync().refused_by == HOLDER
        assert record.job.report == objects["report"]
        assert record.fatal is not None
        assert error_from_json(record.fatal).retry_after == 30.0


def _with_more(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {name: _with_more(value) for name, value in data.items()} | {"of a newer version": 1}


DAMAGE: dict[str, Any] = {
    **{f"no {name}": {name: None} for name in ("kind", "scope", "force", "trigger", "correlation_id", "created_at",
                                               "carrier", "status", "created_ms")},
    "kind": {"kind": "half"},
    "kind and scope": {"kind": "full"},
    "scope": {"scope": "5"},
    "scopes": {"scopes": "[1]"},
    "status": {"status": "lost"},
    "correlation ID": {"correlation_id": "c"},
    "creation": {"created_at": "yesterday"},
    "start": {"started_at": "yesterday"},
    "finish": {"finished_at": "yesterday"},
    "outcome": {"outcome": "splendid"},
    "carrier": {"carrier": '{"a": 1}'},
    "progress": {"group:0": '["a", "ok", "many", null]'},
    "progress as text": {"group:0": '["a", "ok", "12", null]'},
    "progress of no known status": {"group:0": '["a", "lost", 1, null]'},
    "report": {"report": "{}x"},
    "report of another form": {"report": '{"groups": 5}'},
    "fatal error": {"fatal": "{}"},
    "holder of the lock": {"refused_by": '{"owner": 5}'},
    "token": {"token": "seven"},
    "deadline": {"deadline_ms": "soon"},
    "creation in ms": {"created_ms": "soon"},
    "end in ms": {"ended_ms": "soon"},
}  # fmt: skip


class TestADamagedRecord:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_is_refused_by_the_name_of_its_job(self, damage: dict[str, str | None]) -> None:
        with pytest.raises(CorruptEntryError, match=f"^the record of job {job_id()} cannot be read"):
            read_record(job_id(), raw({**LATE, **damage}))  # type: ignore[dict-item]

    def test_says_what_is_wrong_with_it(self) -> None:
        for damage, cause in (({"correlation_id": "c"}, "no correlation ID"),
                              ({"report": '{"groups": 5}'}, "the report has an unexpected format")):  # fmt: skip
            with pytest.raises(CorruptEntryError) as caught:
                read_record(job_id(), raw({**LATE, **damage}))
            assert str(caught.value.__cause__) == cause

    def test_of_no_text_is_refused(self) -> None:
        with pytest.raises(CorruptEntryError):
            read_record(job_id(), {**raw(EARLY), b"trigger": b"\xff"})

    def test_is_shown_as_a_job_of_which_nothing_is_known(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            job = shown_job(job_id(), raw(LATE, kind="half"))
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith(f"the record of job {job_id()} cannot be read")
        assert (job.id, job.correlation_id, job.created_at) == (job_id(), CORRELATION, "2026-11-24T02:00:00.000Z")
        assert (job.kind, job.scope, job.force, job.status, job.outcome) == (
            SyncKind.FULL, None, False, JobStatus.FINISHED, Outcome.FAILED,
        )  # fmt: skip
        assert job.report is not None
        error = job.report["error"]
        assert error["message"] == "the record of this sync cannot be read; what became of it is not known"
        assert (error["type"], error["class"], error["severity"], error["correlation_id"]) == (
            CorruptEntryError.default.error_type, "permanent", "MEDIUM", CORRELATION,
        )  # fmt: skip

    @pytest.mark.parametrize("correlation_id", [b"", b"c", b"\xff" * 32])
    def test_without_a_correlation_id_has_none(self, correlation_id: bytes) -> None:
        assert shown_job(job_id(), {b"correlation_id": correlation_id}).correlation_id == NO_CORRELATION_ID

    @pytest.mark.parametrize(
        ("created_ms", "shown"),
        [
            (b"", "1970-01-01T00:00:00.000Z"),
            (b"soon", "1970-01-01T00:00:00.000Z"),
            (b"1795485600123", "2026-11-24T02:00:00.123Z"),
            (b"17954856001234" + b"9" * 90, "2538-12-19T20:00:01.234Z"),
        ],
    )
    def test_was_created_when_it_says_so(self, created_ms: bytes, shown: str) -> None:
        assert shown_job(job_id(), {b"created_ms": created_ms}).created_at == shown

    def test_that_can_be_read_is_shown_as_it_is(self) -> None:
        assert shown_job(job_id(), raw(LATE)) == read_record(job_id(), raw(LATE)).job


def test_a_dead_letter_says_what_was_put_aside_and_why() -> None:
    at = datetime.datetime(2026, 11, 24, 2, tzinfo=datetime.UTC)
    assert dead_letter(at, "poisoned") == {
        "job": None, "step": None, "scope": None, "starts": 0, "correlation_id": None,
        "at": "2026-11-24T02:00:00.000Z", "reason": "poisoned",
    }  # fmt: skip
    whole: dict[str, Any] = {"job": "j", "step": "fetch-1", "scope": "a", "starts": 3, "correlation_id": CORRELATION}
    assert dead_letter(at, "poisoned", **whole) == {**whole, "at": "2026-11-24T02:00:00.000Z", "reason": "poisoned"}
