"""What an act shows, computed only from the emitted telemetry: spans, events and metrics."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.demo.trace_store import Labels, Point, Series, Span, TelemetryStore, increase
from otel_resilience.telemetry import contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SEVERITIES: Final = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
_METRICS: Final = (
    contract.ERRORS.name,
    contract.OPERATION_ATTEMPTS.name,
    contract.SUPPRESSED.name,
    contract.BREAKER_RECOVERY.name,
    contract.ALERT_SUPPRESSED.name,
)


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorCount:
    """Failed attempts of one kind."""

    type: str
    error_class: str
    severity: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One change of a circuit breaker. ``at`` in seconds since the epoch."""

    at: float
    source: str
    target: str
    reason: str
    error_type: str | None
    open_for: float | None
    failures: int
    calls: int


@dataclasses.dataclass(frozen=True, slots=True)
class Retries:
    """Calls that needed more than one attempt, and how many of them finally succeeded."""

    needed: int = 0
    succeeded: int = 0
    suppressed: dict[str, int] = dataclasses.field(default_factory=dict)
    """Retries that were not made although attempts remained, by reason."""

    @property
    def rate(self) -> float | None:
        """From 0 to 1; ``None`` if no call needed a retry."""
        return self.succeeded / self.needed if self.needed else None


@dataclasses.dataclass(frozen=True, slots=True)
class Branch:
    """A span and what happened inside it."""

    span: Span
    children: tuple[Branch, ...]

    def to_json(self) -> dict[str, Any]:
        """The tree for machines."""
        span = self.span
        return {
            "name": span.name,
            "kind": span.kind,
            "service": span.service,
            "duration_s": round(span.duration, 4),
            "failed": span.failed,
            "attributes": span.attributes,
            "children": [child.to_json() for child in self.children],
        }


def baseline(store: TelemetryStore) -> dict[str, Series]:
    """The values of the cumulative metrics before an act."""
    return {name: store.metric(name) for name in _METRICS}


def errors(store: TelemetryStore, before: dict[str, Series], dependency: str) -> list[ErrorCount]:
    """``resilience.errors`` of an act, the worst first."""
    name = contract.ERRORS.name
    counts: dict[tuple[str, str, str], int] = {}
    for labels, point in _of(increase(store.metric(name), before[name]), dependency):
        key = (
            str(labels.get(contract.ERROR_TYPE)),
            str(labels.get(contract.ERROR_CLASS)),
            str(labels.get(contract.ERROR_SEVERITY)),
        )
        counts[key] = counts.get(key, 0) + round(point.value)
    found = [ErrorCount(*key, count) for key, count in counts.items()]
    return sorted(found, key=lambda each: (_SEVERITIES.index(each.severity), -each.count, each.type))


def retries(store: TelemetryStore, before: dict[str, Series], dependency: str) -> Retries:
    """``resilience.operation.attempts`` of an act: the calls with more than one attempt; and the suppressed retries."""
    name = contract.OPERATION_ATTEMPTS.name
    needed = succeeded = 0
    for labels, point in _of(increase(store.metric(name), before[name]), dependency):
        # A bucket counts values above the previous bound.
        repeated = sum(count for place, count in enumerate(point.buckets) if place and point.bounds[place - 1] >= 1)
        needed += repeated
        if labels.get(contract.OUTCOME) == "ok_after_retry":
            succeeded += repeated
    name = contract.SUPPRESSED.name
    suppressed = {
        str(labels.get(contract.SUPPRESS_REASON)): round(point.value)
        for labels, point in _of(increase(store.metric(name), before[name]), dependency)
        if point.value
    }
    return Retries(needed, succeeded, suppressed)


def alerts_suppressed(store: TelemetryStore, before: dict[str, Series]) -> dict[str, int]:
    """``resilience.alert.suppressed`` of an act, by reason."""
    name = contract.ALERT_SUPPRESSED.name
    found = increase(store.metric(name), before[name])
    return {
        str(_labels(key).get(contract.ALERT_REASON)): round(point.value) for key, point in found.items() if point.value
    }


def recovery(store: TelemetryStore, dependency: str) -> int:
    """How many recoveries ``resilience.circuit_breaker.recovery.duration`` has counted so far."""
    return round(sum(point.value for _, point in _of(store.metric(contract.BREAKER_RECOVERY.name), dependency)))


def changes(store: TelemetryStore, since: float, until: float, dependency: str) -> list[Change]:
    """``resilience.circuit_breaker.state_changed`` events of an act."""
    found = store.events(contract.EVENT_STATE_CHANGED, since=since, until=until)
    window = contract.PREFIX + "circuit_breaker."
    result = []
    for event in found:
        given = event.attributes
        if given.get(contract.DEPENDENCY) != dependency:
            continue
        error_type, open_for = given.get(contract.ERROR_TYPE), given.get(window + "open_for")
        result.append(
            Change(
                at=event.at,
                source=str(given.get(contract.BREAKER_FROM)),
                target=str(given.get(contract.BREAKER_TO)),
                reason=str(given.get(contract.BREAKER_REASON)),
                error_type=None if error_type is None else str(error_type),
                open_for=None if open_for is None else float(open_for),
                failures=int(given.get(window + "window.failures", 0)),
                calls=int(given.get(window + "window.calls", 0)),
            )
        )
    return result


def worst_call(spans: Sequence[Span], dependency: str) -> list[Span]:
    """The path from the root to the protected call that fared worst: finally failed, most attempts, longest.

    Empty if the trace holds no such call.
    """
    calls = [
        span
        for span in spans
        if span.attributes.get(contract.DEPENDENCY) == dependency and contract.OUTCOME in span.attributes
    ]
    if not calls:
        return []
    worst = max(calls, key=badness)
    by_id = {span.span_id: span for span in spans}
    path = [worst]
    while (parent := by_id.get(path[0].parent_id or "")) is not None:
        path.insert(0, parent)
    return path


def badness(call: Span) -> tuple[bool, bool, int, float]:
    """A sort key: the greater, the worse the call fared. A call that was rejected unsent has little to show."""
    return _sent(call) > 0, call.failed, _sent(call), call.duration


def tree(path: Sequence[Span], spans: Sequence[Span]) -> Branch:
    """Everything inside the last span of ``path``, below the spans above it."""
    inside: dict[str | None, list[Span]] = {}
    for span in spans:
        inside.setdefault(span.parent_id, []).append(span)

    def grow(span: Span) -> Branch:
        return Branch(span, tuple(grow(child) for child in inside.get(span.span_id, ())))

    branch = grow(path[-1])
    for span in reversed(path[:-1]):
        branch = Branch(span, (branch,))
    return branch


def unanswered(spans: Sequence[Span]) -> bool:
    """Whether the server's span of some HTTP request in the trace is still missing."""
    parents = {span.parent_id for span in spans if span.kind == "SERVER"}
    return any(
        span.kind == "CLIENT" and "http.request.method" in span.attributes and span.span_id not in parents
        for span in spans
    )


def _sent(call: Span) -> int:
    return int(str(call.attributes.get(contract.ATTEMPTS, 0)))


def _of(series: Series, dependency: str) -> Iterable[tuple[dict[str, Any], Point]]:
    for key, point in series.items():
        labels = _labels(key)
        if labels.get(contract.DEPENDENCY) == dependency:
            yield labels, point


def _labels(key: Labels) -> dict[str, Any]:
    return dict(key)
