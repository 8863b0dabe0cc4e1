"""Arguments are checked where they are passed, and the message names the parameter."""

from __future__ import annotations

import functools
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

import pytest

from otel_resilience import (
    CircuitBreakerConfig,
    Policy,
    RateLimit,
    RetryBudget,
    RetryBudgetConfig,
    RetryConfig,
    RetryService,
    correlation_scope,
    enrich,
    error_context,
    parse_retry_after,
    retry,
)
from otel_resilience.alerting import AlertConfig, AlertService, Route
from otel_resilience.storage import DiskStorage, MemoryStorage, RedisStorage, SharedState
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, PermanentFault, Script, TransientFault, make_policy, tokens

AT_ONCE = RetryConfig(base_delay=0)


async def asks_later(_: BaseException) -> bool:
    return True


class AsksLater:
    async def __call__(self, _: BaseException) -> bool:
        return True


def generates(_: BaseException) -> Any:
    yield True


@pytest.mark.fault("L17")
class TestPolicyParameters:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"retry": 3}, TypeError, "retry must be a RetryConfig or None, not 3"),
            ({"retry": RetryConfig}, TypeError, "retry must be a RetryConfig"),
            ({"retry": True}, TypeError, "retry must be a RetryConfig"),
            ({"breaker": 5}, TypeError, "breaker must be a CircuitBreaker"),
            ({"breaker": True}, TypeError, "breaker must be a CircuitBreaker"),
            ({"budget": "x"}, TypeError, "budget must be a RetryBudget"),
            ({"budget": 100}, TypeError, "budget must be a RetryBudget"),
            ({"classifier": lambda _: None}, TypeError, "classifier must be a Classifier"),
            ({"shared": "redis://"}, TypeError, "shared must be a SharedState"),
            ({"idempotent": "no"}, TypeError, "idempotent must be True, False or None, not 'no'"),
            ({"idempotent": 1}, TypeError, "idempotent must be True, False or None, not 1"),
            ({"clock": 5}, TypeError, "clock must be a function, not 5"),
            ({"clock": asks_later}, TypeError, "clock must be a def function"),
            ({"rng": functools.partial(AsksLater())}, TypeError, "rng must be a def function"),
            ({"sleep": 0.1}, TypeError, "sleep must be a function"),
            ({"sleep": asks_later}, TypeError, "sleep must be a def function"),
            ({"async_sleep": time.sleep}, TypeError, "async_sleep must be an async function"),
            ({"rng": None}, TypeError, "rng must be a function, not None"),
            ({"deadline": True}, TypeError, "deadline must be a number, not True"),
            ({"deadline": 10**400}, ValueError, "deadline must be finite"),
            ({"attempt_timeout": "5"}, TypeError, "attempt_timeout must be a number, not '5'"),
            ({"attempt_timeout": float("inf")}, ValueError, "attempt_timeout must be finite"),
            ({"max_attempt_threads": 0}, ValueError, "max_attempt_threads must be at least 1, not 0"),
            ({"max_attempt_threads": 2.0}, TypeError, "max_attempt_threads must be a whole number"),
            ({"max_attempt_threads": 10**30}, ValueError, "max_attempt_threads must be at most 92"),
            ({"max_concurrency": 10**5000}, ValueError, "max_concurrency must be at most 92"),
        ],
    )
    def test_a_wrong_one_is_refused_by_name(self, options: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Policy("supplier", **options)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"name": ""}, ValueError, "name must be a non-empty string"),
            ({"name": 5}, ValueError, "name must be a non-empty string, not 5"),
            ({"idempotent": "yes"}, TypeError, "idempotent must be True, False or None"),
            ({"deadline": True}, TypeError, "deadline must be a number, not True"),
            ({"is_retryable": asks_later}, TypeError, "is_retryable must return its answer directly"),
            ({"is_retryable": 5}, TypeError, "is_retryable must be a predicate or exception types, not 5"),
        ],
    )
    def test_one_of_a_call_is_refused_before_the_call(
        self, driver: Driver, clock: FakeClock, options: Any, error: type[Exception], message: str
    ) -> None:
        script = Script("value")
        with pytest.raises(error, match=message):
            make_policy(clock).execute(driver.operation(script.play), **options)
        assert script.calls == 0

    @pytest.mark.parametrize("options", [{"name": 5}, {"idempotent": 0}, {"is_retryable": "x"}])
    def test_one_of_a_decorator_is_refused_at_decoration(self, options: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            Policy("supplier").decorator(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"config": 3}, "config must be a RetryConfig"),
            ({"budget": 5}, "budget must be a RetryBudget"),
            ({"idempotent": "x"}, "idempotent must be"),
            ({"dependency": 7}, "dependency must be"),
        ],
    )
    def test_one_of_retry_is_refused_at_decoration(self, options: Any, message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            retry(**{"on": None, **options})(lambda: None)

    def test_one_of_the_service_is_refused(self) -> None:
        with pytest.raises(ValueError, match="dependency must be"):
            RetryService(5, budget=RetryBudget("x"))  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="budget must be"):
            RetryService(budget=False)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="classifier must be"):
            RetryService(classifier="x")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="config must be a RetryConfig, not 3"):
            RetryService().execute_with_retry(lambda: None, 3)  # type: ignore[call-overload]  # on purpose


