"""One bucket per dependency name for all its callers; memory does not grow with the number of policies created."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_resilience import Policy, RetryBudget, RetryBudgetConfig, RetryConfig, RetryService, retry
from otel_resilience.retries.budget import budgets_in_use
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support import module_state

THREE = RetryConfig(max_attempts=3, base_delay=0)


class Down:
    """A dependency that is down, and how many requests it got."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self) -> None:
        self.requests += 1
        raise ConnectionResetError


def call_in_vain(functions: list[Callable[[], object]], calls: int) -> None:
    for number in range(calls):
        with pytest.raises(ConnectionResetError):
            functions[number % len(functions)]()


def decorated(down: Down) -> Callable[[], object]:
    @retry(THREE, on=None, dependency="supplier")
    def function() -> None:
        down()

    return function


def policy_of_its_own(down: Down) -> Callable[[], object]:
    policy = Policy("supplier", retry=THREE)
    return lambda: policy.execute(down)


def policy_with_the_same_sizes(down: Down) -> Callable[[], object]:
    policy = Policy("supplier", retry=THREE, budget=RetryBudgetConfig())
    return lambda: policy.execute(down)


def service_of_its_own(down: Down) -> Callable[[], object]:
    service = RetryService("supplier")
    return lambda: service.execute_with_retry(down, THREE)


WAYS = [decorated, policy_of_its_own, policy_with_the_same_sizes, service_of_its_own]


@pytest.mark.fault("L13")
@pytest.mark.parametrize("way", WAYS)
def test_twenty_that_call_one_dependency_draw_on_one_bucket(way: Callable[[Down], Callable[[], object]]) -> None:
    down = Down()
    call_in_vain([way(down) for _ in range(20)], 1000)
    assert down.requests == 1010  # 100 tokens pay for ten retries


@pytest.mark.fault("L13")
def test_all_ways_of_naming_a_dependency_lead_to_the_same_bucket() -> None:
    down = Down()
    call_in_vain([way(down) for way in WAYS], 1000)
    assert down.requests == 1010


@pytest.mark.fault("L13")
def test_functions_that_name_no_dependency_do_not_starve_each_other() -> None:
    down, well = Down(), [0]

    @retry(THREE, on=None)
    def to_the_dead() -> None:
        down()

    @retry(THREE, on=None)
    def to_the_living() -> str:
        well[0] += 1
        if well[0] % 2:
            raise ConnectionResetError
        return "value"

    call_in_vain([to_the_dead], 100)
    assert down.requests == 110
    assert to_the_living() == "value"


def test_services_that_name_no_dependency_have_a_bucket_each() -> None:
    down = Down()
    first, second = RetryService(), RetryService()
    call_in_vain([lambda: first.execute_with_retry(down, THREE)], 20)
    assert second.budget.tokens == 100


def test_a_budget_that_is_handed_in_stays_as_it_is() -> None:
    own = RetryBudget("supplier")
    assert Policy("supplier", retry=THREE, budget=own).budget is own
    assert Policy("supplier", retry=THREE).budget is not own


def test_another_clock_is_another_bucket() -> None:
    first, second = FakeClock(), FakeClock()
    budgets = [Policy("supplier", retry=THREE, clock=clock).budget for clock in (first, second, first)]
    assert budgets[0] is not budgets[1]
    assert budgets[0] is budgets[2]


def test_the_methods_of_a_clock_are_one_clock() -> None:
    class Clock:
        def read(self) -> float:
            return 1.0

    clock = Clock()
    budgets = [RetryBudget.for_dependency("supplier", clock=clock.read) for _ in range(2)]
    assert budgets[0] is budgets[1]


def test_different_sizes_for_one_dependency_are_logged_once_with_both(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="otel_resilience"):
        policies = [Policy("supplier", retry=THREE)]
        policies += [Policy("supplier", retry=THREE, budget=RetryBudgetConfig(capacity=30)) for _ in range(5)]
    (record,) = caplog.records
    assert "capacity=100.0" in record.getMessage()
    assert "capacity=30" in record.getMessage()
    assert {policy.budget.config.capacity for policy in policies if policy.budget} == {100.0, 30}
    assert len({id(policy.budget) for policy in policies}) == 2


