"""Where the primitives meet OpenTelemetry: one place that knows whether telemetry goes anywhere.

Nothing here raises into the application. Without an SDK only a look at two module attributes is paid; spans are made
only where the trace is sampled.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.metrics import _internal as metrics_internal

from otel_resilience import cardinality, contract, observers
from otel_resilience._foreign import repr_of
from otel_resilience.breaker_config import BreakerState, Transition
from otel_resilience.events import INFO, WARN, Attributes, EventLog, Value
from otel_resilience.instruments import Instruments, Observe
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_resilience.budget import RetryBudget
    from otel_resilience.circuit_breaker import CircuitBreaker
    from otel_resilience.storage.links import Link

P = ParamSpec("P")
W = TypeVar("W")

event_log = logging.getLogger("otel_resilience.events")
"""Takes the events where no logger provider of OpenTelemetry is set; an event goes one way only."""
event_log.addHandler(logging.NullHandler())
_log = logging.getLogger("otel_resilience")
_log.addHandler(logging.NullHandler())

_SIGNAL_OPT_IN = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"

_WORST_FIRST = (
    BreakerState.FORCED_OPEN,
    BreakerState.OPEN,
    BreakerState.HALF_OPEN,
    BreakerState.SHADOW,
    BreakerState.CLOSED,
)
"""Which state a dependency shows that has several breakers."""

_breakers: weakref.WeakValueDictionary[int, CircuitBreaker] = weakref.WeakValueDictionary()
_budgets: weakref.WeakValueDictionary[int, RetryBudget] = weakref.WeakValueDictionary()
_storages: weakref.WeakValueDictionary[int, Link] = weakref.WeakValueDictionary()
"""What the observable metrics show, by ``id``: once each, for as long as it is in use."""


def harmless(function: Callable[P, None]) -> Callable[P, None]:
    """Keeps a failure of telemetry from the call that it watches: logged, and no more."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001  # a broken exporter or processor must not break the application
            _log.warning("telemetry failed in %s: %s", function.__name__, redact(repr_of(exc)))

    return guarded


class Listener:
    """Tracer, events and instruments of one set of providers (by default the global ones, also when set later)."""

    def __init__(
        self,
        tracer_provider: trace_api.TracerProvider | None = None,
        meter_provider: metrics_api.MeterProvider | None = None,
        logger_provider: logs_api.LoggerProvider | None = None,
    ) -> None:
        self.tracer = trace_api.get_tracer(
            contract.SCOPE, tracer_provider=tracer_provider, schema_url=contract.SCHEMA_URL
        )
        self.events = EventLog(contract.SCOPE, contract.SCHEMA_URL, event_log, logger_provider)
        self.metrics = Instruments(
            metrics_api.get_meter(contract.SCOPE, meter_provider=meter_provider, schema_url=contract.SCHEMA_URL),
            observed=dict(_observed),
        )
        self.events_on_spans = os.environ.get(_SIGNAL_OPT_IN, "").strip() != "logs"


override: Listener | None = None
"""Set by :func:`use_providers`; comes before the global providers."""
_global: Listener | None = None
_global_events = EventLog(contract.SCOPE, contract.SCHEMA_URL, event_log)


def active() -> Listener | None:
    """The listener, or ``None`` where no SDK is set up. Cheap enough for every call."""
    if override is not None:
        return override
    if (
        trace_api._TRACER_PROVIDER is None  # noqa: SLF001  # the public getter reads the environment on every call
        and metrics_internal._METER_PROVIDER is None  # noqa: SLF001
        and logs_internal._LOGGER_PROVIDER is None  # noqa: SLF001
    ):
        return None
    return _global or global_listener()


def global_listener() -> Listener:
    """The listener on the global providers; its instruments come alive when the providers are set."""
    global _global  # one per process, made when first needed
    if _global is None:
        _global = Listener()
    return _global


