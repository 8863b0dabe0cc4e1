"""An alert service without threads on a fake clock, and channels that behave as told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.alerting import Alert, AlertConfig, AlertService, Notification, Route
from otel_resilience.alerting.model.book import IncidentBook
from otel_resilience.testing import FakeClock
from support.resilience import Fault

EPOCH = 1_795_500_000.0


class RevokedFault(Fault):
    """The receiver revoked our access."""

    verdict = Classification(ErrorClass.PERMANENT, Severity.HIGH, "404", BreakerEffect.SUCCESS)


class RefusedFault(Fault):
    """The receiver rejects this message."""

    verdict = Classification(ErrorClass.PERMANENT, Severity.HIGH, "400", BreakerEffect.SUCCESS)


class Inbox:
    """A channel that keeps what it is given, and fails while ``fails`` is set."""

    def __init__(
        self,
        clock: Callable[[], float],
        name: str = "inbox",
        *,
        min_interval: float = 0.0,
        coalesce_from: int | None = None,
        keeps_incidents: bool = False,
    ) -> None:
        self.name = name
        self.min_interval = min_interval
        self.coalesce_from = coalesce_from
        self.keeps_incidents = keeps_incidents
        self.messages: list[Notification] = []
        self.times: list[float] = []
        self.tried: list[tuple[float, Notification]] = []
        self.fails: Exception | None = None
        self.next_outcomes: list[Exception | None] = []
        """Outcomes of the next attempts, one each; they take precedence over ``fails``."""
        self._clock = clock

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        assert timeout > 0
        self.tried.append((self._clock(), notification))
        error = self.next_outcomes.pop(0) if self.next_outcomes else self.fails
        if error is not None:
            raise error
        self.messages.append(notification)
        self.times.append(self._clock())

    def close(self) -> None:
        """Nothing to close."""

    @property
    def reported(self) -> list[tuple[str, str]]:
        """Reason and status of each message."""
        return [(message.reason, message.status.value) for message in self.messages]

    @property
    def count(self) -> int:
        """Occurrences in all messages."""
        return sum(message.count for message in self.messages)


def alert(kind: str = "trouble", severity: Severity = Severity.HIGH, **changes: Any) -> Alert:
    """An alert about the supplier."""
    return Alert(**{"kind": kind, "title": f"{kind} at the supplier", "severity": severity,
                    "dependency": "supplier", **changes})  # fmt: skip


class World:
    """A service without threads on a fake clock."""

    def __init__(
        self,
        routes: Sequence[Route] | None = None,
        config: AlertConfig | None = None,
        *,
        clock: FakeClock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or FakeClock(EPOCH)
        self.inbox = Inbox(self.clock)
        self.service = AlertService(
            config or AlertConfig(escalation=()),
            [Route(self.inbox)] if routes is None else routes,
            clock=self.clock,
            wall_clock=self.clock,
            sleep=self.clock.sleep,
            rng=random.Random(1).random,
            **options,
        )
        self.service.load()

    @property
    def book(self) -> IncidentBook:
        return self.service.book

    def report(self, kind: str = "trouble", severity: Severity = Severity.HIGH, **changes: Any) -> None:
        self.service.report(alert(kind, severity, **changes))

    def resolve(self, kind: str = "trouble", **options: Any) -> None:
        self.service.resolve(kind, "supplier", **options)

    def run(self, seconds: float = 0.0) -> None:
        """Moves the time forward; everything happens when it is due."""
        until = self.clock.now + seconds
        while (again := self.service.pump()) <= until:
            self.clock.now = max(self.clock.now, again)
        self.clock.now = max(self.clock.now, until)

    def messages(self, channel: Inbox | None = None) -> list[Notification]:
        """What the channel has received since the last call."""
        inbox = channel or self.inbox
        news, inbox.messages = inbox.messages, []
        return news
