"""Several breakers with one storage: all learn from each, and each uses local state without it."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import pytest

from otel_resilience import (
    BreakerState,
    CircuitBreakerConfig,
    CircuitOpenError,
    Policy,
    RetryBudgetConfig,
    RetryConfig,
    TransitionReason,
)
from otel_resilience.storage import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    MemoryStorage,
    SharedCircuitBreaker,
    SharedRetryBudget,
    SharedState,
    StorageError,
)
from otel_resilience.storage.links import Link
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.frail_storage import FrailStorage
from support.resilience import Driver, NotFoundFault, Script, ThrottledFault, TransientFault

CONFIG = CircuitBreakerConfig(consecutive_failures=3, failure_rate=None, reset_timeout=8, probe_lease=6)


@pytest.fixture
def storage(clock: FakeClock) -> FrailStorage:
    return FrailStorage(clock)


def _ahead(clock: FakeClock, seconds: float) -> float:
    return clock() + seconds


class Fleet:
    """Breakers of several processes; each has a clock of its own that shows another time."""

    def __init__(
        self, clock: FakeClock, storage: FrailStorage, size: int, config: CircuitBreakerConfig = CONFIG
    ) -> None:
        self.storage = storage
        self.shared = [SharedState(storage) for _ in range(size)]
        self.breakers = [
            SharedCircuitBreaker(
                "supplier", config, shared=shared, clock=functools.partial(_ahead, clock, 1e6 * number), rng=lambda: 1.0
            )
            for number, shared in enumerate(self.shared)
        ]

    def look(self) -> None:
        for breaker, shared in zip(self.breakers, self.shared, strict=True):
            breaker.refresh(shared.links[0])

    def states(self) -> list[str]:
        return [breaker.state.name for breaker in self.breakers]


def fail(breaker: SharedCircuitBreaker) -> None:
    def operation() -> None:
        raise TransientFault

    with pytest.raises(TransientFault):
        breaker.execute(operation)


def rejected(breaker: SharedCircuitBreaker) -> float:
    with pytest.raises(CircuitOpenError) as raised:
        breaker.execute(lambda: None)
    assert raised.value.retry_after is not None
    return raised.value.retry_after


def test_a_process_that_saw_a_failure_starts_no_call_after_another_opened_the_circuit(
    clock: FakeClock, storage: FrailStorage
) -> None:
    fleet = Fleet(clock, storage, 2)
    first, second = fleet.breakers
    fail(first)
    fail(second)
    fail(first)
    assert first.state is BreakerState.OPEN
    rejected(second)


def test_after_a_success_no_call_checks_the_storage(clock: FakeClock, storage: FrailStorage) -> None:
    (breaker,) = Fleet(clock, storage, 1).breakers
    fail(breaker)
    assert breaker.fast_permit == 0, "the next call asks first"
    breaker.execute(lambda: None)
    breaker.execute(lambda: None)
    assert breaker.fast_permit, "the success was reported, and no call has to check the storage"


def test_failures_of_all_together_open_the_circuit_of_all(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = Fleet(clock, storage, 3)
    for breaker in fleet.breakers:
        fail(breaker)
    fleet.look()
    assert fleet.states() == ["OPEN"] * 3
    assert [rejected(breaker) for breaker in fleet.breakers] == pytest.approx([8.0] * 3)


def test_a_success_between_breaks_the_run_of_failures(clock: FakeClock, storage: FrailStorage) -> None:
    first, second = Fleet(clock, storage, 2).breakers
    fail(first)
    fail(first)
    clock.advance(0.1)
    second.execute(lambda: None)
    clock.advance(0.1)
    fail(second)  # reported with its success, which came before
    fail(first)
    assert first.state.name == "CLOSED"
    fail(first)
    assert first.state.name == "OPEN"


def test_a_success_that_started_before_the_failures_does_not_end_their_run(
    clock: FakeClock, storage: FrailStorage
) -> None:
    first, second, third = Fleet(clock, storage, 3).breakers
    second.execute(lambda: None)
    third.execute(lambda: None)
    clock.advance(0.1)
    fail(first)
    clock.advance(0.1)
    fail(second)
    clock.advance(0.1)
    fail(third)
    assert third.state.name == "OPEN"


def test_a_success_amid_the_failures_leaves_the_last_of_them(clock: FakeClock, storage: FrailStorage) -> None:
    first, second = Fleet(clock, storage, 2).breakers
    fail(first)
    clock.advance(0.1)
    second.execute(lambda: None)
    clock.advance(0.1)
    fail(first)
    fail(second)
    assert second.state.name == "CLOSED"
    fail(second)
    assert second.state.name == "OPEN"


def test_the_rate_counts_what_everybody_did(clock: FakeClock, storage: FrailStorage) -> None:
    config = CircuitBreakerConfig(failure_rate=0.5, minimum_calls=10, consecutive_failures=None)
    first, second = Fleet(clock, storage, 2, config).breakers
    for _ in range(6):
        second.execute(lambda: None)
    for _ in range(5):
        fail(first)
    assert first.state.name == "CLOSED"  # its own window alone: five of five
    second.refresh(second._shared.links[0])  # 5 of 11
    fail(first)
    assert first.state.name == "OPEN"
    assert (first.metrics().calls, first.metrics().failures) == (12, 6)


def test_a_success_uses_no_storage(clock: FakeClock, storage: FrailStorage) -> None:
    (breaker,) = Fleet(clock, storage, 1).breakers
    before = len(storage.steps)
    for _ in range(100):
        breaker.execute(lambda: None)
    assert len(storage.steps) == before


def test_an_open_circuit_rejects_without_asking(clock: FakeClock, storage: FrailStorage) -> None:
    (breaker,) = Fleet(clock, storage, 1).breakers
    for _ in range(3):
        fail(breaker)
    before = len(storage.steps)
    for _ in range(100):
        rejected(breaker)
    assert len(storage.steps) == before


def opened(clock: FakeClock, storage: FrailStorage, size: int, **changes: Any) -> Fleet:
    fleet = Fleet(clock, storage, size, CONFIG if not changes else CircuitBreakerConfig(**changes))
    for _ in range(3):
        fail(fleet.breakers[0])
    fleet.look()
    assert set(fleet.states()) == {"OPEN"}
    return fleet


def test_one_probe_for_all_and_its_success_closes_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 3)
    clock.advance(8)
    permit = fleet.breakers[1].admit()
    for breaker in fleet.breakers:
        assert 0 < rejected(breaker) <= 6
    fleet.breakers[1].record_success(permit, fleet.breakers[1].clock())
    fleet.look()
    assert fleet.states() == ["CLOSED"] * 3
    assert [breaker.execute(lambda: 1) for breaker in fleet.breakers] == [1, 1, 1]


def test_a_failed_probe_doubles_the_open_time_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 2)
    clock.advance(8)
    fail(fleet.breakers[1])
    fleet.look()
    assert [rejected(breaker) for breaker in fleet.breakers] == pytest.approx([16.0] * 2)


def test_a_hint_of_the_server_opens_for_all_as_long(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = Fleet(clock, storage, 2)
    script = Script(TransientFault(), TransientFault(), TransientFault(retry_after=120.0))
    for _ in range(3):
        with pytest.raises(TransientFault):
            fleet.breakers[0].execute(script.play)
    fleet.look()
    assert rejected(fleet.breakers[1]) == pytest.approx(120.0)


def test_the_slot_of_a_probe_that_hangs_is_free_after_its_lease(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 2)
    clock.advance(8)
    hanging = fleet.breakers[0].admit()
    clock.advance(5.9)
    rejected(fleet.breakers[1])
    clock.advance(0.2)
    with RecordedTelemetry().recording() as recorded:
        permit = fleet.breakers[1].admit()
        assert recorded.event_names() == ["resilience.circuit_breaker.probe_expired"]
    fleet.breakers[0].release(hanging)
    rejected(fleet.breakers[0])  # a probe without a lease has no slot to give back
    fleet.breakers[1].record_success(permit, 0.0)
    assert fleet.breakers[1].state.name == "CLOSED"


@pytest.mark.fault("L3")
@pytest.mark.parametrize(("good", "state"), [(True, "CLOSED"), (False, "OPEN")])
def test_the_verdict_of_a_probe_holds_for_all_also_after_its_lease_expired(
    clock: FakeClock, storage: FrailStorage, good: bool, state: str
) -> None:
    fleet = opened(clock, storage, 3)
    clock.advance(8)
    slow = fleet.breakers[0].admit()
    clock.advance(6)
    other = fleet.breakers[1].admit()
    clock.advance(3)
    if good:
        fleet.breakers[0].record_success(slow, 0.0)
    else:
        error = TransientFault()
        fleet.breakers[0].record_error(slow, error.classification, 0.0, error)
    fleet.look()
    assert fleet.states() == [state] * 3
    fleet.breakers[1].record_success(other, 0.0)  # of an earlier generation by then
    fleet.look()
    assert fleet.states() == [state] * 3
    assert [breaker.metrics().stale_results for breaker in fleet.breakers] == [0, 1, 0]


@pytest.mark.parametrize("neutral", [ThrottledFault, KeyboardInterrupt])
def test_a_probe_without_a_verdict_gives_its_slot_back(
    clock: FakeClock, storage: FrailStorage, neutral: type[BaseException]
) -> None:
    fleet = opened(clock, storage, 2)
    clock.advance(8)

    def operation() -> None:
        raise neutral

    with pytest.raises(neutral):
        fleet.breakers[0].execute(operation)
    assert fleet.breakers[1].execute(lambda: "the next probe") == "the next probe"


def test_a_probe_whose_answer_a_local_step_overtook_is_granted_again(
    clock: FakeClock, storage: FrailStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (breaker,) = opened(clock, storage, 1).breakers
    clock.advance(8)
    step_of = storage.breaker
    granted: list[str] = []

    def overtaken(key: str, step: BreakerStep) -> BreakerView:
        view = step_of(key, step)
        if view.granted and not granted:
            granted.append(step.lease)
            storage.gone = True
            breaker.flush()  # as another thread, which gets no answer
            storage.gone = False
        return view

    monkeypatch.setattr(storage, "breaker", overtaken)
    assert breaker.execute(lambda: "the probe") == "the probe"
    assert len(granted) == 1
    assert breaker.state.name == "CLOSED"


def test_an_answer_that_proves_the_dependency_well_closes(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 1)
    clock.advance(8)
    with pytest.raises(NotFoundFault):
        fleet.breakers[0].execute(Script(NotFoundFault).play)
    assert fleet.states() == ["CLOSED"]


def test_results_from_before_a_change_of_state_count_for_nothing(clock: FakeClock, storage: FrailStorage) -> None:
    first, second = (fleet := Fleet(clock, storage, 2)).breakers
    late = second.admit()
    for _ in range(3):
        fail(first)
    clock.advance(8)
    first.execute(lambda: None)  # the probe: closed again
    second.record_error(late, TransientFault.verdict, second.clock(), TransientFault())  # it knows none of that yet
    assert fleet.states() == ["CLOSED"] * 2
    assert second.metrics().consecutive_failures == 0


def test_a_slow_success_counts_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    config = CircuitBreakerConfig(
        slow_call_duration=1, minimum_calls=4, slow_call_rate=0.5, failure_rate=None, consecutive_failures=None
    )
    fleet = Fleet(clock, storage, 2, config)
    for breaker in fleet.breakers * 2:
        breaker.execute(lambda: clock.advance(1))
    fleet.look()
    assert fleet.states() == ["OPEN"] * 2
    assert fleet.breakers[1].metrics().last_transition is not None


def test_a_hand_opens_and_closes_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = Fleet(clock, storage, 2)
    fleet.breakers[0].force_open()
    fleet.look()
    assert fleet.states() == ["FORCED_OPEN"] * 2
    clock.advance(1e6)
    with pytest.raises(CircuitOpenError) as raised:
        fleet.breakers[1].execute(lambda: None)
    assert raised.value.retry_after is None
    fleet.breakers[1].close()
    clock.advance(0.25)
    assert fleet.breakers[0].execute(lambda: 1) == 1  # no look needed: it asks before it rejects again
    fleet.breakers[1].force_open()
    fleet.breakers[0].reset()
    fleet.look()
    assert fleet.states() == ["CLOSED"] * 2


def test_shadow_mode_lets_everything_pass(clock: FakeClock, storage: FrailStorage) -> None:
    (breaker,) = Fleet(clock, storage, 1, CircuitBreakerConfig(consecutive_failures=1, shadow=True)).breakers
    fail(breaker)
    assert breaker.execute(lambda: 1) == 1
    assert breaker.state is BreakerState.SHADOW
    assert breaker.metrics().would_be_state is BreakerState.OPEN


def test_a_new_process_knows_what_the_others_know(clock: FakeClock, storage: FrailStorage) -> None:
    opened(clock, storage, 1)
    with RecordedTelemetry().recording() as recorded:
        (newcomer,) = Fleet(clock, storage, 1).breakers
        assert recorded.event_names() == []  # nothing changed
    assert rejected(newcomer) == pytest.approx(8.0)


def test_one_process_reports_the_cause_and_the_others_that_it_is_shared(
    clock: FakeClock, storage: FrailStorage
) -> None:
    fleet = Fleet(clock, storage, 2)
    with RecordedTelemetry().recording() as recorded:
        for _ in range(3):
            fail(fleet.breakers[0])
        fleet.look()
        reasons = [
            (event.log_record.attributes or {})["resilience.reason"]
            for event in recorded.events
            if event.log_record.event_name == "resilience.circuit_breaker.state_changed"
        ]
    assert reasons == [TransitionReason.CONSECUTIVE_FAILURES.value, TransitionReason.SHARED.value]


def test_without_the_storage_each_process_uses_local_state_which_is_reported_once(
    clock: FakeClock, storage: FrailStorage
) -> None:
    storage.gone = True
    with RecordedTelemetry().recording() as recorded:
        fleet = Fleet(clock, storage, 1)
        for _ in range(3):
            fail(fleet.breakers[0])
        assert fleet.states() == ["OPEN"]
        clock.advance(8)
        fleet.breakers[0].execute(lambda: None)
        assert fleet.states() == ["CLOSED"]
        assert recorded.event_names().count("resilience.storage.degraded") == 1
        assert fleet.shared[0].degraded
        told = {
            point.attributes["resilience.storage"]: point.value
            for point in recorded.points("resilience.storage.degraded")  # those of earlier tests may still be there
        }
        assert told[storage.name] == 1


def test_a_circuit_closed_meanwhile_is_not_opened_by_older_shared_state(
    clock: FakeClock, storage: FrailStorage
) -> None:
    fleet = opened(clock, storage, 2)
    storage.gone = True
    clock.advance(8)
    fleet.breakers[0].execute(lambda: None)  # a probe of its own
    assert fleet.states()[0] == "CLOSED"
    clock.advance(3)
    storage.gone = False
    with RecordedTelemetry().recording() as recorded:
        fleet.look()
        assert fleet.states() == ["CLOSED"] * 2
    assert "resilience.storage.restored" not in recorded.event_names()  # a look by hand; the link reports it at a step


def test_newer_shared_state_wins_over_what_was_found_out_alone(clock: FakeClock, storage: FrailStorage) -> None:
    first, second = (fleet := Fleet(clock, storage, 2)).breakers
    storage.gone = True
    for _ in range(3):
        fail(first)  # with local state
    storage.gone = False
    clock.advance(1)
    second.force_open()
    second.close()  # newer
    clock.advance(1)
    fleet.look()
    assert fleet.states() == ["CLOSED"] * 2


def test_what_one_found_out_alone_holds_for_all_afterwards(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = Fleet(clock, storage, 2)
    storage.gone = True
    for _ in range(3):
        fail(fleet.breakers[0])
    storage.gone = False
    fleet.look()
    fleet.look()
    assert fleet.states() == ["OPEN"] * 2


def test_a_storage_that_lost_everything_gets_the_state_of_the_processes(
    clock: FakeClock, storage: FrailStorage
) -> None:
    fleet = opened(clock, storage, 2)
    storage.real.documents.clear()
    fleet.look()
    fleet.look()
    assert fleet.states() == ["OPEN"] * 2
    assert storage.real.documents["breaker", "supplier"]["state"] == "open"
    assert rejected(Fleet(clock, storage, 1).breakers[0]) > 0


def test_a_verdict_that_the_storage_cannot_take_counts_here(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 1)
    clock.advance(8)
    permit = fleet.breakers[0].admit()
    clock.advance(1)
    storage.gone = True
    fleet.breakers[0].record_success(permit, fleet.breakers[0].clock())
    assert fleet.states() == ["CLOSED"]
    storage.gone = False
    fleet.look()
    assert storage.real.documents["breaker", "supplier"]["state"] == "closed"


def test_an_answer_that_was_overtaken_by_a_local_step_is_dropped(clock: FakeClock, storage: FrailStorage) -> None:
    breaker, other = Fleet(clock, storage, 2).breakers
    for _ in range(2):
        other.force_open()
        other.close()
    link = breaker._shared.links[0]
    on_its_way = breaker._send(link, Action.LOOK)
    storage.gone = True
    for _ in range(3):
        fail(breaker)
    assert not breaker._adopt(link, on_its_way)
    assert breaker.state.name == "OPEN"


def test_others_wait_for_a_probe_that_was_started_with_local_state(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 2)
    clock.advance(8)
    storage.gone = True
    permit = fleet.breakers[0].admit()
    clock.advance(1)
    storage.gone = False
    fleet.look()
    assert rejected(fleet.breakers[1]) == pytest.approx(5)  # the rest of its lease
    fleet.breakers[0].record_success(permit, fleet.breakers[0].clock())
    clock.advance(5)
    assert fleet.breakers[1].execute(lambda: 1) == 1


def test_scopes_keep_apart_what_has_the_same_name(clock: FakeClock) -> None:
    storage = MemoryStorage(clock=clock)
    one = SharedCircuitBreaker("s", CONFIG, shared=SharedState(storage, scope="a.example"), clock=clock)
    other = SharedCircuitBreaker("s", CONFIG, shared=SharedState(storage, scope="b.example"), clock=clock)
    for _ in range(3):
        fail(one)
    assert (one.state.name, other.execute(lambda: 1)) == ("OPEN", 1)


def test_threads_share_one_probe(clock: FakeClock, storage: FrailStorage) -> None:
    fleet = opened(clock, storage, 4)
    clock.advance(8)
    admitted: list[int] = []
    refused: list[float | None] = []
    barrier = threading.Barrier(16)

    def work(breaker: SharedCircuitBreaker) -> None:
        barrier.wait()
        try:
            admitted.append(breaker.admit())
        except CircuitOpenError as error:
            refused.append(error.retry_after)

    threads = [threading.Thread(target=work, args=(fleet.breakers[number % 4],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), len(refused)) == (1, 15)


def test_the_breakers_of_one_process_know_at_once(clock: FakeClock, storage: FrailStorage) -> None:
    shared = SharedState(storage)
    first, second = (SharedCircuitBreaker("supplier", CONFIG, shared=shared, clock=clock) for _ in range(2))
    for _ in range(3):
        fail(first)
    assert second.state.name == "OPEN"
    assert rejected(second) > 0


def make_policy(clock: FakeClock, storage: FrailStorage, **options: Any) -> Policy:
    settings: dict[str, Any] = {"retry": RetryConfig(), "breaker": CONFIG, "budget": RetryBudgetConfig(refill_rate=0.0)}
    return Policy(
        "supplier",
        shared=SharedState(storage),
        clock=clock,
        sleep=clock.sleep,
        async_sleep=clock.async_sleep,
        rng=lambda: 0.5,
        **{**settings, **options},
    )


def test_policies_of_all_processes_share_breaker_and_budget(
    clock: FakeClock, storage: FrailStorage, driver: Driver
) -> None:
    policies = [make_policy(clock, storage) for _ in range(3)]
    with pytest.raises(TransientFault):
        driver.execute(policies[0], Script(TransientFault))
    breaker = policies[1].breaker
    assert isinstance(breaker, SharedCircuitBreaker)
    breaker.refresh(breaker._shared.links[0])
    with pytest.raises(CircuitOpenError):
        driver.execute(policies[1], Script("value"))
    budget = policies[1].budget
    assert isinstance(budget, SharedRetryBudget)
    budget.refresh(budget._shared.links[0])
    assert budget.metrics().tokens == 80
    assert make_policy(clock, storage).budget.metrics().tokens == 80  # type: ignore[union-attr]
    clock.advance(8)
    assert driver.execute(policies[2], Script("value")) == "value"
    assert driver.execute(policies[2], Script(TransientFault, "value")) == "value"  # refunded


def test_one_bucket_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    config = RetryBudgetConfig(refill_rate=0.0)
    budgets = [SharedRetryBudget("supplier", config, shared=SharedState(storage), clock=clock) for _ in range(4)]
    granted = [budget.take(10) for _ in range(5) for budget in budgets]
    assert granted.count(True) == 10
    budgets[0].give(10)
    assert not budgets[1].take(10)  # not reported yet
    budgets[0].flush()
    assert budgets[1].take(10)
    metrics = [budget.metrics() for budget in budgets]
    assert sum(each.granted for each in metrics) == 11
    assert sum(each.denied for each in metrics) == 11


def test_tokens_accrue_while_a_process_runs_once_for_all(clock: FakeClock, storage: FrailStorage) -> None:
    config = RetryBudgetConfig(refill_rate=1.0)
    budgets = [SharedRetryBudget("supplier", config, shared=SharedState(storage), clock=clock) for _ in range(3)]
    for _ in range(10):
        assert budgets[0].take(10)
    for _ in range(5):
        clock.advance(1)
        for budget in budgets:
            budget.flush()
    assert budgets[2].metrics().tokens == pytest.approx(5)
    clock.advance(50)  # no process runs
    late = SharedRetryBudget("supplier", config, shared=SharedState(storage), clock=clock)
    assert late.metrics().tokens == pytest.approx(5)


def test_what_was_spent_alone_is_charged_afterwards(clock: FakeClock, storage: FrailStorage) -> None:
    config = RetryBudgetConfig(refill_rate=0.0)
    budget = SharedRetryBudget("supplier", config, shared=SharedState(storage), clock=clock)
    storage.gone = True
    assert all(budget.take(10) for _ in range(7))
    storage.gone = False
    assert budget.take(10)
    assert storage.real.documents["budget", "supplier"]["tokens"] == 20


@pytest.mark.parametrize("look", ["refresh", "flush", "retry"])
def test_what_is_paid_in_counts_once_however_many_answers_are_lost(clock: FakeClock, look: str) -> None:
    class Lossy(MemoryStorage):
        lost = False

        def budget(self, key: str, step: BudgetStep) -> BudgetView:
            view = super().budget(key, step)
            if self.lost:
                raise StorageError("the answer was lost") from ConnectionResetError()
            return view

    storage = Lossy(clock=clock)
    shared = SharedState(storage)
    budget = SharedRetryBudget("supplier", RetryBudgetConfig(refill_rate=0.0), shared=shared, clock=clock)
    assert budget.take(80)
    budget.give(5)
    storage.lost = True
    for _ in range(5):
        if look == "refresh":
            shared.links[0].refresh(budget)
        elif look == "flush":
            budget.flush()
        else:
            budget.take(0.001)
    storage.lost = False
    budget.flush()
    assert storage.documents["budget", "supplier"]["tokens"] == pytest.approx(25, abs=0.01)
    assert budget.metrics().tokens == pytest.approx(25, abs=0.01)


def test_pauses_add_up_to_the_longest(clock: FakeClock, storage: FrailStorage) -> None:
    shared = SharedState(storage, scope="x")
    assert shared.pause("supplier") == 0
    assert shared.pause("supplier", 100) == 100
    assert shared.pause("supplier", 30) == 100
    clock.advance(60)
    assert SharedState(storage, scope="x").pause("supplier") == 40
    storage.gone = True
    assert shared.pause("supplier") == 0


def test_shared_state_needs_a_storage() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SharedState()


def test_some_take_part_while_others_are_told_of_a_change() -> None:
    """Policies are made in any thread, also while the breaker of another one opens."""

    class Member:
        def __init__(self, key: str) -> None:
            self.key = key

        def refresh(self, link: Link) -> None: ...

        def flush(self) -> None: ...

    shared, source = SharedState(MemoryStorage()), Member("supplier")
    members = [Member("other") for _ in range(20_000)]
    shared.join(source)

    def join(some: list[Member]) -> None:
        for member in some:
            shared.join(member)

    joining = [threading.Thread(target=join, args=(members[number::4],)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in joining:
            thread.start()
        while any(thread.is_alive() for thread in joining):
            shared.changed(source, shared.links[0])
    finally:
        sys.setswitchinterval(interval)
        for thread in joining:
            thread.join()
