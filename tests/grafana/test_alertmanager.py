"""A real Alertmanager with our routes: no page waits for another, and each alert is two messages, start and end."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from drill.judge import Message
from drill.pace import Pace, routing
from drill.parts import Alertmanager, alertmanager
from drill.receiver import Receiver, running_receiver

from support import loopback
from support.cli import wait_until
from support.programs import missing

PACE: Final = Pace(waits=10, memory=10)
MINUTE: Final = PACE.wall(60)
"""Within so many seconds a critical alert must have reached its receiver."""
SETTLED: Final = 2.5 * MINUTE
"""Longer than any interval after which a page would be sent again; less than that of warnings."""


class Alerts:
    """Sends alerts like Prometheus, and keeps the resulting messages."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        self._url = url
        self._receiver = receiver

    def fire(self, name: str, severity: str = "critical", **labels: str) -> None:
        self._send(name, severity, labels, 3600)

    def end(self, name: str, severity: str = "critical", **labels: str) -> None:
        self._send(name, severity, labels, -1)

    def _send(self, name: str, severity: str, labels: dict[str, str], ends_in: float) -> None:
        now = datetime.datetime.now(datetime.UTC)
        begins, ends = sorted((now, now + datetime.timedelta(seconds=ends_in)))
        all_labels = {"alertname": name, "severity": severity, "component": "catalogue", **labels}
        body = [{"labels": all_labels, "startsAt": begins.isoformat(), "endsAt": ends.isoformat()}]
        loopback.post(f"{self._url}/api/v2/alerts", json=body).raise_for_status()

    def messages(self, way: str = "page") -> list[Message]:
        return [message for message in self._receiver.messages() if message.way == way]

    def counted(self, way: str = "page") -> Counter[tuple[str, bool]]:
        """How many times each alert was sent as firing (True) or resolved."""
        return Counter((alert.name, alert.firing) for message in self.messages(way) for alert in message.alerts)

    def wait_for(self, name: str, firing: bool = True, times: int = 1) -> None:
        wait_until(lambda: self.counted()[name, firing] >= times, MINUTE)


@pytest.fixture
def alerts(tmp_path: Path) -> Iterator[Alerts]:
    if alertmanager() is None:
        missing("alertmanager is not on PATH")
    with running_receiver() as receiver, Alertmanager(tmp_path, routing(PACE, receiver.url)) as running:
        yield Alerts(f"http://127.0.0.1:{running.port}", receiver)


@pytest.mark.slow
@pytest.mark.fault("O8")
def test_a_second_critical_alert_of_a_component_reaches_a_person_within_a_minute(alerts: Alerts) -> None:
    alerts.fire("SyncFailed")
    alerts.wait_for("SyncFailed")
    time.sleep(MINUTE)
    alerts.fire("PublicationRefused")
    alerts.wait_for("PublicationRefused")
    alerts.fire("CircuitBreakerOpen", resilience_dependency="esim-go")
    alerts.wait_for("CircuitBreakerOpen")
    alerts.fire("CircuitBreakerOpen", resilience_dependency="redis")
    alerts.wait_for("CircuitBreakerOpen", times=2)


@pytest.mark.slow
@pytest.mark.fault("O8")
def test_each_alert_is_two_messages_however_many_there_are(alerts: Alerts) -> None:
    names = ("SyncFailed", "AuthenticationFailed", "CatalogueStale")
    for name in names:
        alerts.fire(name)
        alerts.wait_for(name)
    time.sleep(SETTLED)
    for name in names:
        alerts.end(name)
        alerts.wait_for(name, firing=False)
        time.sleep(MINUTE / 2)
    assert alerts.counted() == {(name, firing): 1 for name in names for firing in (True, False)}
    assert all(len(message.alerts) == 1 for message in alerts.messages())


@pytest.mark.fault("O8")
def test_an_alert_that_comes_back_after_its_end_is_sent_within_a_minute(alerts: Alerts) -> None:
    """Alertmanager remembers its group for half a minute."""
    alerts.fire("StoreFailing")
    alerts.wait_for("StoreFailing")
    alerts.end("StoreFailing")
    alerts.wait_for("StoreFailing", firing=False)
    alerts.fire("StoreFailing")
    alerts.wait_for("StoreFailing", times=2)


@pytest.mark.slow
def test_a_cause_that_silences_a_failed_sync_before_it_was_sent_leaves_one_page(alerts: Alerts) -> None:
    alerts.fire("SyncFailed")
    alerts.end("SyncFailed")
    alerts.fire("CircuitBreakerOpen")
    alerts.wait_for("CircuitBreakerOpen")
    time.sleep(SETTLED)
    assert alerts.counted() == {("CircuitBreakerOpen", True): 1}


@pytest.mark.fault("O8")
def test_warnings_of_a_component_share_a_message_and_hold_up_no_page(alerts: Alerts) -> None:
    alerts.fire("ContractDrift", "warning")
    alerts.fire("Throttled", "warning")
    wait_until(lambda: alerts.messages("team"), 2 * MINUTE)
    alerts.fire("AuthenticationFailed")
    alerts.wait_for("AuthenticationFailed")
    assert [len(message.alerts) for message in alerts.messages("team")] == [2]