@contextlib.contextmanager
def use_providers(
    *,
    tracer_provider: trace_api.TracerProvider | None = None,
    meter_provider: metrics_api.MeterProvider | None = None,
    logger_provider: logs_api.LoggerProvider | None = None,
) -> Iterator[None]:
    """Sends telemetry to these providers instead of the global ones, for the whole process, within a block."""
    global override  # a process-wide switch by design
    previous, override = override, Listener(tracer_provider, meter_provider, logger_provider)
    try:
        yield
    finally:
        override = previous


@harmless
def emit(
    name: str,
    level: int,
    body: str,
    attributes: Attributes,
    *,
    context: Context | None = None,
    span: Span | None = None,
) -> None:
    """Emits one event as one record, see :class:`EventLog`. By opt-in it also stands on ``span``."""
    body = redact(body)
    listener = active()
    if listener is not None and listener.events_on_spans and span is not None:
        span.add_event(name, dict(attributes))
    (_global_events if override is None else override.events).emit(name, level, body, attributes, context)


@harmless
def watch_breaker(breaker: CircuitBreaker) -> None:
    """Shows the breaker's state as long as it is in use. Called where it is made."""
    _breakers[id(breaker)] = breaker
    global_listener()


def living_breakers() -> tuple[CircuitBreaker, ...]:
    """Every circuit breaker of this process that is in use."""
    return tuple(_breakers.values())


@harmless
def watch_budget(budget: RetryBudget) -> None:
    """Shows the budget's utilization as long as it is in use. Called where it is made."""
    _budgets[id(budget)] = budget
    global_listener()


@harmless
def watch_storage(link: Link) -> None:
    """Shows whether shared state can be reached as long as ``link`` is in use. Called where it is made."""
    _storages[id(link)] = link
    global_listener()


@harmless
def state_changed(dependency: str, transition: Transition) -> None:
    """A breaker changed its state."""
    if observers.subscribed:
        observers.tell_transition(dependency, transition)
    listener = active()
    if listener is not None:
        listener.metrics.transition(dependency, transition)
    opened = transition.target in (BreakerState.OPEN, BreakerState.FORCED_OPEN)
    level = WARN if opened else INFO
    if listener is None and not event_log.isEnabledFor(level):
        return
    attributes: dict[str, Value] = {
        contract.DEPENDENCY: dependency,
        contract.BREAKER_FROM: transition.source.value,
        contract.BREAKER_TO: transition.target.value,
        contract.BREAKER_REASON: transition.reason.value,
        contract.PREFIX + "circuit_breaker.window.failures": transition.failures,
        contract.PREFIX + "circuit_breaker.window.calls": transition.calls,
    }
    if transition.error_type is not None:
        attributes[contract.ERROR_TYPE] = transition.error_type
    if transition.open_for is not None:
        attributes[contract.PREFIX + "circuit_breaker.open_for"] = transition.open_for
    emit(
        contract.EVENT_STATE_CHANGED,
        level,
        f"circuit breaker {dependency}: {transition.source.value} to {transition.target.value}"
        f" ({transition.reason.value})",
        attributes,
        span=trace_api.get_current_span(),
    )


def rejected(dependency: str, *, enforced: bool) -> None:
    """A breaker rejected a call, or in shadow mode would have."""
    listener = active()
    if listener is not None:
        _count_rejection(listener, dependency, enforced)


@harmless
def _count_rejection(listener: Listener, dependency: str, enforced: bool) -> None:  # internal
    listener.metrics.rejection(dependency, enforced=enforced)


@harmless
def stale_result(dependency: str, number: int) -> None:
    """Results of an earlier generation were dropped."""
    listener = active()
    if listener is not None:
        listener.metrics.stale(dependency, number)


@harmless
def probe_expired(dependency: str, number: int) -> None:
    """Half-open probes lost their lease."""
    emit(
        contract.EVENT_PROBE_EXPIRED,
        WARN,
        f"circuit breaker {dependency}: {number} probe(s) did not answer within the lease",
        {contract.DEPENDENCY: dependency, contract.PREFIX + "circuit_breaker.probes": number},
    )


