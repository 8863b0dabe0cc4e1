"""The instruments of the contract on one meter, with cached attribute sets that are bounded in number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from otel_resilience.classification.model import Classification
from otel_resilience.telemetry import cardinality, contract

if TYPE_CHECKING:
    from opentelemetry.context import Context

Observe = Callable[[CallbackOptions], Iterable[Observation]]
AttributeSet = dict[str, str | int | float | bool]


class Instruments:
    """The instruments, and methods that record calls on them."""

    def __init__(self, meter: Meter, *, observed: Mapping[contract.Metric, Observe]) -> None:
        self.duration = _histogram(meter, contract.OPERATION_DURATION)
        self.attempts = _histogram(meter, contract.OPERATION_ATTEMPTS)
        self.errors = _counter(meter, contract.ERRORS)
        self.delay = _histogram(meter, contract.DELAY)
        self.suppressed = _counter(meter, contract.SUPPRESSED)
        self.limit_waits = _histogram(meter, contract.LIMIT_WAIT)
        self.limit_rejections = _counter(meter, contract.LIMIT_REJECTIONS)
        self.limit_shadow_exceeded = _counter(meter, contract.LIMIT_SHADOW_EXCEEDED)
        self.transitions = _counter(meter, contract.BREAKER_TRANSITIONS)
        self.rejections = _counter(meter, contract.BREAKER_REJECTIONS)
        self.shadow_rejections = _counter(meter, contract.BREAKER_SHADOW_REJECTIONS)
        self.recovery = _histogram(meter, contract.BREAKER_RECOVERY)
        self.stale_results = _counter(meter, contract.BREAKER_STALE)
        self.notifications = _counter(meter, contract.ALERT_NOTIFICATIONS)
        self.alerts_suppressed = _counter(meter, contract.ALERT_SUPPRESSED)
        self.delivery_duration = _histogram(meter, contract.ALERT_DELIVERY_DURATION)
        self.storage_step = _histogram(meter, contract.STORAGE_DURATION)
        self._meter = meter
        for metric, observe in observed.items():
            self.observe(metric, observe)
        self._sets: dict[tuple[str, ...], tuple[AttributeSet, AttributeSet]] = {}
        self._dependencies: dict[str, AttributeSet] = {}
        self._operations: dict[object, cardinality.BoundedNames] = {}
        """The operations of each dependency, in all its policies."""

    def observe(self, metric: contract.Metric, observe: Observe) -> None:
        """Collects a gauge or an up-down counter through a callback."""
        gauge = metric.kind == "gauge"
        create = self._meter.create_observable_gauge if gauge else self._meter.create_observable_up_down_counter
        create(metric.name, [observe], unit=metric.unit, description=metric.description)

    def operation(
        self, dependency: str, operation: str, outcome: str, error_type: str, seconds: float, attempts: int,
        context: Context,
    ) -> None:  # fmt: skip
        """One protected call has ended; ``error_type`` is empty if it did not fail."""
        key = (dependency, operation, outcome, error_type)
        sets = self._sets.get(key)
        if sets is None:
            sets = self._make_sets(dependency, operation, outcome, error_type)
            if len(self._sets) < cardinality.MAX_ATTRIBUTE_SETS:
                self._sets[key] = sets
        self.duration.record(seconds, sets[0], context)
        self.attempts.record(attempts, sets[1], context)

    def error(self, dependency: str, operation: str, verdict: Classification, context: Context) -> None:
        """One attempt failed."""
        self.errors.add(
            1,
            {
                **self._of_operation(dependency, operation),
                contract.ERROR_TYPE: cardinality.bounded_error_type(verdict.error_type),
                contract.ERROR_CLASS: verdict.error_class.value,
                contract.ERROR_SEVERITY: verdict.severity.value,
            },
            context,
        )

    def retry(self, dependency: str, delay: float, source: str, context: Context) -> None:
        """A retry will follow after ``delay`` seconds."""
        self.delay.record(delay, {**self.of(dependency), contract.RETRY_SOURCE: source}, context)

    def suppress(self, dependency: str, reason: str, context: Context) -> None:
        """A retry was not made although attempts remained."""
        self.suppressed.add(1, {**self.of(dependency), contract.SUPPRESS_REASON: reason}, context)

    def _make_sets(
        self, dependency: str, operation: str, outcome: str, error_type: str
    ) -> tuple[AttributeSet, AttributeSet]:
        common = {**self._of_operation(dependency, operation), contract.OUTCOME: outcome}
        if not error_type:
            return common, common
        return {**common, contract.ERROR_TYPE: cardinality.bounded_error_type(error_type)}, common

    def _of_operation(self, dependency: str, operation: str) -> AttributeSet:
        attributes = self.of(dependency)
        shown = attributes[contract.DEPENDENCY]
        names = self._operations.get(shown)
        if names is None:
            names = self._operations.setdefault(shown, cardinality.BoundedNames(cardinality.MAX_OPERATIONS))
        return {**attributes, contract.OPERATION: names(operation)}

    def of(self, dependency: str) -> AttributeSet:
        """The attributes for a dependency; do not modify them."""
        found = self._dependencies.get(dependency)
        if found is None:
            found = {contract.DEPENDENCY: cardinality.bounded_dependency(dependency)}
            if len(self._dependencies) < cardinality.MAX_DEPENDENCIES:
                self._dependencies[dependency] = found
        return found


def _histogram(meter: Meter, metric: contract.Metric) -> Histogram:
    boundaries: Sequence[float] | None = metric.boundaries
    return meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=boundaries
    )


def _counter(meter: Meter, metric: contract.Metric) -> Counter:
    return meter.create_counter(metric.name, metric.unit, metric.description)
