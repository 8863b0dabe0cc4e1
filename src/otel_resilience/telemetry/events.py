"""What breakers, budgets and storages report: events, and their counters. Nothing here raises."""

from __future__ import annotations

from opentelemetry import trace as trace_api

from otel_resilience.circuitbreaker.states import BreakerState, Transition
from otel_resilience.telemetry import cardinality, contract, hooks
from otel_resilience.telemetry.event_log import INFO, WARN, Value
from otel_resilience.telemetry.listener import Listener, active, emit, events_logger, never_raise


@never_raise
def state_changed(dependency: str, transition: Transition) -> None:
    """A breaker changed its state."""
    hooks.notify_transition(dependency, transition)
    listener = active()
    if listener is not None:
        _count_transition(listener, dependency, transition)
    opened = transition.target in (BreakerState.OPEN, BreakerState.FORCED_OPEN)
    level = WARN if opened else INFO
    if listener is None and not events_logger.isEnabledFor(level):
        return
    attributes: dict[str, Value] = {
        contract.DEPENDENCY: dependency,
        contract.BREAKER_FROM: transition.source.value,
        contract.BREAKER_TO: transition.target.value,
        contract.BREAKER_REASON: transition.reason.value,
        contract.BREAKER_WINDOW_FAILURES: transition.failures,
        contract.BREAKER_WINDOW_CALLS: transition.calls,
    }
    if transition.error_type is not None:
        attributes[contract.ERROR_TYPE] = transition.error_type
    if transition.open_for is not None:
        attributes[contract.BREAKER_OPEN_FOR] = float(transition.open_for)
    emit(
        contract.EVENT_STATE_CHANGED,
        level,
        f"circuit breaker {dependency}: {transition.source.value} to {transition.target.value}"
        f" ({transition.reason.value})",
        attributes,
        span=trace_api.get_current_span(),
    )


def _count_transition(listener: Listener, dependency: str, transition: Transition) -> None:
    attributes = listener.metrics.of(dependency)
    changed = {
        contract.BREAKER_FROM: transition.source.value,
        contract.BREAKER_TO: transition.target.value,
        contract.BREAKER_REASON: transition.reason.value,
    }
    listener.metrics.transitions.add(1, {**attributes, **changed})
    if transition.target is BreakerState.CLOSED and transition.open_duration is not None:
        listener.metrics.recovery.record(transition.open_duration, attributes)


def rejected(dependency: str, *, enforced: bool) -> None:
    """A breaker rejected a call, or in shadow mode would have."""
    listener = active()
    if listener is not None:
        _count_rejection(listener, dependency, enforced)


@never_raise
def _count_rejection(listener: Listener, dependency: str, enforced: bool) -> None:  # internal
    metrics = listener.metrics
    counter = metrics.rejections if enforced else metrics.shadow_rejections
    counter.add(1, metrics.of(dependency))


@never_raise
def limit_waited(dependency: str, limit: str, seconds: float) -> None:
    """A limit made a call wait, and then let it pass."""
    listener = active()
    if listener is not None:
        metrics = listener.metrics
        metrics.limit_waits.record(seconds, {**metrics.of(dependency), contract.LIMIT: limit})


@never_raise
def limit_exceeded(dependency: str, limit: str, *, enforced: bool) -> None:
    """A limit rejected a call, or in shadow mode would not have let it pass immediately."""
    listener = active()
    if listener is not None:
        metrics = listener.metrics
        counter = metrics.limit_rejections if enforced else metrics.limit_shadow_exceeded
        counter.add(1, {**metrics.of(dependency), contract.LIMIT: limit})


@never_raise
def stale_result(dependency: str, number: int) -> None:
    """Results of an earlier generation were dropped."""
    listener = active()
    if listener is not None:
        listener.metrics.stale_results.add(number, listener.metrics.of(dependency))


@never_raise
def probe_expired(dependency: str, number: int) -> None:
    """Half-open probes lost their lease."""
    emit(
        contract.EVENT_PROBE_EXPIRED,
        WARN,
        f"circuit breaker {dependency}: {number} probe(s) did not answer within the lease",
        {contract.DEPENDENCY: dependency, contract.BREAKER_PROBES: number},
    )


@never_raise
def budget_exhausted(dependency: str) -> None:
    """A retry budget ran dry."""
    emit(
        contract.EVENT_BUDGET_EXHAUSTED,
        WARN,
        f"the retry budget of {dependency} is exhausted",
        {contract.DEPENDENCY: dependency},
    )


@never_raise
def storage_step(storage: str, seconds: float, error_type: str) -> None:
    """A step of shared state was made; ``error_type`` is empty unless it failed."""
    listener = active()
    if listener is not None:
        failure = {contract.ERROR_TYPE: cardinality.bounded_error_type(error_type)} if error_type else {}
        attributes = {contract.STORAGE: cardinality.bounded_storage(storage), **failure}
        listener.metrics.storage_step.record(seconds, attributes)


@never_raise
def storage_degraded(storage: str, error_type: str, reason: str) -> None:
    """Shared state cannot be reached."""
    emit(
        contract.EVENT_STORAGE_DEGRADED,
        WARN,
        f"shared state in {storage} cannot be reached ({reason}); falling back to local state",
        {
            contract.STORAGE: cardinality.bounded_storage(storage),
            contract.ERROR_TYPE: cardinality.bounded_error_type(error_type),
        },
    )


@never_raise
def storage_restored(storage: str, seconds: float) -> None:
    """Shared state responds again."""
    emit(
        contract.EVENT_STORAGE_RESTORED,
        INFO,
        f"shared state in {storage} answers again after {seconds:.1f} s",
        {contract.STORAGE: cardinality.bounded_storage(storage), contract.OUTAGE_DURATION: seconds},
    )


@never_raise
def storage_damaged(storage: str, file: str, reason: str) -> None:
    """A file of shared state was set aside."""
    emit(
        contract.EVENT_STORAGE_DAMAGED,
        WARN,
        f"the shared state in {file} cannot be used ({reason}); it was set aside and starts empty",
        {contract.STORAGE: cardinality.bounded_storage(storage)},
    )