@harmless
def budget_exhausted(dependency: str) -> None:
    """A retry budget ran dry."""
    emit(
        contract.EVENT_BUDGET_EXHAUSTED,
        WARN,
        f"the retry budget of {dependency} is exhausted",
        {contract.DEPENDENCY: dependency},
    )


@harmless
def storage_step(storage: str, seconds: float, error_type: str) -> None:
    """A step of shared state was made; ``error_type`` is empty unless it failed."""
    listener = active()
    if listener is not None:
        listener.metrics.step(_kind(storage), seconds, error_type)


@harmless
def storage_degraded(storage: str, error_type: str, reason: str) -> None:
    """Shared state cannot be reached."""
    emit(
        contract.EVENT_STORAGE_DEGRADED,
        WARN,
        f"shared state in {storage} cannot be reached ({reason}); this process goes by its own",
        {contract.STORAGE: _kind(storage), contract.ERROR_TYPE: cardinality.bounded_error_type(error_type)},
    )


@harmless
def storage_restored(storage: str, seconds: float) -> None:
    """Shared state answers again."""
    emit(
        contract.EVENT_STORAGE_RESTORED,
        INFO,
        f"shared state in {storage} answers again after {seconds:.1f} s",
        {contract.STORAGE: _kind(storage), contract.PREFIX + "storage.outage.duration": seconds},
    )


@harmless
def storage_damaged(storage: str, file: str, reason: str) -> None:
    """A file of shared state was set aside."""
    emit(
        contract.EVENT_STORAGE_DAMAGED,
        WARN,
        f"the shared state in {file} cannot be used ({reason}); it was set aside and starts empty",
        {contract.STORAGE: _kind(storage)},
    )


def _kind(storage: str) -> str:
    return storage if storage in contract.STORAGES else contract.STORAGES[-1]


def _in_use(watched: weakref.WeakValueDictionary[int, W]) -> Iterator[W]:
    """What is still in use. A copy of the references is taken at once: other threads may add to them meanwhile."""
    return (each for reference in watched.valuerefs() if (each := reference()) is not None)


def _observe_breakers(_: CallbackOptions) -> Iterable[Observation]:
    worst: dict[str, BreakerState] = {}
    for breaker in _in_use(_breakers):
        dependency = cardinality.bounded_dependency(breaker.dependency)
        states = (breaker.state, worst.get(dependency, BreakerState.CLOSED))
        worst[dependency] = min(states, key=_WORST_FIRST.index)
    for dependency, shown in worst.items():
        for state in BreakerState:
            yield Observation(
                int(state is shown), {contract.DEPENDENCY: dependency, contract.BREAKER_STATE: state.value}
            )


def _observe_budgets(_: CallbackOptions) -> Iterable[Observation]:
    most: dict[str, float] = {}
    for budget in _in_use(_budgets):
        dependency = cardinality.bounded_dependency(budget.dependency)
        most[dependency] = max(budget.metrics().utilization, most.get(dependency, 0.0))
    for dependency, utilization in most.items():
        yield Observation(utilization, {contract.DEPENDENCY: dependency})


def _observe_storages(_: CallbackOptions) -> Iterable[Observation]:
    degraded: dict[str, bool] = {}
    for link in _in_use(_storages):
        kind = _kind(link.name)
        degraded[kind] = degraded.get(kind, False) or link.degraded
    for kind, value in degraded.items():
        yield Observation(int(value), {contract.STORAGE: kind})


_observed: dict[contract.Metric, Observe] = {
    contract.BREAKER_STATUS: _observe_breakers,
    contract.BUDGET_UTILIZATION: _observe_budgets,
    contract.STORAGE_DEGRADED: _observe_storages,
}


def observe(metric: contract.Metric, callback: Observe) -> None:
    """Adds an observable metric of a room of its own; called when that room is imported."""
    _observed[metric] = callback
    for listener in {override, _global}:
        if listener is not None:
            listener.metrics.observe(metric, callback)
