"""One policy per key, in bounded memory."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, PolicyRegistry, RetryConfig
from otel_resilience.policy.policy import policies_in_use
from otel_resilience.policy.registry import registries_in_use
from otel_resilience.retries.budget import budgets_in_use
from otel_resilience.telemetry import living_breakers
from otel_resilience.testing import RecordedTelemetry


def protected(key: str) -> Policy:
    return Policy(key, retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(failure_threshold=1))


def use(policies: PolicyRegistry, *keys: str) -> None:
    """Uses a policy without leaving a variable that keeps it alive."""
    for key in keys:
        policies[key]  # looking it up is the use


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("not within half a minute")


class TestLookup:
    def test_each_key_has_its_own_policy_made_once(self) -> None:
        policies = PolicyRegistry(protected)
        assert policies["a"] is policies["a"]
        assert policies["a"] is not policies["b"]
        assert policies["b"].dependency == "b"
        assert list(policies) == ["a", "b"]
        assert len(policies) == 2

    def test_get_and_in_make_nothing_and_are_not_a_use(self) -> None:
        policies = PolicyRegistry(protected, max_size=2)
        assert policies.get("a") is None
        assert "a" not in policies
        first = policies["a"]
        use(policies, "b")
        assert policies.get("a") is first
        assert "a" in policies
        use(policies, "c")
        assert list(policies) == ["b", "c"]

    def test_iterating_goes_over_the_keys_of_that_moment(self) -> None:
        policies = PolicyRegistry(protected, max_size=2)
        use(policies, "a", "b")
        assert [key for key in policies if policies[key + "'"]] == ["a", "b"]

    def test_clear_lets_all_go(self) -> None:
        policies = PolicyRegistry(protected)
        before = policies["a"]
        policies.clear()
        assert len(policies) == 0
        assert policies["a"] is not before

    @pytest.mark.parametrize(
        ("make", "max_size", "named"),
        [
            ("no function", 1, "make"),
            (protected, 0, "max_size"),
            (protected, True, "max_size"),
            (None, 1, "make"),
            (Policy("one for all"), 1, "make must be a def function from a key"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, make: Callable[[str], Policy], max_size: int, named: str) -> None:
        with pytest.raises((TypeError, ValueError), match=named):
            PolicyRegistry(make, max_size)

    def test_an_async_make_is_refused(self) -> None:
        async def make(key: str) -> Policy:
            return protected(key)

        with pytest.raises(TypeError, match="make must be a def function"):
            PolicyRegistry(make)  # type: ignore[arg-type]

    @pytest.mark.parametrize("key", ["", " ", 3])
    def test_a_key_is_a_name(self, key: str) -> None:
        policies = PolicyRegistry(protected)
        with pytest.raises(ValueError, match="key must be a non-empty string"):
            use(policies, key)
        assert len(policies) == 0

    def test_it_shows_itself_and_is_one_in_a_process(self) -> None:
        policies = PolicyRegistry(protected, max_size=2)
        use(policies, "a")
        assert repr(policies) == "<PolicyRegistry with 1 of 2 policies>"
        assert copy.copy(policies) is policies
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(policies)

    def test_make_may_be_the_class_itself(self) -> None:
        assert PolicyRegistry(Policy)["a"].execute(lambda: 1) == 1


class TestMaking:
    def test_a_make_that_fails_raises_and_leaves_nothing(self) -> None:
        results: list[Policy | Exception] = [KeyError("no such host"), protected("a")]

        def make(key: str) -> Policy:
            del key
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        policies = PolicyRegistry(make)
        with pytest.raises(KeyError, match="no such host"):
            use(policies, "a")
        assert "a" not in policies
        assert policies["a"].dependency == "a"

    def test_a_make_that_returns_no_policy_is_refused(self) -> None:
        policies = PolicyRegistry(lambda _: None)  # type: ignore[arg-type,return-value]
        with pytest.raises(TypeError, match="what make returns must be a Policy"):
            use(policies, "a")
        assert len(policies) == 0

    def test_make_may_use_the_registry_for_other_keys(self) -> None:
        def make(key: str) -> Policy:
            return protected(key) if key == "parent" else Policy(key, breaker=policies["parent"].breaker)

        policies = PolicyRegistry(make)
        assert policies["child"].breaker is policies["parent"].breaker

    def test_a_make_that_asks_for_itself_is_refused(self) -> None:
        policies = PolicyRegistry(lambda key: policies[key])
        with pytest.raises(RuntimeError, match="the policy of 'a' cannot be made"):
            use(policies, "a")

    def test_many_threads_get_one_policy_of_one_make(self) -> None:
        made: list[str] = []
        all_ask = threading.Barrier(8, timeout=60)

        def make(key: str) -> Policy:
            made.append(key)
            until(lambda: len(policies._waiting) == 7)
            return protected(key)

        def ask() -> Policy:
            all_ask.wait()
            return policies["a"]

        policies = PolicyRegistry(make)
        with ThreadPoolExecutor(8) as threads:
            found = [threads.submit(ask) for _ in range(8)]
            assert len({id(each.result(60)) for each in found}) == 1
        assert made == ["a"]

    def test_of_threads_that_waited_for_a_make_that_failed_the_next_one_makes(self) -> None:
        made: list[str] = []

        def make(key: str) -> Policy:
            made.append(key)
            if len(made) == 1:
                until(lambda: len(policies._waiting) == 1)
                raise ConnectionError
            return protected(key)

        policies = PolicyRegistry(make)
        with ThreadPoolExecutor(2) as threads:
            results = [threads.submit(lambda: policies["a"]) for _ in range(2)]
            errors = [each.exception(60) for each in results]
        assert [type(each) for each in errors if each] == [ConnectionError]
        assert made == ["a", "a"]
        assert len(policies) == 1

    def test_a_slow_make_holds_up_no_other_key(self) -> None:
        go_on = threading.Event()

        def make(key: str) -> Policy:
            if key == "slow":
                assert go_on.wait(60)
            return protected(key)

        policies = PolicyRegistry(make)
        with ThreadPoolExecutor(1) as threads:
            slow = threads.submit(lambda: policies["slow"])
            until(lambda: "slow" in policies._makers)
            assert policies["quick"].dependency == "quick"
            go_on.set()
            assert slow.result(60).dependency == "slow"

    def test_two_makes_that_wait_for_each_other_are_refused_and_not_hung(self) -> None:
        both = threading.Barrier(2, timeout=60)
        other = {"a": "b", "b": "a"}
        made: list[str] = []

        def make(key: str) -> Policy:
            made.append(key)
            if len(made) <= 2:
                both.wait()
            return policies[other[key]]

        policies = PolicyRegistry(make)
        with ThreadPoolExecutor(2) as threads:
            results = [threads.submit(policies.__getitem__, key) for key in other]
            errors = [each.exception(60) for each in results]
        # The one that noticed is refused; the other then makes that key itself, and is refused as well.
        assert [type(each) for each in errors] == [RuntimeError, RuntimeError]
        assert not policies._makers
        assert not policies._waiting

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_child_does_not_wait_for_what_a_thread_of_its_parent_made(self) -> None:
        policies = PolicyRegistry(protected)
        policies._makers["a"] = -1
        policies._lock.acquire()
        policies.renew_after_fork()
        assert policies["a"].dependency == "a"


class TestEviction:
    def test_the_least_recently_used_goes(self) -> None:
        policies = PolicyRegistry(protected, max_size=2)
        use(policies, "a", "b", "a", "c")
        assert list(policies) == ["a", "c"]

    def test_what_went_is_not_kept_alive_and_leaves_no_series(self) -> None:
        with RecordedTelemetry().recording() as recorded:
            policies = PolicyRegistry(protected, max_size=1)
            gone = policies["gone"]
            assert gone.execute(lambda: "value", name="ask") == "value"
            with pytest.raises(CircuitOpenError):
                gone.execute(_refused, name="ask")
            parts = [weakref.ref(part) for part in (gone, gone.breaker, gone.budget) if part is not None]
            assert len(parts) == 3
            del gone
            use(policies, "kept")
            gc.collect()  # the error above holds frames until then
            assert [part() for part in parts] == [None] * 3
            for metric in ("resilience.circuit_breaker.status", "resilience.retry.budget.utilization"):
                assert "gone" not in {point.attributes["resilience.dependency"] for point in recorded.points(metric)}
        assert "gone" not in {each.dependency for each in living_breakers()}
        assert "gone" not in {each.dependency for each in budgets_in_use}
        assert "gone" not in {each.dependency for each in policies_in_use}

    def test_one_in_use_may_go_without_harm(self) -> None:
        policies = PolicyRegistry(protected, max_size=1)
        attempts: list[int] = []

        def operation() -> str:
            attempts.append(1)
            use(policies, f"other {len(attempts)}")
            assert "busy" not in policies
            if len(attempts) == 1:
                raise ConnectionRefusedError
            return "value"

        policy = Policy("busy", retry=RetryConfig(base_delay=0))
        policies = PolicyRegistry(lambda key: policy if key == "busy" else protected(key), max_size=1)
        assert policies["busy"].execute(operation) == "value"

    def test_the_next_call_for_its_key_starts_with_a_closed_circuit(self) -> None:
        policies = PolicyRegistry(protected, max_size=1)
        with pytest.raises(CircuitOpenError):
            policies["a"].execute(_refused)
        assert policies["a"].breaker.state.name == "OPEN"  # type: ignore[union-attr]
        use(policies, "b")
        assert policies["a"].breaker.state.name == "CLOSED"  # type: ignore[union-attr]

    def test_a_policy_may_use_the_registry_when_it_goes(self) -> None:
        seen: list[int] = []

        class Last(Policy):
            def __del__(self) -> None:
                seen.append(len(policies))

        policies = PolicyRegistry(Last, max_size=1)
        use(policies, "a", "b")
        policies.clear()
        assert seen == [1, 0]

    def test_a_registry_itself_is_not_kept_alive(self) -> None:
        policies = PolicyRegistry(protected)
        assert policies in list(registries_in_use)
        there = weakref.ref(policies)
        del policies
        assert there() is None

    def test_threads_that_use_many_keys_never_see_more_than_the_limit(self) -> None:
        policies = PolicyRegistry(Policy, max_size=5)

        def use(start: int) -> bool:
            return all(
                policies[str(number % 11)].dependency == str(number % 11) and len(policies) <= 5
                for number in range(start, start + 500)
            )

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(use, range(4)))
        assert len(policies) == 5


def _refused() -> None:
    raise ConnectionRefusedError


KEYS = st.sampled_from("abcdef")


class RegistryModel(RuleBasedStateMachine):
    """Compares the registry with a dict in order of use."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = ""
        self.made: list[str] = []
        self.registry = PolicyRegistry(self.make, max_size=3)
        self.model: OrderedDict[str, int] = OrderedDict()
        self.policies: dict[str, Policy] = {}

    def make(self, key: str) -> Policy:
        if key == self.failing:
            raise LookupError(key)
        self.made.append(key)
        return Policy(key)

    @rule(key=KEYS)
    def use(self, key: str) -> None:
        known = key in self.model
        if key == self.failing and not known:
            with pytest.raises(LookupError):
                use(self.registry, key)
            return
        made = len(self.made)
        policy = self.registry[key]
        assert len(self.made) - made == (0 if known else 1)
        assert not known or policy is self.policies[key]
        self.policies[key] = policy
        self.model[key] = 1
        self.model.move_to_end(key)
        if len(self.model) > 3:
            self.model.popitem(last=False)

    @rule(key=KEYS)
    def look(self, key: str) -> None:
        assert (key in self.registry) == (key in self.model)
        assert self.registry.get(key) is (self.policies[key] if key in self.model else None)

    @rule(key=st.sampled_from(["", *"abcdef"]))
    def fail_for(self, key: str) -> None:
        self.failing = key

    @rule()
    def clear(self) -> None:
        self.registry.clear()
        self.model.clear()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert list(self.registry) == list(self.model)
        assert len(self.registry) == len(self.model)
        assert not self.registry._makers


TestRegistryModel = RegistryModel.TestCase
