"""Hooks: of one policy and of all, ``def`` and ``async def``; a failing hook does no harm."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    Hooks,
    Policy,
    RetryConfig,
    Transition,
    add_hooks,
    remaining,
    remove_hooks,
)
from otel_resilience.redaction import register_secret
from otel_resilience.testing import FakeClock
from support.resilience import Driver, PermanentFault, Script, TransientFault, make_policy, run_fake

FAST = RetryConfig(max_attempts=2)


class Recorder(Hooks):
    """Writes down everything."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
        del error
        self.seen.append(("error", dependency, operation, verdict.error_type))

    def on_retry(self, dependency: str, operation: str, attempt: int, delay: float) -> None:
        self.seen.append(("retry", dependency, operation, attempt, delay))

    def on_success(self, dependency: str, operation: str) -> None:
        self.seen.append(("success", dependency, operation))

    def on_failure(self, dependency: str, operation: str, outcome: str, error: BaseException) -> None:
        self.seen.append(("failure", dependency, operation, outcome, type(error).__name__))

    def on_transition(self, dependency: str, transition: Transition) -> None:
        self.seen.append(("transition", dependency, transition.target.value))


@pytest.fixture
def everywhere() -> Iterator[Recorder]:
    recorder = Recorder()
    add_hooks(recorder)
    add_hooks(recorder)
    yield recorder
    remove_hooks(recorder)
    remove_hooks(recorder)


