"""``for attempt in policy.attempts(): with attempt: ...``, and the same with ``async for``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace as trace_api

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    DeadlineExceededError,
    Hooks,
    Policy,
    RateLimit,
    current_attempt,
    error_context,
    remaining,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import PermanentFault, Script, TransientFault, make_policy, run_fake, tokens

Loop = Callable[..., Any]


def plain(clock: FakeClock, policy: Policy, play: Callable[[], Any], **options: Any) -> tuple[Any, list[int]]:
    del clock
    numbers: list[int] = []
    value = None
    for attempt in policy.attempts(**options):
        with attempt:
            numbers.append(attempt.number)
            assert current_attempt() == attempt.number
            value = play()
    return value, numbers


def asynchronous(clock: FakeClock, policy: Policy, play: Callable[[], Any], **options: Any) -> tuple[Any, list[int]]:
    async def run() -> tuple[Any, list[int]]:
        numbers: list[int] = []
        value = None
        async for attempt in policy.attempts(**options):
            with attempt:
                numbers.append(attempt.number)
                assert current_attempt() == attempt.number
                value = play()
        return value, numbers

    return run_fake(clock, run())


def awaited(clock: FakeClock, policy: Policy, play: Callable[[], Any], **options: Any) -> tuple[Any, list[int]]:
    async def run() -> tuple[Any, list[int]]:
        numbers: list[int] = []
        value = None
        async for attempt in policy.attempts(**options):
            async with attempt:
                numbers.append(attempt.number)
                value = play()
        return value, numbers

    return run_fake(clock, run())


@pytest.fixture(params=[plain, asynchronous, awaited])
def loop(request: pytest.FixtureRequest, path: str) -> Loop:
    """The semantics are the same in each, with and without a time limit, and with and without telemetry."""
    del path
    return request.param  # type: ignore[no-any-return]


def test_it_ends_after_the_block_that_succeeds(loop: Loop, clock: FakeClock) -> None:
    policy = make_policy(clock)
    script = Script(TransientFault(), TransientFault(), "value")
    assert loop(clock, policy, script.play) == ("value", [1, 2, 3])
    assert clock.sleeps == [0.05, 0.1]
    assert tokens(policy) == 90
    assert loop(clock, policy, script.play) == ("value", [1])


def test_the_last_error_is_raised_from_its_block(loop: Loop, clock: FakeClock) -> None:
    fault = TransientFault()
    with pytest.raises(TransientFault) as caught:
        loop(clock, make_policy(clock), Script(fault).play)
    assert caught.value is fault
    context = error_context(fault)
    assert context is not None
    assert (context.attempts, context.exhausted) == (3, True)


def test_what_no_repetition_can_help_is_raised_at_once(loop: Loop, clock: FakeClock) -> None:
    script = Script(PermanentFault())
    with pytest.raises(PermanentFault):
        loop(clock, make_policy(clock), script.play)
    assert script.calls == 1


def test_its_options_are_those_of_execute(loop: Loop, clock: FakeClock) -> None:
    script = Script(PermanentFault(), "value")
    assert loop(clock, make_policy(clock), script.play, is_retryable=PermanentFault) == ("value", [1, 2])
    script = Script(TransientFault())
    with pytest.raises(TransientFault):
        loop(clock, make_policy(clock), script.play, idempotent=False)
    assert script.calls == 1
    with pytest.raises(DeadlineExceededError):
        loop(clock, make_policy(clock), script.play, deadline=0)
    assert script.calls == 1


def test_an_open_circuit_is_raised_on_entry(loop: Loop, clock: FakeClock) -> None:
    policy = make_policy(clock)
    assert policy.breaker is not None
    policy.breaker.force_open()
    script = Script("never")
    with pytest.raises(CircuitOpenError):
        loop(clock, policy, script.play)
    assert script.calls == 0


def test_the_breaker_is_asked_for_each_attempt(loop: Loop, clock: FakeClock) -> None:
    policy = make_policy(clock, breaker=CircuitBreakerConfig(failure_threshold=2))
    fault = TransientFault()
    script = Script(fault)
    with pytest.raises(CircuitOpenError) as caught:
        loop(clock, policy, script.play)
    assert script.calls == 2
    assert caught.value.__cause__ is fault


def test_each_loop_is_a_call_of_its_own(clock: FakeClock) -> None:
    attempts = make_policy(clock).attempts(name="list")
    for _ in range(2):
        for attempt in attempts:
            with attempt:
                assert attempt.number == 1


def test_wrong_arguments_are_refused(clock: FakeClock) -> None:
    policy = make_policy(clock)
    with pytest.raises(ValueError, match="name must be"):
        policy.attempts(name="")
    with pytest.raises(TypeError, match="idempotent must be"):
        policy.attempts(idempotent="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is_retryable must be"):
        policy.attempts(is_retryable="503")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="deadline must be"):
        policy.attempts(deadline="1")  # type: ignore[arg-type]


class TestSpans:
    def test_the_attempt_is_current_in_its_block(self, clock: FakeClock) -> None:
        seen = []
        with RecordedTelemetry().recording() as recorded:
            policy = make_policy(clock)
            script = Script(TransientFault(), "value")
            for attempt in policy.attempts(name="list"):
                with attempt:
                    seen.append(trace_api.get_current_span().get_span_context().span_id)
                    script.play()
        first, second, call = recorded.spans
        contexts = [span.get_span_context() for span in (first, second)]
        assert seen == [context.span_id for context in contexts if context is not None]
        assert call.name == "supplier list"
        assert dict(call.attributes or {})["resilience.outcome"] == "ok_after_retry"
        assert dict(second.attributes or {})["resilience.attempt.number"] == 2
        assert not trace_api.get_current_span().get_span_context().is_valid

    def test_a_loop_without_a_name_is_a_call(self, clock: FakeClock) -> None:
        with RecordedTelemetry().recording() as recorded:
            for attempt in make_policy(clock).attempts():
                with attempt:
                    pass
        assert recorded.spans[-1].name == "supplier call"


def outcomes(recorded: RecordedTelemetry) -> list[Any]:
    return [
        dict(span.attributes or {})["resilience.outcome"] for span in recorded.spans if span.name == "supplier call"
    ]


def returns_from_a_block(policy: Policy) -> None:
    for attempt in policy.attempts():
        with attempt:
            return


def breaks_from_a_block(policy: Policy) -> None:
    for attempt in policy.attempts():
        with attempt:
            break


def breaks_after_a_failure(policy: Policy) -> None:
    for attempt in policy.attempts():
        with attempt:
            raise TransientFault
        break


def breaks_before_a_block(policy: Policy) -> None:
    for _ in policy.attempts():
        break


def raises_between_blocks(policy: Policy) -> None:
    with contextlib.suppress(ZeroDivisionError):
        for attempt in policy.attempts():
            with attempt:
                raise TransientFault
            raise ZeroDivisionError


def is_closed_within_a_block(policy: Policy) -> None:
    def rows() -> Iterator[int]:
        for attempt in policy.attempts():
            with attempt:
                yield 1

    generator = rows()
    next(generator)
    generator.close()  # type: ignore[attr-defined]


def never_iterates(policy: Policy) -> None:
    iter(policy.attempts())


@pytest.mark.parametrize(
    ("leave", "ended"),
    [
        (returns_from_a_block, ["ok"]),
        (breaks_from_a_block, ["ok"]),
        (breaks_after_a_failure, ["cancelled"]),
        (breaks_before_a_block, ["cancelled"]),
        (raises_between_blocks, ["cancelled"]),
        (is_closed_within_a_block, ["cancelled"]),
        (never_iterates, []),
    ],
)
def test_a_loop_that_is_left_early_leaves_nothing_open(
    clock: FakeClock, leave: Callable[[Policy], None], ended: list[str]
) -> None:
    policy = make_policy(clock)
    with RecordedTelemetry().recording() as recorded:
        leave(policy)
        gc.collect()
        assert outcomes(recorded) == ended
    assert tokens(policy) == 100, "what a retry that was not made cost is refunded"
    assert remaining() is None
    assert current_attempt() == 1


def test_the_call_ends_with_the_loop_although_its_attempt_is_kept(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded:
        for attempt in make_policy(clock).attempts():
            with attempt:
                raise TransientFault
            break
        assert outcomes(recorded) == ["cancelled"]
        with pytest.raises(RuntimeError, match="entered already, or its loop has ended"):
            attempt.__enter__()


def test_a_half_open_circuit_gets_its_probe_back(clock: FakeClock) -> None:
    policy = make_policy(clock, breaker=CircuitBreakerConfig(failure_threshold=1))
    with pytest.raises(CircuitOpenError):
        policy.execute(Script(TransientFault()).play)
    clock.advance(5)
    is_closed_within_a_block(policy)
    for attempt in policy.attempts():
        with attempt:
            pass
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


def test_an_attempt_is_entered_once(clock: FakeClock) -> None:
    for attempt in make_policy(clock).attempts():
        with attempt, pytest.raises(RuntimeError, match="<Attempt 1 of supplier call> was entered already"):
            attempt.__enter__()


def test_an_attempt_that_is_not_entered_is_a_mistake(clock: FakeClock) -> None:
    with pytest.raises(RuntimeError, match="each attempt needs its block: `with attempt:`"):
        list(make_policy(clock).attempts())


def test_an_interruption_of_the_wait_passes(clock: FakeClock) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    policy = make_policy(clock, sleep=interrupted)
    with RecordedTelemetry().recording() as recorded, pytest.raises(KeyboardInterrupt):
        plain(clock, policy, Script(TransientFault()).play)
    assert outcomes(recorded) == ["cancelled"]
    assert tokens(policy) == 100


@pytest.mark.parametrize("outcome", [None, TransientFault, PermanentFault])
def test_what_interrupts_the_end_of_a_block_leaves_nothing_open(
    loop: Loop, clock: FakeClock, outcome: type[Exception] | None
) -> None:
    class Interrupted(Hooks):
        def on_success(self, dependency: str, operation: str) -> None:
            raise KeyboardInterrupt

        def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
            raise KeyboardInterrupt

    policy = make_policy(clock, max_concurrency=1, hooks=Interrupted())
    kept = []

    def play() -> None:
        kept.append(loop.__name__)
        if outcome is not None:
            raise outcome

    with RecordedTelemetry().recording() as recorded, pytest.raises(KeyboardInterrupt):
        loop(clock, policy, play)
    assert policy.concurrency_limiter is not None
    assert policy.concurrency_limiter.in_flight == 0
    assert outcomes(recorded) == ["cancelled"]


def test_cancellation_passes(clock: FakeClock) -> None:
    policy = make_policy(clock)

    async def run() -> None:
        async for attempt in policy.attempts():
            with attempt:
                raise asyncio.CancelledError

    with RecordedTelemetry().recording() as recorded, pytest.raises(asyncio.CancelledError):
        run_fake(clock, run())
    assert outcomes(recorded) == ["cancelled"]


def test_cancellation_of_the_wait_passes(clock: FakeClock) -> None:
    async def interrupted(_: float) -> None:
        raise asyncio.CancelledError

    policy = make_policy(clock, async_sleep=interrupted)
    with RecordedTelemetry().recording() as recorded, pytest.raises(asyncio.CancelledError):
        asynchronous(clock, policy, Script(TransientFault()).play)
    assert outcomes(recorded) == ["cancelled"]


def test_a_loop_in_an_async_generator(clock: FakeClock) -> None:
    policy = make_policy(clock)
    script = Script(TransientFault(), "value")

    async def rows() -> AsyncIterator[Any]:
        async for attempt in policy.attempts():
            with attempt:
                yield script.play()

    async def run() -> list[Any]:
        return [row async for row in rows()]

    assert run_fake(clock, run()) == ["value"]


async def value() -> str:
    return "value"


class TestGeneratorsLeftEarly:
    """A generator runs in the context of whoever iterates over it, and may leave its call there."""

    def test_calls_after_an_async_generator_that_another_task_closes(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = make_policy(clock, deadline=5, attempt_timeout=2)

        async def rows() -> AsyncIterator[int]:
            async for attempt in policy.attempts():
                with attempt:
                    yield 1

        async def run() -> Any:
            for _ in range(3):
                generator = rows()
                await anext(generator)
                await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]  # a generator has it
            clock.advance(100)
            assert remaining() is None
            assert current_attempt() == 1
            return await policy.execute(value)

        with RecordedTelemetry().recording() as recorded:
            assert run_fake(clock, run()) == "value"
        assert outcomes(recorded) == ["cancelled"] * 3
        assert not caplog.records

    @pytest.mark.parametrize("rows_of_second", [1, 2])
    def test_calls_after_two_generators_whose_blocks_end_crosswise(self, clock: FakeClock, rows_of_second: int) -> None:
        policy = make_policy(clock, deadline=5, attempt_timeout=2)

        def rows(count: int) -> Iterator[int]:
            for attempt in policy.attempts():
                with attempt:
                    yield from range(count)

        first, second = rows(3), rows(rows_of_second)
        next(first)
        next(second)
        first.close()  # type: ignore[attr-defined]  # a generator has it
        assert list(second) == list(range(1, rows_of_second))
        clock.advance(100)
        assert remaining() is None
        assert policy.execute(Script("value").play) == "value"

    def test_what_a_cut_block_left_running_still_begins_nothing(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=1, deadline=None, retry=None)
        left: list[asyncio.Task[Any]] = []

        async def later() -> Any:
            await asyncio.sleep(10)
            return await policy.execute(value)

        async def run() -> None:
            with contextlib.suppress(AttemptTimeoutError):
                async for attempt in policy.attempts():
                    with attempt:
                        left.append(asyncio.create_task(later()))
                        await asyncio.sleep(100)
            with pytest.raises(DeadlineExceededError):
                await left[0]

        run_fake(clock, run())


class TestTimeLimits:
    @pytest.mark.parametrize("block", ["with", "async with"])
    def test_async_blocks_are_cut(self, clock: FakeClock, block: str) -> None:
        policy = make_policy(clock, attempt_timeout=1.0, deadline=None, idempotent=True)
        began: list[float] = []

        async def run() -> None:
            async for attempt in policy.attempts():
                if block == "with":
                    with attempt:
                        began.append(clock())
                        await asyncio.sleep(3600)
                else:
                    async with attempt:
                        began.append(clock())
                        await asyncio.sleep(3600)

        with pytest.raises(AttemptTimeoutError) as caught:
            run_fake(clock, run())
        assert began == pytest.approx([1000.0, 1001.05, 1002.15])
        assert isinstance(caught.value.__cause__, TimeoutError)

    def test_async_blocks_are_cut_at_the_deadline(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=2.0)

        async def run() -> None:
            async for attempt in policy.attempts():
                with attempt:
                    await asyncio.sleep(3600)

        with pytest.raises(DeadlineExceededError):
            run_fake(clock, run())
        assert clock() == 1002.0

    def test_cancellation_from_outside_is_not_a_timeout(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=1.0)

        async def run() -> None:
            async for attempt in policy.attempts():
                with attempt:
                    await asyncio.sleep(3600)

        async def main() -> None:
            task = asyncio.create_task(run())
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_fake(clock, main())

    def test_other_blocks_show_what_is_left(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=1.0, deadline=30.0)
        inner = make_policy(clock, dependency="inner", deadline=None)
        for attempt in policy.attempts():
            with attempt:
                assert remaining() == 1.0
                clock.advance(0.75)
                assert remaining() == 0.25
                clock.advance(0.5)
                assert remaining() == 0.0
                with pytest.raises(DeadlineExceededError):
                    inner.execute(lambda: None)
        assert remaining() is None

    def test_outside_asyncio_nothing_can_cut(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=1.0)

        async def run() -> None:
            async for attempt in policy.attempts():
                with attempt:
                    raise AssertionError("not begun")

        coroutine = run()
        with pytest.raises(RuntimeError, match="no running asyncio event loop"):
            coroutine.send(None)

    def test_outside_asyncio_a_wait_needs_a_sleep_of_its_own(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = make_policy(clock, deadline=None, async_sleep=asyncio.sleep)

        async def run() -> None:
            async for attempt in policy.attempts():
                with attempt:
                    raise TransientFault

        with pytest.raises(TransientFault):
            run().send(None)
        assert "asyncio.sleep cannot wait outside asyncio" in caplog.text


def test_waits_that_block_an_event_loop_are_said(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        plain(clock, make_policy(clock), Script(TransientFault(), "value").play)

    with caplog.at_level(logging.WARNING, "otel_resilience"):
        run_fake(clock, run())
    assert "the waits before retries block the loop" in caplog.text


def test_a_block_that_cannot_be_cut_takes_nothing(clock: FakeClock) -> None:
    """Outside a task, as in a callback of the loop, nothing can cut it."""
    breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1), clock=clock)
    policy = make_policy(clock, attempt_timeout=5, rate_limit=RateLimit(1, per=60), max_concurrency=1, breaker=breaker)
    with pytest.raises(PermanentFault):
        breaker.execute(Script(PermanentFault()).play)
    clock.advance(60)
    raised: list[BaseException] = []

    def callback() -> None:
        loop = aiter(policy.attempts())
        step: Any = loop.__anext__()
        try:
            step.send(None)
        except StopIteration as ended:
            try:
                ended.value.__enter__()
            except RuntimeError as error:
                raised.append(error)

    async def main() -> str:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(raised) == 1
        async for attempt in policy.attempts():
            async with attempt:
                return "slot, permit and probe are free"
        return ""

    assert run_fake(clock, main())
