"""A policy from environment variables."""

from __future__ import annotations

import dataclasses
import inspect
import logging

import pytest

from otel_resilience import (
    CircuitBreaker,
    CircuitBreakerConfig,
    ConcurrencyLimit,
    Jitter,
    Policy,
    RateLimit,
    RetryBudgetConfig,
    RetryConfig,
)
from otel_resilience.policy.environment import PARTS, VARIABLES

P = "RESILIENCE_SUPPLIER_"


def from_env(defaults: dict[str, object] | None = None, **variables: str) -> Policy:
    environ = {P + name: text for name, text in variables.items()}
    return Policy.from_env("supplier", environ=environ, **(defaults or {}))


def problems(defaults: dict[str, object] | None = None, **variables: str) -> list[str]:
    with pytest.raises(ValueError, match="the policy of 'supplier' cannot be made from the environment") as caught:
        from_env(defaults, **variables)
    return str(caught.value).splitlines()[1:]


def test_without_variables_the_defaults_hold() -> None:
    policy = from_env({"retry": RetryConfig(max_attempts=7), "deadline": 30})
    assert policy.retry == RetryConfig(max_attempts=7)
    assert policy.deadline == 30
    assert policy.breaker is None


def test_variables_come_before_the_defaults_one_by_one() -> None:
    policy = from_env(
        {"retry": RetryConfig(max_attempts=7, base_delay=0.2), "deadline": 30},
        MAX_ATTEMPTS="4", MAX_DELAY_S="1.5", EXPONENTIAL_BASE="3", JITTER="equal", ATTEMPT_TIMEOUT_S="2",
    )  # fmt: skip
    assert policy.retry == RetryConfig(4, base_delay=0.2, max_delay=1.5, exponential_base=3, jitter=Jitter.EQUAL)
    assert (policy.deadline, policy.attempt_timeout) == (30, 2)


def test_a_variable_switches_its_part_on() -> None:
    policy = from_env(FAILURE_THRESHOLD="3", RESET_TIMEOUT_S="12", MONITORING_PERIOD_S="90")
    assert policy.breaker is not None
    assert policy.breaker.config == CircuitBreakerConfig(failure_threshold=3, reset_timeout=12, monitoring_period=90)
    assert policy.max_attempts == 1


def test_a_budget_and_flags() -> None:
    policy = from_env(MAX_ATTEMPTS="2", BUDGET_CAPACITY="50", IDEMPOTENT="TRUE", JITTER="false")
    assert policy.budget is not None
    assert policy.budget.config == RetryBudgetConfig(capacity=50)
    assert policy.idempotent is True
    assert policy.retry.jitter is Jitter.NONE


def test_limits() -> None:
    policy = from_env({"max_concurrency": 4}, RATE_LIMIT="5", RATE_PER_S="2", MAX_CONCURRENCY_WAIT_S="0")
    assert policy.rate_limiter is not None
    assert policy.rate_limiter.config == RateLimit(5, per=2)
    assert policy.concurrency_limiter is not None
    assert policy.concurrency_limiter.config == ConcurrencyLimit(4, max_wait=0)
    limited = from_env(
        {"max_concurrency": 4, "rate_limit": RateLimit(5, max_wait=1)}, MAX_CONCURRENCY="9", RATE_LIMIT="6"
    )
    assert limited.concurrency_limiter is not None
    assert limited.concurrency_limiter.config.limit == 9
    assert limited.rate_limiter is not None
    assert limited.rate_limiter.config == RateLimit(6, max_wait=1)


def test_none_switches_off_and_empty_is_unset() -> None:
    policy = from_env({"deadline": 30, "attempt_timeout": 5}, DEADLINE_S="none", ATTEMPT_TIMEOUT_S=" ")
    assert (policy.deadline, policy.attempt_timeout) == (None, 5)


