"""A day of calls with four real incidents, two hundred blips and noise: each incident is reported, and little else.

The trace is that of a published comparison of alert policies, made by the generator below; breaker, sources and alert
service are the real ones, on a fake clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest

from otel_resilience import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from otel_resilience.alerting import AlertConfig, AlertService, Notification, ResilienceSource, Route
from otel_resilience.testing import FakeClock

DAY = 86_400
DEPENDENCIES = 5
EPOCH = 1_700_000_000.0


@dataclasses.dataclass(frozen=True)
class TrueIncident:
    name: str
    dependencies: tuple[int, ...]
    start: int
    end: int
    probability: float
    flapping: bool = False

    def fails(self, second: int) -> float:
        if self.flapping and (second // 30) % 2:
            return 0.0
        return self.probability

    def covers(self, notification: Notification, at: float) -> bool:
        in_time = self.start <= at <= self.end + 600
        return in_time and {line.split()[1] for line in lines(notification)} <= {f"d{d}" for d in self.dependencies}


def lines(notification: Notification) -> list[str]:
    """One per incident in the message: status or severity, and what the title says first, the dependency."""
    if notification.merged:
        return [str(line) for line in notification.context.values()]
    return [f"{notification.severity}: {notification.title}"]


INCIDENTS = (
    TrueIncident("outage of one", (0,), 10_000, 10_480, 1.0),
    TrueIncident("half of the calls", (1,), 30_000, 32_700, 0.5),
    TrueIncident("shared network", (0, 1, 2, 3, 4), 50_000, 50_720, 1.0),
    TrueIncident("flapping", (3,), 70_000, 72_400, 1.0, flapping=True),
)


def outcomes(seed: int) -> list[list[bool]]:
    """By dependency, for each second, whether its call fails."""
    rng = random.Random(seed)
    blips: set[tuple[int, int]] = set()
    for _ in range(200):
        dependency, start, length = rng.randrange(DEPENDENCIES), rng.randrange(DAY - 5), rng.randint(1, 3)
        blips.update((dependency, start + offset) for offset in range(length))
    return [[_fails(rng, blips, dependency, second) for second in range(DAY)] for dependency in range(DEPENDENCIES)]


def _fails(rng: random.Random, blips: set[tuple[int, int]], dependency: int, second: int) -> bool:
    for incident in INCIDENTS:
        if dependency in incident.dependencies and incident.start <= second < incident.end:
            return rng.random() < incident.fails(second)
    return (dependency, second) in blips or rng.random() < 0.001


class Inbox:
    name = "inbox"
    min_interval = 1.0
    coalesce_from = 2
    keeps_incidents = False

    def __init__(self, clock: FakeClock) -> None:
        self.messages: list[tuple[float, Notification]] = []
        self._clock = clock

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        del timeout
        self.messages.append((self._clock() - EPOCH, notification))

    def close(self) -> None:
        """Nothing is held."""


def refuse() -> None:
    raise ConnectionRefusedError("nobody listens")


def answer() -> bool:
    return True


def play(seed: int) -> tuple[list[tuple[float, Notification]], int]:
    clock = FakeClock(EPOCH)
    inbox = Inbox(clock)
    service = AlertService(AlertConfig(), [Route(inbox)], clock=clock, wall_clock=clock, rng=random.Random(seed).random)
    breakers = [
        CircuitBreaker(f"d{number}", CircuitBreakerConfig(), clock=clock, rng=random.Random(seed + number).random)
        for number in range(DEPENDENCIES)
    ]
    failures = 0
    with_source = ResilienceSource(service)
    with_source.__enter__()
    try:
        for row in zip(*outcomes(seed), strict=True):
            for breaker, fails in zip(breakers, row, strict=True):
                failures += fails
                with contextlib.suppress(ConnectionRefusedError, CircuitOpenError):
                    breaker.execute(refuse if fails else answer)
            if service.book.next_due() <= service.now():
                service.pump()
            clock.advance(1.0)
    finally:
        with_source.__exit__()
    service.close()
    return inbox.messages, failures


@pytest.mark.parametrize("seed", [11, 12])
def test_four_incidents_of_a_day_are_notified_within_a_minute_and_in_two_messages_each(seed: int) -> None:
    messages, failures = play(seed)
    for incident in INCIDENTS:
        about = [(at, message) for at, message in messages if incident.covers(message, at)]
        assert [message.status for _, message in about] == ["firing", "resolved"], incident.name
        assert about[0][0] - incident.start <= 60
        told = {line.split()[1] for line in lines(about[0][1])}
        assert told == {f"d{number}" for number in incident.dependencies}
    assert len(messages) == 2 * len(INCIDENTS)
    assert len(messages) <= 0.0011 * failures  # 99.9 % fewer than one per failure
