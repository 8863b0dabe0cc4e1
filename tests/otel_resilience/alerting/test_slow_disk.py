"""A state folder on a slow disk: no caller waits, messages are stored before they are sent, losses are reported."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, AlertService, DiskStore, Outbox, Route
from otel_resilience.alerting.persistence.writer import DiskWriter
from support.alerting import Inbox, RefusedFault, alert
from support.cli import wait_until

NEVER = 60.0
"""Seconds for which nothing in these tests may wait."""
CONFIG = AlertConfig(escalation=(), group_wait=0.0)


class SlowDisk:
    """``os.fsync`` as on a disk that does not answer until it is ``mended``."""

    def __init__(self) -> None:
        self.broken = threading.Event()
        self.mended = threading.Event()
        self.waiting = threading.Event()
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        if self.broken.is_set() and not self.mended.is_set():
            self.waiting.set()
            assert self.mended.wait(NEVER), "nobody mended the disk: a caller waits for it"
        self._fsync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    found = SlowDisk()
    monkeypatch.setattr(os, "fsync", found.fsync)
    yield found
    found.mended.set()


def service_on(folder: Path, inbox: Inbox) -> AlertService:
    return AlertService(CONFIG, [Route(inbox)], outbox=Outbox(folder), store=DiskStore(folder / "incidents"))


@pytest.mark.fault("A9")
def test_the_event_loop_goes_on(tmp_path: Path, disk: SlowDisk) -> None:
    inbox = Inbox(lambda: 0.0)
    service = service_on(tmp_path, inbox).start()

    async def work() -> None:
        service.report(alert("before", Severity.CRITICAL))
        await asyncio.to_thread(disk.waiting.wait, NEVER)
        for number in range(50):
            service.report(alert(f"kind {number}", Severity.CRITICAL))
            service.resolve(f"kind {number - 1}", "supplier", certain=True)
            service.acknowledge("none")
            service.incidents()
            await asyncio.sleep(0)
        assert not disk.mended.is_set()

    disk.broken.set()
    asyncio.run(asyncio.wait_for(work(), NEVER / 2))
    disk.mended.set()
    assert service.close(NEVER)
    assert {message.kind for message in inbox.messages} >= {"before", "kind 49"}
    assert Outbox(tmp_path).waiting() == []


@pytest.mark.fault("A9")
def test_a_caller_in_a_thread_waits_a_moment_and_then_no_more(tmp_path: Path, disk: SlowDisk) -> None:
    service = service_on(tmp_path, Inbox(lambda: 0.0)).start()
    disk.broken.set()
    for number in range(50):
        service.report(alert(f"kind {number}", Severity.CRITICAL))
    assert not disk.mended.is_set()
    disk.mended.set()
    assert service.close(NEVER)


def test_on_a_disk_that_is_well_it_is_safe_when_report_returns(tmp_path: Path) -> None:
    inbox = Inbox(lambda: 0.0)
    inbox.fails = RefusedFault()
    service = service_on(tmp_path, inbox)
    service.config = AlertConfig(escalation=(), group_wait=NEVER)
    with service:
        service.report(alert(severity=Severity.HIGH))
        assert [each.kind for each in Outbox(tmp_path).waiting()] == ["trouble"]


@pytest.mark.fault("A9")
def test_a_message_leaves_once_it_is_on_the_disk(tmp_path: Path, disk: SlowDisk) -> None:
    seen: list[int] = []

    def tried_at() -> float:
        seen.append(len(Outbox(tmp_path).waiting()))
        return 0.0

    inbox = Inbox(tried_at)
    service = AlertService(CONFIG, [Route(inbox)], outbox=Outbox(tmp_path)).start()
    disk.broken.set()

    async def work() -> None:
        service.report(alert(severity=Severity.CRITICAL))
        await asyncio.to_thread(disk.waiting.wait, NEVER)
        assert inbox.tried == []
        disk.mended.set()

    asyncio.run(work())
    wait_until(lambda: inbox.messages)
    assert seen[0] == 1
    assert service.close(NEVER)


@pytest.mark.fault("A9")
def test_a_disk_that_never_answers_holds_nothing_back_and_what_is_lost_is_counted(
    tmp_path: Path, disk: SlowDisk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_resilience.alerting.delivery.dispatch.SECURED_WITHIN", 0.05)
    inbox = Inbox(lambda: 0.0)
    service = AlertService(CONFIG, [Route(inbox)], outbox=Outbox(tmp_path)).start()
    disk.broken.set()
    with caplog.at_level(logging.WARNING, "otel_resilience.alerting"):
        for number in range(3):
            service.report(alert(f"kind {number}", Severity.CRITICAL))
        wait_until(lambda: len(inbox.messages) == 3)
        service.close(2.0)
    assert not disk.mended.is_set()
    assert "is sent before it is stored" in caplog.text
    assert "alert writes were dropped" in caplog.text


def stuck() -> tuple[DiskWriter, threading.Event]:
    """A writer with room for two, whose disk does nothing until the event is set."""
    gate, begun = threading.Event(), threading.Event()
    writer = DiskWriter(max_waiting=2)
    writer.start()
    writer.submit(begun.set)
    writer.submit(lambda: gate.wait(NEVER))
    assert begun.wait(NEVER)
    return writer, gate


class TestTheWriter:
    def test_does_at_once_what_it_is_given_before_it_is_started(self) -> None:
        done: list[int] = []
        writer = DiskWriter()
        assert writer.submit(lambda: done.append(1))
        assert writer.call(lambda: 7) == 7
        assert done == [1]
        assert writer.written(0.0)
        assert writer.close(0.0)

    def test_keeps_the_order_and_goes_on_after_an_error(self) -> None:
        done: list[int] = []
        writer = DiskWriter()
        writer.start()
        for number in range(100):
            writer.submit(lambda number=number: done.append(number))  # type: ignore[misc]
            writer.submit(lambda: 1 // 0)
        assert writer.call(lambda: len(done)) == 100
        with pytest.raises(ZeroDivisionError):
            writer.call(lambda: 1 // 0)
        assert writer.written(NEVER)
        assert writer.close(NEVER)
        assert done == list(range(100))
        assert writer.lost == 0
        assert not writer.submit(done.clear)
        with pytest.raises(TimeoutError):
            writer.call(lambda: 1)

    def test_a_question_that_it_has_no_room_for_is_answered_at_once(self) -> None:
        writer, gate = stuck()
        while writer.submit(lambda: None):
            pass
        asked = writer.ask(lambda: 1)
        with pytest.raises(TimeoutError, match="too slow"):
            asked.result(0.0)
        gate.set()
        assert writer.written(NEVER)
        assert writer.call(lambda: 1) == 1
        assert writer.close(NEVER)

    def test_is_bounded_and_counts_what_it_did_not_do(self, caplog: pytest.LogCaptureFixture) -> None:
        writer, gate = stuck()
        assert [writer.submit(lambda: None) for _ in range(4)] == [True, True, False, False]
        assert writer.lost == 2
        assert not writer.written(0.0)
        assert not writer.written(NEVER)  # was late once: not waited for again
        assert not writer.close(0.0)
        assert writer.lost == 5
        assert "5 in total" in caplog.text
        gate.set()