@pytest.fixture(params=["of the policy", "of all"])
def recorder(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    recorder = Recorder()
    if request.param == "of all":
        add_hooks(recorder)
    yield recorder
    remove_hooks(recorder)


def hooked(clock: FakeClock, recorder: Recorder, **options: Any) -> Policy:
    from otel_resilience.telemetry import hooks  # looked at when it is called

    return make_policy(clock, hooks=() if hooks.subscribed else recorder, **options)


def test_what_they_are_notified_of(driver: Driver, clock: FakeClock, recorder: Recorder) -> None:
    policy = hooked(clock, recorder, retry=FAST, breaker=CircuitBreakerConfig(consecutive_failures=2))
    driver.execute(policy, Script(TransientFault(), "value"), name="list")
    with pytest.raises(TransientFault):
        driver.execute(policy, Script(TransientFault()), name="list")
    with pytest.raises(CircuitOpenError):
        driver.execute(policy, Script("never"), name="list")
    of = ("supplier", "list")
    assert recorder.seen == [
        ("error", *of, "503"), ("retry", *of, 2, 0.05), ("success", *of),
        ("error", *of, "503"), ("retry", *of, 2, 0.05),
        ("transition", "supplier", "open"), ("error", *of, "503"), ("failure", *of, "failed", "TransientFault"),
        ("failure", *of, "rejected", "CircuitOpenError"),
    ]  # fmt: skip


def test_a_substitute_is_a_failure_all_the_same(driver: Driver, clock: FakeClock, recorder: Recorder) -> None:
    driver.execute(hooked(clock, recorder, fallback="last known"), Script(PermanentFault()), name="list")
    assert recorder.seen[-1] == ("failure", "supplier", "list", "fallback", "PermanentFault")


def test_cancellation_is_none(clock: FakeClock, recorder: Recorder) -> None:
    policy = hooked(clock, recorder)
    with pytest.raises(KeyboardInterrupt):
        policy.execute(Script(KeyboardInterrupt()).play)
    assert recorder.seen == []


def test_those_of_a_policy_hear_of_it_alone(clock: FakeClock, everywhere: Recorder) -> None:
    one, other = Recorder(), Recorder()
    policy = make_policy(clock, hooks=[one, other], breaker=CircuitBreakerConfig(consecutive_failures=1), retry=None)
    beside = make_policy(clock, dependency="beside", breaker=CircuitBreakerConfig(consecutive_failures=1), retry=None)
    for each in (policy, beside):
        each.execute(lambda: None)
        with pytest.raises(TransientFault):
            each.execute(Script(TransientFault()).play)
    assert one.seen == other.seen
    assert {entry[1] for entry in one.seen} == {"supplier"}
    assert [entry[1] for entry in everywhere.seen].count("beside") == len(one.seen)
    assert len(everywhere.seen) == 2 * len(one.seen)


def test_those_of_a_policy_end_with_it(clock: FakeClock) -> None:
    recorder = Recorder()
    policy = make_policy(clock, hooks=recorder, budget=False)
    breaker = policy.breaker
    assert breaker is not None
    breaker.force_open()
    del policy
    gc.collect()
    breaker.close()
    assert recorder.seen == [("transition", "supplier", "forced_open")]


class Broken(Hooks):
    def on_success(self, dependency: str, operation: str) -> None:
        raise RuntimeError("token=abcdef")

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
        raise error

    on_retry = on_failure = on_transition = on_error  # type: ignore[assignment]  # takes too few for some


def test_an_error_in_one_harms_nothing(driver: Driver, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    register_secret("abcdef")
    recorder = Recorder()
    policy = make_policy(clock, hooks=(Broken(), recorder), breaker=CircuitBreakerConfig(consecutive_failures=3))
    assert driver.execute(policy, Script(TransientFault(), "value")) == "value"
    fault = TransientFault()
    with pytest.raises(TransientFault) as caught:
        driver.execute(policy, Script(fault))
    assert caught.value is fault
    assert len(recorder.seen) == 3 + 7
    for what in ("errors", "retries", "successes", "failures", "transitions"):
        assert f"an observer of {what} failed" in caplog.text
    assert "abcdef" not in caplog.text


class Calls(Hooks):
    """Makes a protected call itself, which fails."""

    def __init__(self, clock: FakeClock) -> None:
        self.policy = make_policy(clock, dependency="pager", hooks=self)
        self.calls = 0

    def on_failure(self, dependency: str, operation: str, outcome: str, error: BaseException) -> None:
        self.calls += 1
        self.policy.execute(Script(PermanentFault()).play)


def test_calls_made_in_one_notify_nobody(clock: FakeClock) -> None:
    hooks = Calls(clock)
    with pytest.raises(PermanentFault):
        hooks.policy.execute(Script(PermanentFault()).play)
    assert hooks.calls == 1


class Later(Hooks):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def on_success(self, dependency: str, operation: str) -> None:
        await asyncio.sleep(1)
        self.seen.append((dependency, operation, remaining()))

    async def on_failure(self, dependency: str, operation: str, outcome: str, error: BaseException) -> None:
        raise RuntimeError(outcome)


def test_an_async_one_runs_beside_the_call(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    hooks = Later()
    policy, outer = make_policy(clock, hooks=hooks), make_policy(clock, dependency="outer", deadline=5)

    async def fetch() -> str:
        return "value"

    async def main() -> None:
        assert await outer.execute(lambda: policy.execute(fetch)) == "value"
        assert policy.execute(lambda: 1, name="def") == 1
        assert hooks.seen == [], "nobody waits for it"
        await asyncio.sleep(2)
        assert hooks.seen == [("supplier", "fetch", None), ("supplier", "def", None)], "no deadline of the call"
        with pytest.raises(PermanentFault):
            policy.execute(Script(PermanentFault()).play)
        await asyncio.sleep(0)

    run_fake(clock, main())
    assert "an observer of failures failed: RuntimeError('failed')" in caplog.text


def test_an_async_one_needs_an_event_loop(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    policy = make_policy(clock, hooks=Later())
    with caplog.at_level(logging.WARNING, "otel_resilience"):
        for _ in range(2):
            assert policy.execute(lambda: 1) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "an async observer of successes was not run: no event loop of asyncio runs here"
    ]


@pytest.mark.parametrize("wrong", [Recorder, object(), [Recorder], "hooks", None])
def test_what_is_none_is_refused(clock: FakeClock, wrong: Any) -> None:
    with pytest.raises(TypeError, match="hooks must be an instance of a class derived from Hooks, not"):
        make_policy(clock, hooks=wrong)
    with pytest.raises(TypeError, match="hooks must be an instance of a class derived from Hooks, not"):
        add_hooks(wrong)


@pytest.mark.parametrize("make", [lambda: mock.Mock(spec=Hooks), lambda: mock.create_autospec(Hooks, instance=True)])
def test_a_mock_of_hooks_is_notified(make: Callable[[], Any], clock: FakeClock) -> None:
    hooks = make()
    policy = make_policy(clock, hooks=hooks)
    assert policy.execute(Script(TransientFault(), "value").play, name="list") == "value"
    hooks.on_retry.assert_called_once_with("supplier", "list", 2, 0.05)
    hooks.on_success.assert_called_once_with("supplier", "list")
    hooks.on_failure.assert_not_called()


def test_a_method_that_was_put_on_the_object_is_called(clock: FakeClock) -> None:
    seen: list[str] = []
    hooks = Hooks()
    hooks.on_success = lambda dependency, operation: seen.append(operation)  # type: ignore[method-assign]  # as in a test
    make_policy(clock, hooks=hooks).execute(lambda: "value", name="list")
    add_hooks(hooks)
    try:
        make_policy(clock).execute(lambda: "value", name="show")
    finally:
        remove_hooks(hooks)
    assert seen == ["list", "show"]
