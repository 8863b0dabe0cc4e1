"""Configurations: the given values apply, also after ``dataclasses.replace``; meaningless ones are refused."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from otel_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerRegistry,
    Jitter,
    RetryBudget,
    RetryBudgetConfig,
    RetryConfig,
    TransitionReason,
)
from otel_resilience.alerting import AlertConfig, EscalationStep, Silence
from otel_resilience.alerting.delivery.config import DeliveryConfig
from otel_resilience.alerting.model.config import Thresholds
from otel_resilience.alerting.sources import SourceConfig
from otel_resilience.storage import (
    MemoryStorage,
    RedisStorage,
    SharedCircuitBreaker,
    SharedRetryBudget,
    SharedState,
)
from otel_resilience.testing import FakeClock
from support.resilience import TransientFault


def failures_until_open(config: CircuitBreakerConfig) -> int:
    clock = FakeClock()
    breaker = CircuitBreaker("supplier", config, clock=clock)
    for number in range(1, 200):
        error = TransientFault()
        breaker.record_error(breaker.admit(), error.classification, clock(), error)
        if breaker.state is BreakerState.OPEN:
            return number
    raise AssertionError("it never opens")


# A breaker's rules


@pytest.mark.fault("L20")
@pytest.mark.parametrize(
    "config",
    [
        CircuitBreakerConfig(),
        CircuitBreakerConfig(failure_threshold=7),
        pickle.loads(pickle.dumps(CircuitBreakerConfig())),
        copy.deepcopy(CircuitBreakerConfig(reset_timeout=9)),
        dataclasses.replace(CircuitBreakerConfig(), reset_timeout=9),
        CircuitBreakerConfig(**dataclasses.asdict(CircuitBreakerConfig())),
    ],
)
def test_a_threshold_that_replaces_the_default_rules_is_the_only_rule(config: CircuitBreakerConfig) -> None:
    assert failures_until_open(dataclasses.replace(config, failure_threshold=50)) == 50


@pytest.mark.fault("L20")
def test_rules_that_were_given_stay_beside_a_threshold_that_is_given_later() -> None:
    config = CircuitBreakerConfig(consecutive_failures=5)
    assert failures_until_open(dataclasses.replace(config, failure_threshold=50)) == 5
    config = CircuitBreakerConfig(failure_rate=0.5)
    assert failures_until_open(dataclasses.replace(config, failure_threshold=50)) == 10


@pytest.mark.fault("L20")
def test_a_threshold_that_is_taken_away_without_another_rule_is_refused() -> None:
    config = CircuitBreakerConfig(failure_threshold=5)
    with pytest.raises(ValueError, match="needs a rule: failure_threshold, failure_rate"):
        dataclasses.replace(config, failure_threshold=None)
    assert failures_until_open(dataclasses.replace(config, failure_threshold=None, consecutive_failures=3)) == 3


@pytest.mark.fault("L20")
@pytest.mark.parametrize("slow", [None, 2.0])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_breaker_without_any_rule_is_refused_unless_in_shadow(slow: float | None, shadow: bool) -> None:
    def make() -> CircuitBreakerConfig:
        return CircuitBreakerConfig(
            failure_rate=None, consecutive_failures=None, slow_call_duration=slow, shadow=shadow
        )

    if slow is None and not shadow:
        with pytest.raises(ValueError, match="needs a rule"):
            make()
    else:
        assert make().failure_threshold is None


@pytest.mark.fault("L20")
def test_the_defaults_that_people_see_are_those_that_hold() -> None:
    config = CircuitBreakerConfig()
    shown = {name: each.default for name, each in inspect.signature(CircuitBreakerConfig).parameters.items()}
    assert shown == dataclasses.asdict(config)
    assert "failure_rate=0.5" in repr(config)
    assert "consecutive_failures=5" in repr(config)
    assert eval(repr(config)) == config  # our own text


RULES = st.fixed_dictionaries(
    {},
    optional={
        "failure_threshold": st.sampled_from([1, 5, 50]),
        "failure_rate": st.sampled_from([None, 0.5, 0.9]),
        "consecutive_failures": st.sampled_from([None, 5, 7]),
        "slow_call_duration": st.sampled_from([None, 1.0]),
        "reset_timeout": st.sampled_from([5.0, 30.0, 90.0]),
        "max_reset_timeout": st.sampled_from([None, 120.0]),
        "shadow": st.booleans(),
    },
)


@pytest.mark.fault("L20")
@given(first=RULES, second=RULES)
def test_to_replace_is_to_write_it_so_from_the_start(first: dict[str, Any], second: dict[str, Any]) -> None:
    def made(make: Callable[[], CircuitBreakerConfig]) -> CircuitBreakerConfig | str:
        try:
            return make()
        except ValueError as error:
            return str(error)

    try:
        config = CircuitBreakerConfig(**first)
    except ValueError:
        reject()
    replaced = made(lambda: dataclasses.replace(config, **second))
    assert replaced == made(lambda: CircuitBreakerConfig(**{**first, **second}))


# Every configuration

EVERY: list[Any] = [
    CircuitBreakerConfig(),
    CircuitBreakerConfig(failure_threshold=4, slow_call_duration=2),
    RetryConfig(),
    RetryConfig(max_attempts=7, jitter="equal", base_delay=0),
    RetryConfig(jitter=False),
    RetryBudgetConfig(),
    RetryBudgetConfig(capacity=20, transient_cost=5),
    AlertConfig(),
    EscalationStep(after=5.0),
    EscalationStep(returns=5),
    Silence(kind="errors"),
    Thresholds(),
    DeliveryConfig(),
    SourceConfig(),
]


@pytest.mark.parametrize("config", EVERY, ids=lambda config: type(config).__name__)
def test_a_copy_with_the_same_values_is_the_same(config: Any) -> None:
    assert dataclasses.replace(config) == config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        assert dataclasses.replace(config, **{field.name: value}) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("config", EVERY, ids=lambda config: type(config).__name__)
def test_a_value_that_is_replaced_is_the_value_that_is_read(config: Any) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            other = value * 0.9 if isinstance(value, float) else value + 1
            assert getattr(dataclasses.replace(config, **{field.name: other}), field.name) == other


def test_the_jitter_reads_as_what_it_was_resolved_to() -> None:
    assert dataclasses.replace(RetryConfig(jitter="none"), max_attempts=9).jitter is Jitter.NONE


# What cannot be meant

NO_NUMBERS = [True, "5", math.nan, math.inf, -1, None, [5], b"5"]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 2.5])
@pytest.mark.parametrize("name", ["failure_threshold", "consecutive_failures", "minimum_calls", "half_open_max_calls"])
def test_a_count_of_a_breaker_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    if value is None and name in ("failure_threshold", "consecutive_failures"):
        return
    with pytest.raises((TypeError, ValueError), match=name):
        CircuitBreakerConfig(**{name: value})


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    "name",
    [
        "monitoring_period", "failure_rate", "slow_call_duration", "slow_call_rate", "reset_timeout",
        "max_reset_timeout", "max_retry_after", "probe_lease",
    ],
)  # fmt: skip
def test_a_number_of_a_breaker_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    if value is None and name in ("failure_rate", "slow_call_duration", "max_reset_timeout", "probe_lease"):
        return
    with pytest.raises((TypeError, ValueError), match=name):
        CircuitBreakerConfig(**{name: value})


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RetryBudgetConfig)])
def test_a_number_of_a_budget_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        RetryBudgetConfig(**{name: value})


def shared() -> SharedState:
    return SharedState(MemoryStorage())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("shadow", lambda: CircuitBreakerConfig(shadow="yes")),  # type: ignore[arg-type]
        ("shadow", lambda: CircuitBreakerConfig(shadow=None)),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreaker("s", 5)),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreaker("s", 0)),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreaker("s", CircuitBreakerConfig)),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreaker("s", RetryBudgetConfig())),  # type: ignore[arg-type]
        ("classifier", lambda: CircuitBreaker("s", classifier=lambda error: None)),  # type: ignore[arg-type]
        ("clock", lambda: CircuitBreaker("s", clock=5.0)),  # type: ignore[arg-type]
        ("rng", lambda: CircuitBreaker("s", rng=0.5)),  # type: ignore[arg-type]
        ("dependency", lambda: CircuitBreaker("")),
        ("dependency", lambda: CircuitBreaker(None)),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreakerRegistry({"failure_threshold": 5})),  # type: ignore[arg-type]
        ("classifier", lambda: CircuitBreakerRegistry(classifier="default")),  # type: ignore[arg-type]
        ("config", lambda: CircuitBreakerRegistry().get("s", 5)),  # type: ignore[arg-type]
        ("dependency", lambda: CircuitBreakerRegistry().get(["s"])),  # type: ignore[arg-type]
        ("config", lambda: RetryBudget("s", 100)),  # type: ignore[arg-type]
        ("config", lambda: RetryBudget("s", False)),  # type: ignore[arg-type]
        ("clock", lambda: RetryBudget("s", clock=0)),  # type: ignore[arg-type]
        ("config", lambda: RetryBudget.for_dependency("s", CircuitBreakerConfig())),  # type: ignore[arg-type]
        ("shared", lambda: SharedCircuitBreaker("s", shared=MemoryStorage())),  # type: ignore[arg-type]
        ("shared", lambda: SharedRetryBudget("s", shared=None)),  # type: ignore[arg-type]
        ("config", lambda: SharedCircuitBreaker("s", 5, shared=shared())),  # type: ignore[arg-type]
        ("SharedState", lambda: SharedState(MemoryStorage)),  # type: ignore[arg-type]
        ("SharedState", lambda: SharedState("redis://localhost")),  # type: ignore[arg-type]
        ("wait", lambda: SharedState(MemoryStorage(), wait=True)),
        ("staleness", lambda: SharedState(MemoryStorage(), staleness=math.nan)),
        ("scope", lambda: SharedState(MemoryStorage(), scope=None)),  # type: ignore[arg-type]
        ("clock", lambda: MemoryStorage(clock=1.0)),  # type: ignore[arg-type]
        ("server", lambda: RedisStorage(6379)),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_the_wrong_type_is_refused_where_it_is_handed_in(name: str, make: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        make()


def test_a_reason_for_opening_names_the_rule_that_was_written() -> None:
    clock = FakeClock()
    config = dataclasses.replace(CircuitBreakerConfig(), failure_threshold=2)
    breaker = CircuitBreaker("supplier", config, clock=clock)
    for _ in range(2):
        error = TransientFault()
        breaker.record_error(breaker.admit(), error.classification, clock(), error)
    transition = breaker.metrics().last_transition
    assert transition is not None
    assert transition.reason is TransitionReason.FAILURE_THRESHOLD