def test_a_bucket_is_large_enough_for_all_who_share_it() -> None:
    budget = RetryBudget.for_dependency("supplier")
    budget.take(50)
    assert RetryBudget.for_dependency("supplier", at_least=290) is budget
    assert RetryBudget.for_dependency("supplier", at_least=200) is budget
    assert budget.config.capacity == 290
    assert budget.metrics().tokens == pytest.approx(240, abs=0.1)
    assert RetryBudget.for_dependency("supplier").metrics().utilization == pytest.approx(50 / 290, abs=0.01)


def test_a_bucket_lasts_as_long_as_someone_uses_it() -> None:
    first = RetryBudget.for_dependency("supplier")
    first.take(50)
    assert RetryBudget.for_dependency("supplier") is first
    del first
    gc.collect()
    assert RetryBudget.for_dependency("supplier").tokens == 100


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_forked_child_has_its_own_buckets_breakers_and_telemetry() -> None:
    script = textwrap.dedent(
        """
        import os, sys, threading
        from otel_resilience import CircuitBreaker, CircuitBreakerConfig, RetryBudget
        from otel_resilience.retries import budget
        from otel_resilience.testing import RecordedTelemetry

        bucket = RetryBudget.for_dependency("supplier")
        bucket.take(50)
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(consecutive_failures=1, reset_timeout=0.001))
        recorded = RecordedTelemetry()
        held, release = threading.Event(), threading.Event()

        def hold():
            with budget._making, bucket._lock, breaker._lock:
                held.set()
                release.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(60)
        with recorded.recording():
            child = os.fork()
            if child == 0:
                inherited = RetryBudget.for_dependency("supplier")
                ok = inherited is bucket and inherited.take(40) and not inherited.take(40)
                ok = ok and RetryBudget.for_dependency("other").take(10)
                breaker.force_open()
                ok = ok and recorded.event_names() == ["resilience.circuit_breaker.state_changed"]
                shown = {
                    point.attributes["resilience.circuit_breaker.state"]
                    for point in recorded.points("resilience.circuit_breaker.status")
                    if point.value
                }
                os._exit(0 if ok and shown == {"forced_open"} else 1)
        release.set()
        thread.join()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.exit(status or not (bucket.take(40) and breaker.state.name == "CLOSED"))
        """
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


# Nothing grows


@pytest.mark.fault("L14")
@pytest.mark.parametrize("observed", ["plain", "observed"])
def test_nothing_is_kept_of_policies_breakers_budgets_and_storages_that_are_gone(observed: str) -> None:
    command = [sys.executable, str(Path(module_state.__file__)), observed]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    before, after = map(int, result.stdout.split())
    assert after <= before


@pytest.mark.fault("L14")
def test_twenty_thousand_policies_on_one_budget_watch_it_once() -> None:
    budget = RetryBudget("watched-once")
    before = len(list(budgets_in_use))
    policies = [Policy("watched-once", retry=THREE, budget=budget) for _ in range(20_000)]
    assert len(list(budgets_in_use)) == before
    assert len(policies) == 20_000


@pytest.mark.fault("L14")
def test_twenty_thousand_policies_of_one_name_have_one_bucket_and_one_series() -> None:
    recorded = RecordedTelemetry()
    policies = [Policy("one-name", retry=THREE) for _ in range(20_000)]
    assert len({id(policy.budget) for policy in policies}) == 1
    with recorded.recording():
        points = recorded.points("resilience.retry.budget.utilization")
    assert len([point for point in points if point.attributes["resilience.dependency"] in ("one-name", "_OTHER")]) <= 2


def test_a_decorator_that_names_no_dependency_refuses_a_wrong_budget_where_it_is_handed_in() -> None:
    with pytest.raises(TypeError, match="budget must be a RetryBudget"):
        retry(THREE, on=None, budget=100)  # type: ignore[arg-type]
