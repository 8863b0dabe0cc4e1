"""How two views of one breaker are merged: the newer state wins, and no generation is repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_resilience import BreakerState, CircuitBreakerConfig, RetryBudgetConfig
from otel_resilience.circuitbreaker.machine import BreakerMachine
from otel_resilience.circuitbreaker.window import SlidingWindow
from otel_resilience.storage import Action, BreakerStep, BreakerView, BudgetStep, Claim, documents
from otel_resilience.storage.protocol import Merge

NOW = 1000.0
CONFIG = CircuitBreakerConfig()


def held(generation: int, state: str, age: float, open_left: float = 0.0) -> dict[str, Any]:
    """What the storage holds."""
    return {
        "generation": generation,
        "state": state,
        "changed_at": NOW - age,
        "open_until": NOW + open_left,
        "open_for": 60.0,
        "openings": 2,
    }


def merged(document: dict[str, Any], claim: Claim, now: float = NOW) -> tuple[int, str, float]:
    step = BreakerStep(action=Action.LOOK, config=CONFIG, lease_for=6, claim=claim)
    view = documents.breaker(document, step, now)
    return view.generation, view.state.value, view.open_left


CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN


@pytest.mark.parametrize(
    ("document", "claim", "expected"),
    [
        pytest.param({}, Claim(7, OPEN, 5, 20, 1, 5), (7, "open", 20), id="an empty storage takes everything"),
        pytest.param(held(9, "open", 30, 10), Claim(4, CLOSED, 5, 0, 0, 50), (10, "closed", 0), id="newer, behind"),
        pytest.param(held(4, "open", 30, 10), Claim(9, CLOSED, 5, 0, 0, 50), (9, "closed", 0), id="newer, ahead"),
        pytest.param(held(4, "open", 5, 10), Claim(9, CLOSED, 30, 0, 0, 50), (10, "open", 10), id="older, ahead"),
        pytest.param(held(9, "open", 5, 10), Claim(4, CLOSED, 30, 0, 0, 50), (9, "open", 10), id="older, behind"),
        pytest.param(held(4, "open", 5, 10), Claim(4, CLOSED, 5, 0, 0, 50), (5, "open", 10), id="of the same age"),
        pytest.param(held(4, "open", 5, 10), Claim(6, OPEN, 1, 25, 1, 5), (6, "open", 25), id="open for longer"),
        pytest.param(held(4, "open", 5, 10), Claim(6, OPEN, 1, 3, 1, 5), (6, "open", 10), id="open for less long"),
        pytest.param(held(4, "closed", 5), Claim(6, CLOSED, 1, 0, 0, 5), (6, "closed", 0), id="both closed"),
        pytest.param(
            held(4, "half_open", 5), Claim(3, OPEN, 1, 4, 0, 5), (5, "open", 4), id="a probe begun alone is newer"
        ),
    ],
)
def test_the_newer_state_wins(document: dict[str, Any], claim: Claim, expected: tuple[int, str, float]) -> None:
    assert merged(document, claim) == expected


@pytest.mark.parametrize(("openings", "expected"), [(1, 2), (3, 3)])
def test_of_two_open_states_the_larger_number_of_openings_counts(openings: int, expected: int) -> None:
    claim = Claim(6, OPEN, 1, 3, openings, 5)
    step = BreakerStep(action=Action.LOOK, config=CONFIG, lease_for=6, claim=claim)
    assert documents.breaker(held(4, "open", 5, 10), step, NOW).openings == expected


@pytest.mark.parametrize(
    ("started", "run"),
    [(NOW - 0.25, 3), (NOW, 1), (NOW + 0.75, 1), (NOW + 1.75, 1), (NOW + 2, 0), (NOW + 3, 0)],
)
def test_a_success_ends_the_failures_that_came_before_it_started(started: float, run: int) -> None:
    """Failures at 0, 1 and 2 seconds; a success that is reported at 4."""
    document: dict[str, Any] = {}
    for second in range(3):
        documents.breaker(document, BreakerStep(action=Action.FAIL, config=CONFIG, lease_for=6), NOW + second)
    report = BreakerStep(action=Action.LOOK, config=CONFIG, lease_for=6, successes=1, success_age=NOW + 4 - started)
    assert documents.breaker(document, report, NOW + 4).run == run


def test_the_failure_that_a_success_left_begins_another_run() -> None:
    document: dict[str, Any] = {}
    fail = BreakerStep(action=Action.FAIL, config=CONFIG, lease_for=6)

    def report(began: float) -> int:
        step = BreakerStep(action=Action.LOOK, config=CONFIG, lease_for=6, successes=1, success_age=NOW + 4 - began)
        return documents.breaker(document, step, NOW + 4).run

    for second in range(3):
        documents.breaker(document, fail, NOW + second)
    assert report(NOW + 0.75) == 1
    documents.breaker(document, fail, NOW + 3)
    assert report(NOW + 1.5) == 2  # before that run
    assert report(NOW + 2) == 1


def test_the_state_after_a_merge_gets_the_next_number() -> None:
    claim = Claim(9, CLOSED, 1, 0, 0, 5)
    step = BreakerStep(action=Action.FORCE_OPEN, config=CONFIG, lease_for=6, claim=claim)
    assert documents.breaker(held(4, "closed", 5), step, NOW).generation == 10


def test_merging_twice_is_merging_once() -> None:
    document = held(4, "open", 30, 10)
    claim = Claim(9, CLOSED, 5, 0, 0, 50)
    assert merged(document, claim) == merged(document, claim)


def test_a_clock_that_goes_back_prolongs_an_open_time_by_no_more_than_itself() -> None:
    document: dict[str, Any] = {}
    step = BreakerStep(
        action=Action.FAIL, config=CircuitBreakerConfig(consecutive_failures=1, reset_timeout=8), lease_for=6
    )
    assert documents.breaker(document, step, NOW).open_left == 4
    look = BreakerStep(action=Action.PROBE, config=CONFIG, lease_for=6, lease="a")
    assert documents.breaker(document, look, NOW - 1e6).open_left == 4
    assert documents.breaker(document, look, NOW + 4).granted
    assert documents.breaker(document, look, NOW - 1e6).busy_for == 6


def test_a_document_opens_with_the_failure_that_reaches_the_threshold() -> None:
    document: dict[str, Any] = {}
    fail = BreakerStep(action=Action.FAIL, config=CircuitBreakerConfig(failure_threshold=3), lease_for=6)
    states = [documents.breaker(document, fail, NOW + second).state for second in range(3)]
    assert states == [CLOSED, CLOSED, OPEN]


def test_a_document_stays_small() -> None:
    document: dict[str, Any] = {}
    config = CircuitBreakerConfig(failure_threshold=10**6, monitoring_period=60)
    for second in range(5000):
        step = BreakerStep(action=Action.FAIL, config=config, lease_for=6, successes=3)
        view = documents.breaker(document, step, NOW + second)
    assert len(document["window"]) <= 10
    assert view.failures <= 60


@pytest.mark.parametrize(("later", "failures"), [(8.75, 2), (9.75, 2), (10, 1)])
def test_a_failure_counts_until_its_bucket_is_a_period_old(later: float, failures: int) -> None:
    document: dict[str, Any] = {}
    step = BreakerStep(action=Action.FAIL, config=CircuitBreakerConfig(monitoring_period=10), lease_for=6)
    for at in (NOW, NOW + later):
        view = documents.breaker(document, step, at)
    look = BreakerStep(action=Action.LOOK, config=step.config, lease_for=6)
    assert view.failures == documents.breaker(document, look, NOW + later).failures == failures


def test_a_window_takes_over_no_bucket_that_is_a_period_older_than_its_last() -> None:
    window = SlidingWindow(10)
    window.load([[90, 7, 7, 7], [91, 1, 0, 0], [100, 0, 2, 1]])
    assert (window.successes, window.failures, window.slow) == (1, 2, 1)
    assert window.dump() == [[91, 1, 0, 0], [100, 0, 2, 1]]


@pytest.mark.parametrize("periods", [(60.0, 30.0), (30.0, 60.0)])
def test_another_period_starts_with_an_empty_window(periods: tuple[float, float]) -> None:
    document: dict[str, Any] = {}
    for period in periods:
        config = CircuitBreakerConfig(monitoring_period=period)
        step = BreakerStep(action=Action.FAIL, config=config, lease_for=6)
        assert documents.breaker(document, step, NOW).failures == 1


@pytest.mark.parametrize(
    ("merge", "expected"), [(Merge.START, 50.0), (Merge.LOWER, 20.0), (Merge.REPLACE, 20.0)], ids=str
)
def test_a_balance_known_elsewhere(merge: Merge, expected: float) -> None:
    config = RetryBudgetConfig(refill_rate=0)
    empty: dict[str, Any] = {}
    assert documents.budget(empty, BudgetStep(config=config, claim=20, merge=merge), NOW).tokens == 20
    known: dict[str, Any] = {"tokens": 50.0, "at": NOW}
    assert documents.budget(known, BudgetStep(config=config, claim=20, merge=merge), NOW).tokens == expected
    known = {"tokens": 5.0, "at": NOW}
    tokens = documents.budget(known, BudgetStep(config=config, claim=20, merge=merge), NOW).tokens
    assert tokens == (20 if merge is Merge.REPLACE else 5)


PROBING = CircuitBreakerConfig(consecutive_failures=1, reset_timeout=8)


def half_open_with_an_expired_probe(document: dict[str, Any]) -> int:
    """Probe ``a`` lost its slot to probe ``b``. Returns the generation of both."""
    documents.breaker(document, BreakerStep(action=Action.FAIL, config=PROBING, lease_for=6), NOW)
    for lease, at in (("a", NOW + 8), ("b", NOW + 14)):
        step = BreakerStep(action=Action.PROBE, config=PROBING, lease_for=6, lease=lease)
        view = documents.breaker(document, step, at)
        assert view.granted
    assert view.expired == 1
    return view.generation


def settled(document: dict[str, Any], action: Action, lease: str, generation: int) -> tuple[str, bool]:
    step = BreakerStep(action=action, config=PROBING, lease_for=6, lease=lease, generation=generation)
    view = documents.breaker(document, step, NOW + 17)
    return view.state.value, view.stale


@pytest.mark.parametrize(("action", "state"), [(Action.SUCCEED, "closed"), (Action.FAIL, "open")])
def test_the_result_of_a_probe_counts_after_its_lease_expired(action: Action, state: str) -> None:
    document: dict[str, Any] = {}
    generation = half_open_with_an_expired_probe(document)
    assert settled(document, action, "a", generation) == (state, False)
    assert settled(document, Action.SUCCEED, "b", generation) == (state, True)  # of an earlier generation by then


def test_an_expired_probe_that_is_released_gives_back_no_slot_of_another() -> None:
    document: dict[str, Any] = {}
    generation = half_open_with_an_expired_probe(document)
    assert settled(document, Action.RELEASE, "a", generation) == ("half_open", False)
    assert list(document["leases"]) == ["b"]


def test_a_good_probe_frees_its_slot_and_counts_towards_closing() -> None:
    document: dict[str, Any] = {}
    config = CircuitBreakerConfig(consecutive_failures=1, reset_timeout=8, half_open_max_calls=2)

    def step(action: Action, lease: str = "") -> BreakerView:
        generation = document.get("generation", 0)
        asked = BreakerStep(action=action, config=config, lease_for=6, lease=lease, generation=generation)
        return documents.breaker(document, asked, NOW + (8 if lease else 0))

    assert step(Action.FAIL).state is OPEN
    assert step(Action.PROBE, "a").granted
    assert step(Action.PROBE, "b").granted
    assert step(Action.SUCCEED, "a").state is BreakerState.HALF_OPEN
    assert list(document["leases"]) == ["b"]
    assert step(Action.PROBE, "c").opened_age == 8
    closed = step(Action.SUCCEED, "c")
    assert (closed.state, closed.openings) == (CLOSED, 0)


def test_nothing_is_kept_of_expired_leases() -> None:
    document: dict[str, Any] = {}
    half_open_with_an_expired_probe(document)
    for number in range(100):
        step = BreakerStep(action=Action.PROBE, config=PROBING, lease_for=6, lease=f"{number}")
        assert documents.breaker(document, step, NOW + 100 + 6 * number).granted
    assert list(document["leases"]) == ["99"]


STEPPED = [
    CircuitBreakerConfig(monitoring_period=10),
    CircuitBreakerConfig(failure_threshold=3, monitoring_period=10, reset_timeout=8),
    CircuitBreakerConfig(consecutive_failures=3, monitoring_period=10, half_open_max_calls=2, reset_timeout=2),
    CircuitBreakerConfig(minimum_calls=4, monitoring_period=10, slow_call_duration=1, failure_rate=None),
]


@settings(max_examples=200, deadline=None)
@given(
    config=st.sampled_from(STEPPED),
    plan=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 1, 4, 20]),
            st.sampled_from([*Action, Action.FAIL, Action.FAIL, Action.PROBE, Action.PROBE, Action.SUCCEED]),
            st.sampled_from("abc"),
            st.integers(0, 2),
        ),
        max_size=40,
    ),
)
def test_a_machine_kept_as_a_document_is_the_machine_itself(
    config: CircuitBreakerConfig, plan: list[tuple[int, Action, str, int]]
) -> None:
    """One is written and read again between any two steps, the other lives on."""
    now = NOW
    text = "{}"
    machine = BreakerMachine.load({}, config, now, lease=6, fraction=lambda: 0.5)
    for quarters, action, lease, successes in plan:
        now += quarters / 4
        closed = machine.state is CLOSED
        if action is Action.SUCCEED and closed:
            continue  # successes of the closed state come with another step
        probe = "" if closed else lease
        step = BreakerStep(
            action=action, config=config, lease_for=6, generation=machine.generation, successes=successes,
            fraction=0.5, lease=lease if action is Action.PROBE else probe,
        )  # fmt: skip
        document = json.loads(text)
        view = documents.breaker(document, step, now)
        text = json.dumps(document)

        machine.window.roll(now)
        if closed and successes:
            machine.count_successes(successes, now, began=now)
        permit = machine.generation if closed else lease
        if not closed and machine.state is BreakerState.HALF_OPEN and not machine.holds(lease):
            permit = machine.generation + 1
        stale, granted = machine.stale_results, False
        if action is Action.FAIL:
            machine.fail(permit, now)
        elif action is Action.SLOW and closed:
            machine.mark_slow(now)
        elif action is Action.PROBE:
            machine.tick(now)
            granted = machine.admit_probe(lease, now)
        elif action is Action.SUCCEED:
            machine.succeed(permit, now)
        elif action is Action.RELEASE:
            machine.forget(lease if not closed else "")
        elif action in (Action.FORCE_OPEN, Action.CLOSE, Action.RESET):
            getattr(machine, action.value)(now)
            stale = machine.stale_results

        window = machine.window
        assert (view.generation, view.state, view.openings) == (machine.generation, machine.state, machine.openings)
        assert (view.failures, view.calls, view.slow) == (window.failures, window.calls, window.slow)
        assert view.run == machine.consecutive_failures
        assert document["leases"] == machine._leases
        assert document["good"] == machine._probe_successes
        assert view.granted is granted
        assert view.stale is (machine.stale_results > stale or (action is Action.SLOW and not closed))
        assert view.open_left == (machine.retry_after(now) if machine.state is OPEN else 0)
        assert view.age == (None if machine.last_transition is None and machine.since < 0 else now - machine.since)
        assert (machine.last_transition is None) == ("reason" not in document)
        if machine.last_transition is not None:
            assert document["reason"] == machine.last_transition.reason.value
