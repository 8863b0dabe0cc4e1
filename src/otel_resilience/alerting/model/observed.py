"""What a process saw of an incident that the stored record does not hold yet. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from otel_resilience.alerting.model.alert import Alert

MAX_ERROR_TYPES: Final = 50
"""How many ``error.type`` values are counted separately."""

Recent = deque[tuple[float, str | None]]
"""The last occurrences with their ``error.type``, as many as the threshold needs."""


@dataclasses.dataclass(slots=True)
class Observed:
    """What this process saw of an incident since it last read or wrote the stored record."""

    count: int = 0
    first_at: float = math.inf
    last_bad: float = -math.inf
    """The last occurrence, or the last time it was seen to be ongoing."""
    alert: Alert | None = None
    """The first alert of the highest severity."""
    latest: Alert | None = None
    """The last alert that has a correlation ID."""
    error_types: dict[str, int] = dataclasses.field(default_factory=dict)
    recent: Recent = dataclasses.field(default_factory=deque)
    calm_since: float | None = None
    over_at: float | None = None
    deliveries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    confirmed: int = 0
    holders: tuple[str, ...] = ()
    acknowledged_at: float | None = None
    silenced_until: float = -math.inf
    closed: bool = False
    actions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        times = (self.calm_since, self.acknowledged_at)
        known = any(at is not None for at in times) or max(self.last_bad, self.silenced_until) > -math.inf
        return known or bool(self.count or self.deliveries or self.actions)

    def see(self, alert: Alert, at: float) -> None:
        """One more occurrence."""
        self.count += 1
        self.first_at = min(self.first_at, at)
        self.mark_ongoing(at)
        if self.alert is None or alert.severity > self.alert.severity:
            self.alert = alert
        if alert.correlation_id is not None:
            self.latest = alert
        count_type(self.error_types, alert.error_type, 1)
        self.recent = with_more(self.recent, alert.threshold, ((at, alert.error_type),))

    def mark_ongoing(self, at: float) -> None:
        """It was ongoing at this time."""
        self.last_bad = max(self.last_bad, at)
        self.calm_since = self.over_at = None
        self.closed = False

    def add(self, later: Observed) -> None:
        """Appends later observations."""
        self.count += later.count
        self.first_at = min(self.first_at, later.first_at)
        if math.isfinite(later.last_bad):
            self.mark_ongoing(later.last_bad)
        if later.alert is not None and (self.alert is None or later.alert.severity > self.alert.severity):
            self.alert = later.alert
        self.latest = later.latest or self.latest
        for error_type, number in later.error_types.items():
            count_type(self.error_types, error_type, number)
        self.recent = with_more(self.recent, later.recent.maxlen or 1, later.recent)
        if later.calm_since is not None:
            self.calm_since = later.calm_since if self.calm_since is None else self.calm_since
            self.over_at = later.over_at if self.over_at is None else self.over_at
        self.deliveries += later.deliveries
        self.confirmed = max(self.confirmed, later.confirmed)
        self.holders = tuple(dict.fromkeys((*self.holders, *later.holders)))
        self.acknowledged_at = self.acknowledged_at or later.acknowledged_at
        self.silenced_until = max(self.silenced_until, later.silenced_until)
        self.closed |= later.closed
        self.actions += later.actions


def count_type(counts: dict[str, int], error_type: str | None, number: int) -> None:
    """Counts occurrences of an ``error.type``, for at most :data:`MAX_ERROR_TYPES` different ones."""
    if error_type is not None and (error_type in counts or len(counts) < MAX_ERROR_TYPES):
        counts[error_type] = counts.get(error_type, 0) + number


def with_more(recent: Recent, threshold: int, more: Iterable[tuple[float, str | None]]) -> Recent:
    """The last occurrences, as many as the threshold needs; none are kept if it is one."""
    if threshold > 1:
        if recent.maxlen != threshold:
            recent = deque(recent, maxlen=threshold)
        recent.extend(more)
    return recent