@pytest.mark.fault("L17")
class TestOtherParameters:
    """Of what is public besides policies: the message begins with the name of the parameter."""

    @pytest.mark.parametrize("value", [3.5, b"7", ["7"], object])
    def test_of_a_hint_to_wait(self, value: Any) -> None:
        with pytest.raises(TypeError, match=r"^value must be a string"):
            parse_retry_after(value)
        with pytest.raises(TypeError, match=r"^date must be a string"):
            parse_retry_after("7", date=value)
        with pytest.raises(TypeError, match=r"^now must be a number"):
            parse_retry_after("7", now="x")  # type: ignore[arg-type]  # on purpose

    @pytest.mark.parametrize("amount", ["10", float("nan"), -1, None, True])
    def test_of_a_budget(self, amount: Any) -> None:
        budget = RetryBudget("supplier")
        with pytest.raises((TypeError, ValueError), match=r"^cost must be "):
            budget.take(amount)
        with pytest.raises((TypeError, ValueError), match=r"^tokens must be "):
            budget.give(amount)
        with pytest.raises((TypeError, ValueError), match=r"^at_least must be "):
            RetryBudget.for_dependency("supplier", at_least=amount)
        assert budget.metrics().tokens == 100

    @pytest.mark.parametrize("value", [3, "error", ValueError, None])
    def test_of_an_error_that_is_none(self, value: Any) -> None:
        for function in (enrich, error_context):
            with pytest.raises(TypeError, match=r"^exception must be an exception"):
                function(value)

    @pytest.mark.parametrize("value", [3, b"x", ["x"]])
    def test_of_a_correlation_scope(self, value: Any) -> None:
        with pytest.raises(TypeError, match=r"^identifier must be a string"), correlation_scope(value):
            pass

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (lambda value: DiskStorage(value), "folder"),
            (lambda value: DiskStorage("x", monotonic=value), "monotonic"),
            (lambda value: DiskStorage("x", wall_clock=value), "wall_clock"),
            (lambda value: DiskStorage("x", boot=value), "boot"),
            (lambda value: MemoryStorage(clock=value), "clock"),
            (lambda value: RedisStorage(value), "server"),
            (lambda value: RedisStorage("redis://127.0.0.1", clock=value), "clock"),
        ],
    )
    @pytest.mark.parametrize("value", [3, b"x", {}])
    def test_of_a_storage(self, make: Callable[[Any], object], name: str, value: Any) -> None:
        with pytest.raises(TypeError, match=f"^{name} must be "):
            make(value)