@pytest.mark.parametrize("name", ["api.example.com", "api-example-com", "API example com"])
def test_the_name_is_capitals_and_underscores(name: str) -> None:
    policy = Policy.from_env(name, environ={"RESILIENCE_API_EXAMPLE_COM_DEADLINE_S": "3"})
    assert policy.deadline == 3
    assert policy.dependency == name


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENCE_SUPPLIER_DEADLINE_S", "4")
    assert Policy.from_env("supplier").deadline == 4


def test_a_class_of_ones_own_is_made() -> None:
    class Mine(Policy):
        pass

    assert isinstance(Mine.from_env("supplier", environ={}), Mine)


def test_everything_that_is_wrong_is_named_in_one_error() -> None:
    assert problems(
        MAX_ATTEMPTS="0",
        BASE_DELAY_S="soon",
        JITTER="some",
        FAILURE_RATE="2",
        DEADLINE_S="nan",
        BREAKER_SHADOW="yes",
        MAX_ATTEMPT="3",
        TIMEOUT="3",
    ) == [
        f"- {P}BASE_DELAY_S must be a number, not 'soon'",
        f"- {P}BREAKER_SHADOW must be true or false, not 'yes'",
        f"- {P}DEADLINE_S must be greater than 0, not nan; none switches it off",
        f"- {P}FAILURE_RATE must be greater than 0 and at most 1, not 2.0; none switches it off",
        f"- {P}JITTER must be one of full, equal, decorrelated, none, true or false, not 'some'",
        f"- {P}MAX_ATTEMPT is not known; the nearest is {P}MAX_ATTEMPTS",
        f"- {P}MAX_ATTEMPTS must be at least 1, not 0",
        f"- {P}TIMEOUT is not known; the nearest is {P}RESET_TIMEOUT_S",
    ]


def test_values_that_do_not_fit_each_other_are_named_together() -> None:
    too_short = "max_reset_timeout must be at least reset_timeout (10), not 5.0"
    assert problems(BASE_DELAY_S="30", RESET_TIMEOUT_S="10", MAX_RESET_TIMEOUT_S="5") == [
        f"- {P}BASE_DELAY_S=30: base_delay must be at most max_delay (20), not 30.0",
        f"- {P}MAX_RESET_TIMEOUT_S=5, {P}RESET_TIMEOUT_S=10: {too_short}",
    ]
    assert problems({"deadline": 5}, ATTEMPT_TIMEOUT_S="10") == [
        f"- {P}ATTEMPT_TIMEOUT_S=10: attempt_timeout (10.0) must be at most deadline (5)"
    ]


def test_an_object_that_was_handed_in_cannot_be_changed() -> None:
    assert problems({"breaker": CircuitBreaker("supplier")}, FAILURE_THRESHOLD="3") == [
        f"- {P}FAILURE_THRESHOLD=3: breaker is given as a CircuitBreaker, which variables cannot change"
    ]


def test_wrong_defaults_are_the_constructors_own_error() -> None:
    with pytest.raises(ValueError, match=r"^attempt_timeout \(9\) must be at most deadline"):
        from_env({"deadline": 5, "attempt_timeout": 9})
    with pytest.raises(TypeError, match="retry must be"):
        from_env({"retry": 3}, DEADLINE_S="4")


def test_the_variable_of_a_dependency_with_a_longer_name_is_let_be(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "otel_resilience"):
        assert from_env(ORDERS_MAX_ATTEMPTS="9").max_attempts == 1
    assert "RESILIENCE_SUPPLIER_ORDERS_MAX_ATTEMPTS is taken for one of another dependency" in caplog.text
    assert Policy.from_env("supplier orders", environ={P + "ORDERS_MAX_ATTEMPTS": "9"}).max_attempts == 9


def test_every_variable_sets_a_parameter_that_there_is() -> None:
    of_policy = set(inspect.signature(Policy.__init__).parameters)
    for ending, (part, parameter, _) in VARIABLES.items():
        names = of_policy if part is None else {field.name for field in dataclasses.fields(PARTS[part])}
        assert parameter in names, ending
        assert part is None or part in of_policy
