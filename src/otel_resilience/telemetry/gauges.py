"""Observable metrics: what they show of the breakers, budgets and storages that are in use."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from opentelemetry.metrics import CallbackOptions, Observation

from otel_resilience.circuitbreaker.states import BreakerState
from otel_resilience.retries.budget import budgets_in_use
from otel_resilience.telemetry import cardinality, contract
from otel_resilience.telemetry.listener import global_listener, never_raise, observe

W = TypeVar("W")


class Breaker(Protocol):
    """A circuit breaker whose state is shown."""

    @property
    def dependency(self) -> str:
        """What it protects."""
        ...

    @property
    def state(self) -> BreakerState:
        """Its state, that of a breaker in shadow mode included."""
        ...


class Concurrency(Protocol):
    """A limit on calls at a time."""

    @property
    def dependency(self) -> str:
        """What it protects."""
        ...

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        ...


class Storage(Protocol):
    """A storage of shared state that can be out of reach."""

    @property
    def name(self) -> str:
        """Its kind."""
        ...

    @property
    def degraded(self) -> bool:
        """Whether it cannot be reached."""
        ...


_WORST_FIRST = (
    BreakerState.FORCED_OPEN,
    BreakerState.OPEN,
    BreakerState.HALF_OPEN,
    BreakerState.SHADOW,
    BreakerState.CLOSED,
)
"""Which state a dependency shows that has several breakers."""
_breakers: weakref.WeakValueDictionary[int, Breaker] = weakref.WeakValueDictionary()
_concurrency: weakref.WeakValueDictionary[int, Concurrency] = weakref.WeakValueDictionary()
_storages: weakref.WeakValueDictionary[int, Storage] = weakref.WeakValueDictionary()
"""What the observable metrics show, by ``id``: once each, for as long as it is in use."""


@never_raise
def watch_breaker(breaker: Breaker) -> None:
    """Shows the breaker's state as long as it is in use. Called where it is made."""
    _breakers[id(breaker)] = breaker
    global_listener()


def living_breakers() -> tuple[Breaker, ...]:
    """Every circuit breaker of this process that is in use."""
    return tuple(_breakers.values())


@never_raise
def watch_budgets() -> None:
    """Shows the utilization of all budgets in use. Called where a policy gets one."""
    global_listener()


@never_raise
def watch_concurrency(limiter: Concurrency) -> None:
    """Shows the calls under way as long as ``limiter`` is in use. Called where it is made."""
    _concurrency[id(limiter)] = limiter
    global_listener()


@never_raise
def watch_storage(link: Storage) -> None:
    """Shows whether shared state can be reached as long as ``link`` is in use. Called where it is made."""
    _storages[id(link)] = link
    global_listener()


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
    for budget in budgets_in_use():
        dependency = cardinality.bounded_dependency(budget.dependency)
        most[dependency] = max(budget.metrics().utilization, most.get(dependency, 0.0))
    for dependency, utilization in most.items():
        yield Observation(utilization, {contract.DEPENDENCY: dependency})


def _observe_concurrency(_: CallbackOptions) -> Iterable[Observation]:
    in_flight: dict[str, int] = {}
    for limiter in _in_use(_concurrency):
        dependency = cardinality.bounded_dependency(limiter.dependency)
        in_flight[dependency] = in_flight.get(dependency, 0) + limiter.in_flight
    for dependency, calls in in_flight.items():
        yield Observation(calls, {contract.DEPENDENCY: dependency})


def _observe_storages(_: CallbackOptions) -> Iterable[Observation]:
    degraded: dict[str, bool] = {}
    for link in _in_use(_storages):
        kind = cardinality.bounded_storage(link.name)
        degraded[kind] = degraded.get(kind, False) or link.degraded
    for kind, value in degraded.items():
        yield Observation(int(value), {contract.STORAGE: kind})


observe(contract.BREAKER_STATUS, _observe_breakers)
observe(contract.BUDGET_UTILIZATION, _observe_budgets)
observe(contract.CONCURRENCY_IN_FLIGHT, _observe_concurrency)
observe(contract.STORAGE_DEGRADED, _observe_storages)
