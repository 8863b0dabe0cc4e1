"""The alert service as a whole: bursts, closing, hanging receivers and stores, broken parts, forks."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import RetryConfig, Severity, alerting
from otel_resilience.alerting import (
    Alert,
    AlertConfig,
    AlertService,
    DeliveryConfig,
    MemoryStore,
    Notification,
    Outbox,
    Receipt,
    Route,
)
from otel_resilience.alerting.channels import SlackChannel, WebhookChannel
from otel_resilience.alerting.persistence.store import Record, Swap
from otel_resilience.classification.model import Classification, ErrorClass
from support.alert_receivers import BLACK_HOLE, FakeSlack, FakeWebhook, Reply, served
from support.alerting import Inbox, World, alert
from support.cli import wait_until
from support.notifications import notification
from support.resilience import Fault, TransientFault
from support.timing import quickest, seconds_of, takes_at_most

QUICK = AlertConfig(escalation=(), group_wait=0.0)
PATIENT = DeliveryConfig(attempt_timeout=60.0)
"""Waits for a receiver longer than any test does, so that whoever waits with it is seen."""
SOON = 15.0
"""Seconds within which a busy machine has done what it does not wait for."""


def different(number: int) -> Iterator[Alert]:
    """Alerts that have nothing in common but their title; made the quick way, for redaction takes its time."""
    template = alert(correlation_id="c" * 32)
    for each in range(number):
        yield template.with_clean(fingerprint_by=(str(each),))


def growth(world: World, alerts: Iterable[Alert]) -> int:
    """The bytes that the service keeps of the last thousand alerts: those that its own code took, in this thread, while
    whatever else runs in this process takes what it needs."""
    alerts = list(alerts)
    for each in alerts[:-1000]:
        world.service.report(each)
    gc.collect()
    tracemalloc.start(20)
    try:
        for each in alerts[-1000:]:
            world.service.report(each)
        gc.collect()
        taken = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = tracemalloc.Filter(True, str(Path(alerting.__file__).parent / "*"), all_frames=True)
    return sum(trace.size for trace in taken.filter_traces([ours]).traces)


class Real:
    """A service with threads, as applications run it, and what it was confirmed."""

    def __init__(self, *routes: Route, config: AlertConfig = QUICK, **options: Any) -> None:
        self.receipts: list[Receipt] = []
        self._changed = threading.Condition()
        self.service = AlertService(config, routes, on_receipt=self._note, **options)

    def _note(self, receipt: Receipt) -> None:
        with self._changed:
            self.receipts.append(receipt)
            self._changed.notify_all()

    def wait_for(self, number: int, timeout: float = 60.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.receipts) >= number, timeout), self.receipts

    def __enter__(self) -> Real:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.close(1.0)


@pytest.fixture
def webhook() -> Iterator[FakeWebhook]:
    with served(FakeWebhook()) as receiver:
        yield receiver


class TestBursts:
    @pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
    def test_ten_thousand_errors_are_three_messages_at_most_and_all_are_counted(
        self, webhook: FakeWebhook, severity: Severity, tmp_path: Path
    ) -> None:
        service = AlertService(
            AlertConfig(escalation=()), [Route(WebhookChannel(webhook.url))], outbox=Outbox(tmp_path)
        ).start()
        errors = [alert(severity=severity, error_type=f"{500 + number}") for number in range(3)]
        for number in range(10_000):
            service.report(errors[number % 3])
        assert service.close(60.0)
        assert webhook.failures == []
        assert 1 <= len(webhook.accepted) <= 3
        assert sum(message["count"] for message in webhook.accepted) == 10_000
        assert webhook.accepted[-1]["total"] == 10_000
        assert sum(webhook.accepted[-1]["error_types"].values()) == 10_000
        assert Outbox(tmp_path).waiting() == []

    def test_ten_thousand_different_ones_are_a_few_messages(self) -> None:
        with served(FakeSlack()) as slack:
            config = AlertConfig(escalation=(), group_wait=60.0)
            service = AlertService(config, [Route(SlackChannel(slack.url))]).start()
            for each in different(10_000):
                service.report(each)
            assert len(service.incidents()) == 1001
            assert service.close(60.0)
            assert slack.failures == []
            assert 1 <= len(slack.accepted) <= 10

    @pytest.mark.parametrize("alerts", [[alert()] * 5000, different(5000)], ids=["one", "different"])
    def test_memory_does_not_grow_with_what_is_reported(self, alerts: Iterable[Alert]) -> None:
        grown = growth(World(config=AlertConfig(escalation=(), group_wait=60.0)), alerts)
        assert grown < 20_000, grown

    def test_and_all_of_them_are_counted(self) -> None:
        clock = World().clock
        inbox = Inbox(clock, coalesce_from=2)
        world = World([Route(inbox)], AlertConfig(escalation=()), clock=clock)
        for each in different(10_000):
            world.service.report(each)
        world.run(60)
        assert inbox.count == 10_000
        assert len(inbox.messages) == 1
        assert inbox.messages[0].total == 10_000

    def test_reporting_is_quick_while_the_receiver_is_a_black_hole(self, webhook: FakeWebhook) -> None:
        webhook.script(BLACK_HOLE, forever=True)
        with Real(Route(WebhookChannel(webhook.url)), delivery=PATIENT) as real:
            real.service.report(alert(severity=Severity.CRITICAL))
            webhook.wait_for(requests=1)
            again = alert(severity=Severity.CRITICAL)
            with takes_at_most(SOON):
                for _ in range(1000):
                    real.service.report(again)


class TestClosing:
    @pytest.fixture
    def black_hole(self) -> Iterator[str]:
        """Accepts connections, and never says a word."""
        with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/alerts"

    def test_sends_what_waits_for_its_group(self, webhook: FakeWebhook) -> None:
        with Real(Route(WebhookChannel(webhook.url)), config=AlertConfig(group_wait=60.0)) as real:
            real.service.report(alert())
            with takes_at_most(SOON):
                assert real.service.close(60.0)
        assert [message["count"] for message in webhook.accepted] == [1]

    def test_is_quick_where_there_is_nothing_to_send(self, webhook: FakeWebhook) -> None:
        with Real(Route(WebhookChannel(webhook.url))) as real, takes_at_most(SOON):
            assert real.service.close(60.0)

    def test_keeps_its_bound_with_a_receiver_that_never_answers(self, black_hole: str, tmp_path: Path) -> None:
        def closing() -> float:
            with Real(Route(WebhookChannel(black_hole)), outbox=Outbox(tmp_path)) as real:
                real.service.report(alert(severity=Severity.CRITICAL))
                seconds = seconds_of(lambda: closed.append(real.service.close(1.0)))
            assert [each.kind for each in Outbox(tmp_path).take()] == ["trouble"]
            return seconds

        closed: list[bool] = []
        assert quickest(closing, 1.3) <= 1.3
        assert not any(closed)

    def test_one_that_never_answers_does_not_keep_the_others_from_being_notified(
        self, black_hole: str, webhook: FakeWebhook
    ) -> None:
        routes = [Route(WebhookChannel(black_hole, name="hole")), Route(WebhookChannel(webhook.url))]
        with Real(*routes, delivery=PATIENT) as real:
            real.service.report(alert(severity=Severity.CRITICAL))
            webhook.wait_for(1, timeout=SOON)
            real.service.report(alert("other"))
            assert real.service.close(3.0)
        assert [message["kind"] for message in webhook.accepted] == ["trouble", "other"]

    @pytest.mark.parametrize("asked", ["30", "2"])
    def test_breaks_off_a_wait_for_the_next_attempt(self, webhook: FakeWebhook, tmp_path: Path, asked: str) -> None:
        webhook.script(Reply(429, retry_after=asked), forever=True)

        def closing() -> float:
            before = len(webhook.requests)
            with Real(Route(WebhookChannel(webhook.url)), outbox=Outbox(tmp_path)) as real:
                real.service.report(alert(severity=Severity.CRITICAL))
                webhook.wait_for(requests=before + 1)
                time.sleep(0.05)
                seconds = seconds_of(lambda: closed.append(real.service.close(1.0)))
            assert len(webhook.requests) == before + 1
            assert len(Outbox(tmp_path).take()) == 1
            return seconds

        closed: list[bool] = []
        assert quickest(closing, 1.2) <= 1.2
        assert not any(closed)

    def test_what_is_reported_meanwhile_is_notified(self, webhook: FakeWebhook) -> None:
        webhook.script(Reply(delay=0.4))
        with Real(Route(WebhookChannel(webhook.url)), config=AlertConfig()) as real:
            real.service.report(alert("first", Severity.CRITICAL))
            webhook.wait_for(requests=1)
            closing = threading.Thread(target=real.service.close, args=(60.0,))
            closing.start()
            time.sleep(0.1)
            real.service.report(alert("second"))
            closing.join(60)
        assert [message["kind"] for message in webhook.accepted] == ["first", "second"]

    def test_what_is_reported_afterwards_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World()
        world.service.close()
        world.report()
        world.resolve()
        world.run(100)
        assert world.messages() == []
        assert "was reported after its service was closed" in caplog.text

    def test_twice_is_once(self) -> None:
        world = World()
        world.report()
        assert world.service.close()
        assert world.service.close()
        assert len(world.messages()) == 1

    def test_a_revocation_meanwhile_is_notified_through_the_fallback(self, webhook: FakeWebhook) -> None:
        webhook.script(404, forever=True)
        with served(FakeWebhook()) as other:
            routes = [Route(WebhookChannel(webhook.url)), Route(WebhookChannel(other.url, name="other"), fallback=True)]
            with Real(*routes, config=AlertConfig()) as real:
                real.service.report(alert())
                assert real.service.close(60.0)
            assert sorted(message["kind"] for message in other.accepted) == ["alert_channel_disabled", "trouble"]


class HangingStore(MemoryStore):
    """A store whose every question takes as long as the test."""

    def __init__(self, *, hangs: bool = True) -> None:
        super().__init__()
        self.stop = threading.Event()
        self.hangs = hangs

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        if self.hangs:
            self.stop.wait(30)
        return super().swap(fingerprint, record, expected)


class TestAStoreThatHangs:
    @pytest.fixture
    def store(self) -> Iterator[HangingStore]:
        store = HangingStore()
        yield store
        store.stop.set()

    def test_does_not_delay_reports_and_resolves(self, webhook: FakeWebhook, store: HangingStore) -> None:
        with Real(Route(WebhookChannel(webhook.url)), store=store) as real, takes_at_most(SOON):
            real.service.report(alert("watched", threshold=2, window=1e6))
            real.service.report(alert(severity=Severity.CRITICAL))
            real.service.resolve("watched", "supplier")
            real.service.report(alert("other", severity=Severity.CRITICAL))

    def test_does_not_delay_the_end_and_what_it_kept_is_sent_by_the_next(
        self, webhook: FakeWebhook, store: HangingStore, tmp_path: Path
    ) -> None:
        def closing() -> float:
            outboxes.append(Outbox(tmp_path / str(len(outboxes))))
            with Real(Route(WebhookChannel(webhook.url)), store=store, outbox=outboxes[-1]) as real:
                real.service.report(alert(severity=Severity.CRITICAL))
                return seconds_of(lambda: real.service.close(1.0))

        outboxes: list[Outbox] = []
        assert quickest(closing, 1.2) <= 1.2
        store.stop.set()
        assert webhook.accepted == []
        with Real(Route(WebhookChannel(webhook.url)), outbox=outboxes[-1]) as real:
            real.wait_for(1)
        assert [message["kind"] for message in webhook.accepted] == ["trouble"]

    def test_at_the_end_costs_no_more_than_the_bound(self, webhook: FakeWebhook) -> None:
        def closing() -> float:
            store = HangingStore(hangs=False)
            try:
                with Real(Route(WebhookChannel(webhook.url)), store=store) as real:
                    for number in range(20):
                        real.service.report(alert(f"kind {number}", severity=Severity.CRITICAL))
                    real.wait_for(20)
                    store.hangs = True
                    seconds = seconds_of(lambda: closed.append(real.service.close(1.0)))
            finally:
                store.stop.set()
            return seconds

        closed: list[bool] = []
        assert quickest(closing, 1.2) <= 1.2
        assert closed[-1]

    def test_one_that_breaks_keeps_no_one_from_being_notified(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(MemoryStore):
            def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
                raise RuntimeError("no store at all")

            load = swap  # type: ignore[assignment]

        world = World(config=QUICK, store=Broken())
        world.report()
        world.run(1)
        world.resolve(certain=True)
        world.run(1)
        world.service.close()
        assert [m.status.value for m in world.messages()] == ["firing", "resolved"]
        assert "no store at all" not in caplog.text


class TestBrokenParts:
    def test_a_channel_that_raises_anything_is_a_failed_delivery(self) -> None:
        world = World(config=QUICK, delivery=DeliveryConfig(retry=RetryConfig(max_attempts=1)))
        world.inbox.next_outcomes = [ZeroDivisionError("a bug")]
        world.report()
        world.run(1000)
        assert world.service.dead_letter_count() + len(world.messages()) == 1

    def test_a_thread_of_the_service_outlives_what_goes_wrong_in_it(
        self, webhook: FakeWebhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Real(Route(WebhookChannel(webhook.url))) as real:
            worker = real.service._dispatcher.workers["webhook"]
            send = worker._send
            failures = [RuntimeError("a bug")]

            def broken(message: Notification) -> bool:
                if failures:
                    raise failures.pop()
                return send(message)

            monkeypatch.setattr(worker, "_send", broken)
            real.service.report(alert("first", Severity.CRITICAL))
            wait_until(lambda: not failures)
            real.service.report(alert("second", Severity.CRITICAL))
            webhook.wait_for(1)
        assert [message["kind"] for message in webhook.accepted] == ["second"]
        assert "unexpected error during delivery to webhook" in caplog.text

    def test_an_alert_that_cannot_be_made_does_not_fail_its_caller(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World()
        world.service.report(None)  # type: ignore[arg-type]
        assert "an alert was lost" in caplog.text

    def test_a_channel_that_cannot_be_closed_does_not_keep_the_others_open(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        closed: list[str] = []

        class Stubborn(Inbox):
            def close(self) -> None:
                closed.append(self.name)
                raise OSError("stuck")

        world = World()
        inboxes = [Stubborn(world.clock, name) for name in ("one", "two")]
        world = World([Route(each) for each in inboxes])
        assert world.service.close()
        assert closed == ["one", "two"]

    def test_a_receipt_may_come_to_one_that_reports(self, webhook: FakeWebhook) -> None:
        """As a log handler does that turns errors into alerts, from another thread, with a lock of its own."""
        lock = threading.Lock()
        service: AlertService

        def note(receipt: Receipt) -> None:
            with lock:
                time.sleep(0.01)

        service = AlertService(QUICK, [Route(WebhookChannel(webhook.url))], on_receipt=note).start()
        for number in range(20):
            with lock:
                service.report(alert(f"kind {number}", Severity.CRITICAL))
        webhook.wait_for(20)
        assert service.close(60.0)


class TestForks:
    def test_a_child_is_not_held_up_by_a_lock_of_its_parent(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World()
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            with world.service._lock:
                held.set()
                free.wait(100)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(60)
        child = os.fork()
        if child == 0:  # pragma: no cover  # another process
            world.report()
            world.resolve()
            world.service.resolve_dependency("supplier")
            os._exit(7 if not world.service.close() else 8)
        try:
            give_up = time.monotonic() + 60
            while time.monotonic() < give_up:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    break
                time.sleep(0.01)
            else:
                os.kill(child, 9)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
        finally:
            free.set()
            holder.join(60)
        assert os.waitstatus_to_exitcode(status) == 7


class TestSending:
    def test_a_message_of_its_own_is_delivered_and_confirmed(self, webhook: FakeWebhook) -> None:
        with Real(Route(WebhookChannel(webhook.url))) as real:
            real.service.send(notification(reason="test"))
            real.wait_for(1)
        assert [message["reason"] for message in webhook.accepted] == ["test"]
        assert real.receipts[0].seconds >= 0

    def test_a_test_leaves_nothing_behind(self, tmp_path: Path) -> None:
        world = World(outbox=Outbox(tmp_path))
        world.inbox.fails = TransientFault()
        world.service.send(notification(reason="test"))
        world.run(10)
        assert Outbox(tmp_path).waiting() == []

    def test_one_of_an_earlier_process_makes_no_incident(self, tmp_path: Path) -> None:
        world = World(outbox=Outbox(tmp_path, wall_clock=lambda: 0.0))
        world.inbox.fails = TransientFault()
        world.service.send(notification(caused_at=world.clock.now))
        world.run(10)
        world.service.close()
        world = World(outbox=Outbox(tmp_path, wall_clock=lambda: 0.0))
        world.run(10)
        assert len(world.messages()) == 1
        assert world.service.incidents() == []


class TestFakedTime:
    def test_a_clock_that_stands_still_does_not_hold_up_the_end(self) -> None:
        world = World()
        slow = Inbox(world.clock, "slow", min_interval=1.0)
        service = AlertService(QUICK, [Route(slow)], clock=lambda: 5.0, wall_clock=lambda: 5.0, sleep=lambda _: None)
        for kind in "abc":
            service.report(alert(kind))
        with takes_at_most(SOON):
            assert not service.close()
        assert len(slow.messages) == 1


def test_a_revoked_verdict_of_ones_own_channel_counts_too() -> None:
    class Gone(Fault):
        verdict = Classification(ErrorClass.PERMANENT, Severity.HIGH, "410")

    world = World()
    world.inbox.fails = Gone()
    world.report(severity=Severity.CRITICAL)
    world.run(1)
    assert world.service.revoked() == ["inbox"]


def test_one_that_was_never_started_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """It would keep every alert to itself, for as long as the process runs."""

    def said() -> int:
        return sum("call start()" in record.getMessage() for record in caplog.records)

    service = AlertService(QUICK, [])
    service.report(alert())
    service.report(alert(kind="more"))
    assert said() == 1
    with AlertService(QUICK, []) as started:
        started.report(alert())
    pumped = AlertService(QUICK, [])
    pumped.pump()
    pumped.report(alert())
    assert said() == 1
