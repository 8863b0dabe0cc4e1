"""Many clients of one storage, with every kind of fault, checked for what must never happen.

Clients have clocks that show different times, crash and restart. The storage answers late, loses steps, loses
answers, loses everything. Time is the test's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_resilience import BreakerState, CircuitBreakerConfig, CircuitOpenError, RetryBudgetConfig
from otel_resilience.storage import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    MemoryStorage,
    RateStep,
    RateView,
    SharedCircuitBreaker,
    SharedRetryBudget,
    SharedState,
    StorageError,
)
from otel_resilience.testing import FakeClock
from support.resilience import TransientFault

LEASE = 6.0
CONFIGS = [
    CircuitBreakerConfig(consecutive_failures=2, failure_rate=None, reset_timeout=4, probe_lease=LEASE),
    CircuitBreakerConfig(failure_threshold=3, monitoring_period=20, reset_timeout=8, probe_lease=LEASE),
    CircuitBreakerConfig(consecutive_failures=2, half_open_max_calls=2, reset_timeout=4, probe_lease=LEASE),
]
BUDGET = RetryBudgetConfig(capacity=20, transient_cost=5, throttle_cost=2, success_credit=1, refill_rate=0.25)
FAULTS = ["lost", "answer lost"]


@dataclasses.dataclass(eq=False)
class Grant:
    """A probe that the storage allowed."""

    lease: str
    until: float


class Network:
    """A storage, and what happens on the way to it. Looks at every step as the oracle."""

    name = "memory"
    remote = False

    def __init__(self, clock: FakeClock, slots: int) -> None:
        self.clock = clock
        self.slots = slots
        self.real = MemoryStorage(clock=clock)
        self.faults: list[str] = []
        self.latency = 0.0
        self.grants: list[Grant] = []
        self.generation = 0
        self.spent = 0.0
        self.paid_in = 0.0
        self.began = clock()

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        fault = self._way_there()
        view = self.real.breaker(key, step)
        assert view.generation >= self.generation
        self.generation = view.generation
        if step.action in (Action.SUCCEED, Action.FAIL, Action.RELEASE):
            self.grants = [grant for grant in self.grants if grant.lease != step.lease]
        if view.granted:
            now = self.clock()
            self.grants = [grant for grant in self.grants if grant.until > now]
            self.grants.append(Grant(step.lease, now + LEASE))
            assert len(self.grants) <= self.slots, "two probes in one lease"
        self._way_back(fault)
        return view

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        fault = self._way_there()
        view = self.real.budget(key, step)
        assert 0 <= view.tokens <= BUDGET.capacity
        self.paid_in += max(0.0, step.given)
        self.spent += step.cost if view.granted else 0.0
        accrued = (self.clock() - self.began) * BUDGET.refill_rate
        assert self.spent <= BUDGET.capacity + self.paid_in + accrued + 1e-6
        self._way_back(fault)
        return view

    def rate(self, key: str, step: RateStep) -> RateView:
        return self.real.rate(key, step)

    def pause(self, key: str, seconds: float) -> float:
        return self.real.pause(key, seconds)

    def ping(self) -> None: ...

    def close(self) -> None: ...

    def lose_everything(self) -> None:
        self.real.documents.clear()
        self.grants.clear()
        self.generation = 0
        self.spent = self.paid_in = 0.0
        self.began = self.clock()

    def _way_there(self) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        self.clock.advance(self.latency)
        if fault == "lost":
            raise StorageError("lost") from ConnectionResetError()
        return fault

    def _way_back(self, fault: str) -> None:
        self.clock.advance(self.latency)
        if fault:
            raise StorageError("answer lost") from ConnectionResetError()


class Way:
    """The way of one client to the storage; it can be cut for this client alone."""

    name = "memory"
    remote = False

    def __init__(self, network: Network) -> None:
        self.network = network
        self.cut = False

    def _check(self) -> None:
        if self.cut:
            raise StorageError("cut") from ConnectionResetError()

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        self._check()
        return self.network.breaker(key, step)

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        self._check()
        return self.network.budget(key, step)

    def rate(self, key: str, step: RateStep) -> RateView:
        self._check()
        return self.network.rate(key, step)

    def pause(self, key: str, seconds: float) -> float:
        return self.network.pause(key, seconds)

    def ping(self) -> None: ...

    def close(self) -> None: ...


class Client:
    """One process: a clock that shows another time, a breaker, a budget, calls under way."""

    def __init__(self, network: Network, config: CircuitBreakerConfig, skew: float) -> None:
        def clock() -> float:
            return network.clock() + skew

        self.way = Way(network)
        shared = SharedState(self.way)
        self.link = shared.links[0]
        self.breaker = SharedCircuitBreaker("supplier", config, shared=shared, clock=clock, rng=lambda: 0.5)
        self.budget = SharedRetryBudget("supplier", BUDGET, shared=shared, clock=clock)
        self.calls: list[int] = []
        self.generation = 0

    def look(self) -> None:
        self.link.refresh(self.breaker)
        self.link.refresh(self.budget)


class FleetModel(RuleBasedStateMachine):
    @initialize(config=st.sampled_from(CONFIGS), size=st.integers(2, 4))
    def begin(self, config: CircuitBreakerConfig, size: int) -> None:
        self.clock = FakeClock()
        self.config = config
        self.network = Network(self.clock, config.half_open_max_calls)
        self.clients = [Client(self.network, config, 1000.0 * number) for number in range(size)]

    def client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    @rule(quarters=st.one_of(st.integers(1, 8), st.integers(1, 100)))
    def time_passes(self, quarters: int) -> None:
        self.clock.advance(quarters / 4)

    @rule(number=st.integers(0, 3))
    def a_call_begins(self, number: int) -> None:
        client = self.client(number)
        with contextlib.suppress(CircuitOpenError):
            client.calls.append(client.breaker.admit())

    @rule(number=st.integers(0, 3), verdict=st.sampled_from(["failure", "failure", "success", "cancelled"]))
    def a_call_ends(self, number: int, verdict: str) -> None:
        client = self.client(number)
        if not client.calls:
            return
        permit = client.calls.pop(0)
        if verdict == "failure":
            error = TransientFault()
            client.breaker.record_error(permit, error.classification, client.breaker.clock(), error)
        elif verdict == "success":
            client.breaker.record_success(permit, client.breaker.clock())
        else:
            client.breaker.release(permit)

    @rule(number=st.integers(0, 3))
    def a_call_fails_at_once(self, number: int) -> None:
        client = self.client(number)
        self.a_call_begins(number)
        if client.calls:
            client.calls.insert(0, client.calls.pop())
            self.a_call_ends(number, "failure")

    @rule(number=st.integers(0, 3))
    def the_open_time_ends_and_all_come(self, number: int) -> None:
        breaker = self.client(number).breaker
        left = breaker.metrics().retry_after
        if breaker.state is not BreakerState.CLOSED and left:
            self.clock.advance(left)
        for each in range(len(self.clients)):
            self.a_call_begins(each)

    @rule(number=st.integers(0, 3))
    def a_client_looks(self, number: int) -> None:
        self.client(number).look()

    @rule(number=st.integers(0, 3), cost=st.sampled_from([2.0, 5.0]))
    def a_retry_is_paid(self, number: int, cost: float) -> None:
        self.client(number).budget.take(cost)

    @rule(number=st.integers(0, 3), tokens=st.sampled_from([1.0, 5.0]))
    def a_success_pays_in(self, number: int, tokens: float) -> None:
        self.client(number).budget.give(tokens)

    @rule(number=st.integers(0, 3), by_hand=st.sampled_from(["force_open", "close", "reset"]))
    def a_hand_steps_in(self, number: int, by_hand: str) -> None:
        getattr(self.client(number).breaker, by_hand)()

    @rule(number=st.integers(0, 3), skew=st.sampled_from([-5e6, 0.0, 3.25, 1e9]))
    def a_client_crashes_and_restarts(self, number: int, skew: float) -> None:
        self.clients[number % len(self.clients)] = Client(self.network, self.config, skew)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6))
    def steps_will_be_lost(self, faults: list[str]) -> None:
        self.network.faults = list(faults)

    @rule(number=st.integers(0, 3), cut=st.booleans())
    def one_is_cut_off(self, number: int, cut: bool) -> None:
        self.client(number).way.cut = cut

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.25, 1.0]))
    def the_way_becomes(self, seconds: float) -> None:
        self.network.latency = seconds

    @precondition(lambda self: self.network.generation > 0)
    @rule()
    def the_storage_loses_everything(self) -> None:
        self.network.lose_everything()

    @rule()
    def calm_returns_and_all_agree(self) -> None:
        self.network.faults.clear()
        self.network.latency = 0.0
        for client in self.clients:
            client.way.cut = False
        known = max(client.breaker._generation for client in self.clients)
        for _ in range(2):  # the first round informs the storage, the second everybody
            for client in self.clients:
                client.look()
                client.look()
        document: dict[str, Any] = self.network.real.documents["breaker", "supplier"]
        assert document["generation"] >= known
        assert {client.breaker._machine.state.value for client in self.clients} == {document["state"]}
        assert {client.breaker._generation for client in self.clients} == {document["generation"]}

    @invariant()
    def nothing_goes_back(self) -> None:
        for client in getattr(self, "clients", []):
            assert client.breaker._generation >= client.generation
            client.generation = client.breaker._generation
            assert 0 <= client.budget.metrics().tokens <= BUDGET.capacity


FleetModel.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestFleetModel = FleetModel.TestCase
