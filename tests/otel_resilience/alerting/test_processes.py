"""Real processes: one that is killed loses no CRITICAL alert, and several on one outage make one incident of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.alert_receivers import FakePagerDuty, FakeWebhook, Reply, served
from support.redis_server import RedisServer

TESTS = Path(__file__).parents[2]
SUPPORT = "support.alert_processes"


@pytest.fixture
def webhook() -> Iterator[FakeWebhook]:
    with served(FakeWebhook()) as receiver:
        yield receiver


def run(*arguments: Any) -> tuple[list[str], str]:
    """Lines of its output, and what it logged."""
    done = subprocess.run(
        [sys.executable, "-m", SUPPORT, *map(str, arguments)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


KILLS = 24
KILLS_OF_THE_STORM = int(os.environ.get("STORM_KILLS", "10"))
"""More of them by hand."""


def test_sigkill_between_an_error_and_its_delivery_loses_no_critical_alert(
    webhook: FakeWebhook, tmp_path: Path
) -> None:
    webhook.script(*(Reply(delay=0.03 * (number % 2)) for number in range(4 * KILLS)))
    lines, errors = run("kill", webhook.url, tmp_path, KILLS, 1)
    reported = lines[:-1]
    assert lines[-1] == "all delivered", errors
    assert len(reported) >= KILLS // 2
    ids = {(message["kind"], message["id"]) for message in webhook.accepted}
    told = Counter(kind for kind, _ in ids)
    assert set(reported) <= set(told)
    assert set(told.values()) == {1}  # what is delivered again is the same message, by its id
    assert webhook.failures == []
    assert not list((tmp_path / "outbox").glob("*/*.json"))


def outcomes(webhook: FakeWebhook) -> list[tuple[str, str]]:
    return [(message["kind"], message["status"]) for message in webhook.accepted]


ONE_INCIDENT = [("outage", "firing"), ("outage", "resolved")]


class TestF54SeveralProcessesOnOneOutage:
    @pytest.mark.fault("F54")
    def test_make_one_incident_on_one_disk(self, webhook: FakeWebhook, tmp_path: Path) -> None:
        lines, errors = run("share", webhook.url, tmp_path, 4, "-")
        assert lines == ["exit codes [0]"], errors
        assert outcomes(webhook) == ONE_INCIDENT
        assert len({message["fingerprint"] for message in webhook.accepted}) == 1
        assert webhook.repeated == []

    @pytest.mark.fault("F54")
    def test_make_one_incident_through_redis(self, webhook: FakeWebhook, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "redis") as server:
            lines, errors = run("share", webhook.url, tmp_path, 3, server.url)
        assert lines == ["exit codes [0]"], errors
        assert outcomes(webhook) == ONE_INCIDENT
        assert "away" not in errors

    def test_agree_by_the_disk_where_redis_is_not_there_and_say_so_once(
        self, webhook: FakeWebhook, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path / "redis") as server:
            server.kill()
            lines, errors = run("share", webhook.url, tmp_path, 2, server.url)
        assert lines == ["exit codes [0]"], errors
        assert outcomes(webhook) == ONE_INCIDENT
        assert errors.count("the shared store of incidents is unreachable") == 2  # once by each process


@pytest.mark.fault("A1")
class TestA1FourProcessesOfWhichOneSeesTheEnd:
    def test_are_one_firing_one_escalation_and_one_resolved_at_every_receiver(
        self, webhook: FakeWebhook, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path / "redis") as server, served(FakePagerDuty()) as pagerduty:
            lines, errors = run("hand-over", webhook.url, pagerduty.url, tmp_path, server.url)
        assert lines == ["exit codes [0]"], errors
        messages = [(message["reason"], message["severity"]) for message in webhook.accepted]
        assert messages == [("new", "HIGH"), ("escalated", "CRITICAL"), ("resolved", "CRITICAL")]
        assert sum(message["count"] for message in webhook.accepted) == webhook.accepted[-1]["total"] == 60
        (incident,) = pagerduty.incidents
        assert (incident.status, incident.triggers) == ("resolved", 2)
        assert incident.dedup_key == f"catalogue:test:{webhook.accepted[0]['fingerprint']}"
        assert pagerduty.dropped == []


@pytest.mark.fault("A1")
class TestKillStorm:
    def check(self, webhook: FakeWebhook) -> Counter[str]:
        """Each incident is opened at most once, and has an end. After that nothing new is decided: what was on its way
        from a process that stood still comes late, and is followed by another end."""
        seen: dict[str, dict[str, tuple[str, str]]] = {}
        ends: dict[str, int] = {}
        for message in webhook.accepted:
            incident, firing = message["incident"], message["status"] == "firing"
            number = int(message["id"].removeprefix(f"{incident}-").partition("-")[0])
            assert not firing or number < ends.get(incident, number + 1), message
            if not firing:
                ends[incident] = max(number, ends.get(incident, number))
            seen.setdefault(incident, {})[message["id"]] = (message["reason"], message["status"])
        reasons: Counter[str] = Counter()
        for messages in seen.values():
            own = Counter(reason for reason, _ in messages.values())
            reasons += own
            assert own["new"] + own["back"] <= 1, messages
            assert own["escalated"] <= 1, messages
            assert list(messages.values())[-1][1] == "resolved", messages
        return reasons

    def test_leaves_no_incident_open_and_escalates_none_after_its_end(
        self, webhook: FakeWebhook, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path / "redis") as server:
            lines, errors = run("storm", webhook.url, tmp_path, server.url, KILLS_OF_THE_STORM, 3)
        assert lines == ["exit codes [0]"], errors
        assert self.check(webhook)["resolved"] >= 1
        assert not list(tmp_path.glob("*/outbox/*/*.json"))