@pytest.mark.fault("L17")
class TestWhatIsRetryable:
    @pytest.mark.parametrize(
        "on",
        [
            KeyError,
            LookupError,
            (KeyError, ValueError),
            [KeyError, ValueError],
            {KeyError, ValueError},
            frozenset({KeyError}),
            KeyError | ValueError,
            typing.Union[KeyError, ValueError],  # noqa: UP007  # also written so
            (ValueError, (KeyError, OSError)),
            [ValueError, KeyError | OSError],
            lambda error: isinstance(error, KeyError),
            functools.partial(lambda kind, error: isinstance(error, kind), KeyError),
        ],
    )
    def test_every_way_to_name_an_exception(self, on: Any) -> None:
        for wrap in (
            lambda script: retry(AT_ONCE, on=on)(script.play)(),
            lambda script: Policy("supplier", retry=AT_ONCE).execute(script.play, is_retryable=on),
            lambda script: Policy("supplier", retry=AT_ONCE).decorator(is_retryable=on)(script.play)(),
            lambda script: RetryService().execute_with_retry(script.play, AT_ONCE, on),
        ):
            script = Script(KeyError("x"))
            with pytest.raises(KeyError):
                wrap(script)
            assert script.calls == 3
            script = Script(AssertionError("x"))
            with pytest.raises(AssertionError):
                wrap(script)
            assert script.calls == 1

    @pytest.mark.parametrize(
        ("on", "error"),
        [
            ([], ValueError),
            ((), ValueError),
            (set(), ValueError),
            (ValueError("x"), TypeError),
            ("ValueError", TypeError),
            (["ValueError"], TypeError),
            ((KeyError, None), TypeError),
            (KeyError | None, TypeError),
            (int, TypeError),
            (KeyError | int, TypeError),
            ({KeyError: True}, TypeError),
            (503, TypeError),
            (True, TypeError),
            (asks_later, TypeError),
            (functools.partial(asks_later), TypeError),
            (AsksLater(), TypeError),
            (functools.partial(AsksLater()), TypeError),
            (lambda error: asks_later(error), TypeError),
            (generates, TypeError),
            (lambda: True, TypeError),
            (lambda one, two: True, TypeError),
            (lambda *, error: True, TypeError),
            (functools.partial(lambda error: True, KeyError()), TypeError),
            (type[KeyError], TypeError),
            (list[KeyError], TypeError),
            (typing.NewType("Missing", KeyError), TypeError),
        ],
    )
    def test_what_says_nothing_of_errors_is_refused_at_once(self, on: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="on must"):
            retry(on=on)
        with pytest.raises(error, match="is_retryable must"):
            Policy("supplier").execute(lambda: None, is_retryable=on)
        with pytest.raises(error, match="is_retryable must"):
            Policy("supplier").decorator(is_retryable=on)

    @pytest.mark.parametrize("kind", ["raises", "returns a coroutine", "returns what has no truth", "looks too far"])
    def test_a_broken_predicate_never_replaces_the_error(
        self, driver: Driver, clock: FakeClock, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class NoTruth:
            def __bool__(self) -> bool:
                raise RuntimeError("no truth")

        def raises(_: BaseException) -> bool:
            raise LookupError("secret in the predicate")

        predicates: dict[str, Callable[..., Any]] = {
            "raises": raises,
            "returns a coroutine": lambda error: asks_later(error) or None,
            "returns what has no truth": lambda _: NoTruth(),
            "looks too far": lambda *errors: errors[1],
        }
        policy = make_policy(clock, breaker=None)
        for _ in range(3):
            fault = TransientFault()
            script = Script(fault)
            with pytest.raises(TransientFault) as caught:
                driver.execute(policy, script, is_retryable=predicates[kind])
            assert caught.value is fault
            assert (script.calls, caught.value.__context__) == (1, None)
        assert tokens(policy) == 100
        (said,) = [record.getMessage() for record in caplog.records if record.name == "otel_resilience"]
        assert "is_retryable" in said
        assert "secret" not in said

    def test_an_interruption_of_a_predicate_passes(self, driver: Driver, clock: FakeClock) -> None:
        def interrupted(_: BaseException) -> bool:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            driver.execute(make_policy(clock), Script(TransientFault()), is_retryable=interrupted)

    def test_a_class_that_is_not_an_exception_but_could_be_called_is_refused(self) -> None:
        class Predicate:
            def __init__(self, error: BaseException) -> None: ...

        with pytest.raises(TypeError, match="on must name exception types, and Predicate is none"):
            retry(on=Predicate)  # type: ignore[arg-type]  # on purpose


@pytest.mark.fault("L11")
class TestPartsThatContradictEachOther:
    def test_a_budget_that_could_never_pay_for_all_attempts_is_refused(self) -> None:
        for budget in (RetryBudgetConfig(), RetryBudget("supplier")):
            with pytest.raises(ValueError, match=r"max_attempts \(30\) needs a budget with a capacity of at least 290"):
                Policy("supplier", retry=RetryConfig(max_attempts=30), budget=budget)
        Policy("supplier", retry=RetryConfig(max_attempts=11), budget=RetryBudgetConfig())
        Policy("supplier", retry=RetryConfig(max_attempts=30), budget=RetryBudgetConfig(capacity=290))

    def test_even_if_throttling_costs_more(self) -> None:
        budget = RetryBudgetConfig(capacity=50, transient_cost=1, throttle_cost=50)
        with pytest.raises(ValueError, match="max_attempts"):
            Policy("supplier", retry=RetryConfig(max_attempts=3), budget=budget)

    def test_one_made_by_default_pays_for_them(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=RetryConfig(30, 0.0), budget=None, breaker=None)
        fault = TransientFault()
        script = Script(fault)
        with pytest.raises(TransientFault):
            driver.execute(policy, script)
        context = error_context(fault)
        assert context is not None
        assert (script.calls, context.exhausted) == (30, True)

    def test_a_decorator_too(self) -> None:
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            retry(RetryConfig(30, 0.0), on=None)(script.play)()
        assert script.calls == 30
        with pytest.raises(ValueError, match="max_attempts"):
            retry(RetryConfig(30), on=None, budget=RetryBudgetConfig())

    def test_a_service_refuses_the_configuration_that_its_budget_cannot_pay(self) -> None:
        with pytest.raises(ValueError, match="max_attempts"):
            RetryService(budget=RetryBudgetConfig()).execute_with_retry(lambda: None, RetryConfig(30))

    def test_without_retries_any_budget_will_do(self) -> None:
        Policy("supplier", budget=RetryBudgetConfig(capacity=10), breaker=CircuitBreakerConfig())


@pytest.mark.parametrize(
    "make",
    [
        lambda url: Policy("supplier", shared=url),
        lambda url: Policy("supplier", budget=url),
        lambda url: Policy("supplier", rate_limit=url),
        lambda url: Policy("supplier", deadline=url),
        lambda url: SharedState(url),
        lambda url: AlertService(AlertConfig(service="shop"), [url]),
        lambda url: Route(url),
    ],
)
def test_the_password_of_a_url_in_the_wrong_place_is_not_shown(make: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r"not.* \[?'redis://\*\*\*$") as refusal:
        make("redis://shop:hunter2@cache.example:6379/0")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda number: RetryConfig(max_attempts=number), "max_attempts"),
        (lambda number: CircuitBreakerConfig(failure_threshold=number), "failure_threshold"),
        (lambda number: CircuitBreakerConfig(consecutive_failures=number), "consecutive_failures"),
        (lambda number: RateLimit(number), "limit"),
    ],
)
def test_a_number_stands_for_any_up_to_the_largest_index(make: Callable[[int], Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at most {sys.maxsize}"):
        make(10**400)
    config = make(sys.maxsize)
    parts = {RetryConfig: "retry", CircuitBreakerConfig: "breaker", RateLimit: "rate_limit"}
    policy = Policy("of any number", **{parts[type(config)]: config})
    assert policy.execute(lambda: "value") == "value"
    with pytest.raises(PermanentFault):
        policy.execute(Script(PermanentFault()).play)


def test_a_permanent_error_on_the_last_attempt_is_still_the_last(driver: Driver, clock: FakeClock) -> None:
    fault = PermanentFault()
    with pytest.raises(PermanentFault):
        driver.execute(make_policy(clock, breaker=None), Script(TransientFault(), TransientFault(), fault))
    context = error_context(fault)
    assert context is not None
    assert (context.attempts, context.exhausted) == (3, True)


def test_a_url_that_serves_as_a_name_is_one_without_its_password() -> None:
    url = "redis://shop:hunter2@cache.example:6379/0"
    with RecordedTelemetry().recording() as recorded:
        policy = Policy(url, breaker=CircuitBreakerConfig(), retry=AT_ONCE)
        policy.execute(Script(TransientFault(), "value").play, name=f"GET {url}")
        assert policy.breaker is not None
        policy.breaker.force_open()
        points = [str(point) for point in recorded.points()]
    assert policy.dependency == policy.breaker.dependency == "redis://***@cache.example:6379/0"
    spans = [span.to_json() for span in recorded.spans]
    assert {span.name for span in recorded.spans} == {"attempt", f"{policy.dependency} GET {policy.dependency}"}
    written = [*spans, *points, *(event.to_json() for event in recorded.events), repr(policy)]
    assert not any("hunter2" in each for each in written)
    assert Policy("https://api.example/v2?to=a@b.example").dependency == "https://api.example/v2?to=a@b.example"
