"""Observable metrics of the breakers, budgets and storages that are in use."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from opentelemetry.metrics import CallbackOptions, Observation

from otel_resilience._internal.in_use import InUse
from otel_resilience.circuitbreaker.states import BreakerState
from otel_resilience.retries.budget import budgets_in_use
from otel_resilience.telemetry import cardinality, contract
from otel_resilience.telemetry.listener import global_listener, never_raise, observe

V = TypeVar("V")


class _Protecting(Protocol):
    @property
    def dependency(self) -> str:
        """What it protects."""
        ...


class Breaker(_Protecting, Protocol):
    """A circuit breaker whose state is shown."""

    @property
    def state(self) -> BreakerState:
        """Its state, that of a breaker in shadow mode included."""
        ...


class Concurrency(_Protecting, Protocol):
    """A limit on concurrent calls."""

    @property
    def in_flight(self) -> int:
        """Running calls."""
        ...


class ObservedStorage(Protocol):
    """A storage of shared state that may be unreachable."""

    @property
    def name(self) -> str:
        """Its kind."""
        ...

    @property
    def degraded(self) -> bool:
        """Whether it is unreachable."""
        ...


_WORST_FIRST = (
    BreakerState.FORCED_OPEN,
    BreakerState.OPEN,
    BreakerState.HALF_OPEN,
    BreakerState.SHADOW,
    BreakerState.CLOSED,
)
"""Which state is shown for a dependency with several breakers."""
_breakers: InUse[Breaker] = InUse()
_concurrency: InUse[Concurrency] = InUse()
_storages: InUse[ObservedStorage] = InUse()


@never_raise
def watch_breaker(breaker: Breaker) -> None:
    """Shows the breaker's state while it is in use. Called when a breaker is created."""
    _breakers.add(breaker)
    global_listener()


def living_breakers() -> tuple[Breaker, ...]:
    """Every circuit breaker of this process that is in use."""
    return tuple(_breakers)


@never_raise
def watch_budgets() -> None:
    """Shows the utilization of all budgets in use. Called when a policy gets one."""
    global_listener()


@never_raise
def watch_concurrency(limiter: Concurrency) -> None:
    """Shows the running calls while ``limiter`` is in use. Called when a limiter is created."""
    _concurrency.add(limiter)
    global_listener()


@never_raise
def watch_storage(link: ObservedStorage) -> None:
    """Shows whether shared state is reachable while ``link`` is in use. Called when a link is created."""
    _storages.add(link)
    global_listener()


def by_dependency(shown: Iterable[tuple[str, V]], join: Callable[[V, V], V]) -> Iterator[tuple[dict[str, str], V]]:
    """One value, with its attribute, for each of a bounded set of dependencies, combined from all of its name."""
    joined: dict[str, V] = {}
    for name, value in shown:
        dependency = cardinality.bounded_dependency(name)
        joined[dependency] = join(joined[dependency], value) if dependency in joined else value
    return (({contract.DEPENDENCY: dependency}, value) for dependency, value in joined.items())


def _observe_breakers(_: CallbackOptions) -> Iterable[Observation]:
    states = ((breaker.dependency, breaker.state) for breaker in _breakers)
    for attributes, shown in by_dependency(states, lambda *both: min(both, key=_WORST_FIRST.index)):
        for state in BreakerState:
            yield Observation(int(state is shown), {**attributes, contract.BREAKER_STATE: state.value})


def _observe_budgets(_: CallbackOptions) -> Iterable[Observation]:
    used = ((budget.dependency, budget.metrics().utilization) for budget in budgets_in_use)
    for attributes, most in by_dependency(used, max):
        yield Observation(most, attributes)


def _observe_concurrency(_: CallbackOptions) -> Iterable[Observation]:
    calls = ((limiter.dependency, limiter.in_flight) for limiter in _concurrency)
    for attributes, in_flight in by_dependency(calls, operator.add):
        yield Observation(in_flight, attributes)


def _observe_storages(_: CallbackOptions) -> Iterable[Observation]:
    degraded: dict[str, bool] = {}
    for link in _storages:
        kind = cardinality.bounded_storage(link.name)
        degraded[kind] = degraded.get(kind, False) or link.degraded
    for kind, value in degraded.items():
        yield Observation(int(value), {contract.STORAGE: kind})


observe(contract.BREAKER_STATUS, _observe_breakers)
observe(contract.BUDGET_UTILIZATION, _observe_budgets)
observe(contract.CONCURRENCY_IN_FLIGHT, _observe_concurrency)
observe(contract.STORAGE_DEGRADED, _observe_storages)
