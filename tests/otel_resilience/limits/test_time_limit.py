"""A block with a time limit: whose cancellation ends it, and the remaining time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from otel_resilience import Policy
from otel_resilience._internal.nesting import Enclosing, enclosing
from otel_resilience.errors import AttemptTimeoutError, DeadlineExceededError
from otel_resilience.limits import attempt_timeout
from otel_resilience.limits.attempt_timeout import TimeLimit
from otel_resilience.testing import FakeClock, FakeTimeLoop

T = TypeVar("T")
Callback = Callable[[asyncio.AbstractEventLoop], object]


class Timer:
    """Fires when the test says so."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []
        self.cancelled = 0

    def start(self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callback) -> Timer:
        self.callbacks.append(callback)
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def fire(self) -> None:
        self.callbacks[-1](asyncio.get_running_loop())


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    made = Timer()
    monkeypatch.setattr(attempt_timeout, "start_timer", made.start)
    return made


def limit() -> TimeLimit:
    call = Enclosing()
    call.outer, call.attempts = None, 1
    return TimeLimit(1.0, call, lambda seconds, idempotent: AttemptTimeoutError(seconds))


async def started(work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
    """A task that runs ``work`` and has come to its first wait."""
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def test_its_own_cancellation_is_taken_back(timer: Timer) -> None:
    async def work() -> tuple[BaseException, int]:
        try:
            with limit():
                await asyncio.Event().wait()
        except AttemptTimeoutError as error:
            task = asyncio.current_task()
            assert task is not None
            await asyncio.sleep(0)  # a cancellation that was left would end this
            return error, task.cancelling()
        raise AssertionError

    task = await started(work)
    timer.fire()
    error, cancelling = await task

    assert cancelling == 0
    assert type(error.__cause__) is TimeoutError
    assert type(error.__cause__.__cause__) is asyncio.CancelledError
    assert timer.cancelled == 1


@pytest.mark.parametrize("first", ["the time limit", "somebody else"])
async def test_a_cancellation_by_somebody_else_at_the_same_time_stands(timer: Timer, first: str) -> None:
    cancelling: list[int] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            with limit():
                await asyncio.Event().wait()
        finally:
            cancelling.append(task.cancelling())

    task = await started(work)
    steps: list[Callable[[], object]] = [timer.fire, task.cancel]
    for step in steps if first == "the time limit" else reversed(steps):
        step()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert cancelling == [1]


async def test_a_result_that_came_in_spite_of_the_cut_is_the_result(timer: Timer) -> None:
    async def work() -> str:
        with limit():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            result = "saved"
        await asyncio.sleep(0)
        return result

    task = await started(work)
    timer.fire()

    assert await task == "saved"
    assert task.cancelling() == 0


async def test_another_error_of_the_block_stays_what_it_is(timer: Timer) -> None:
    async def work() -> None:
        with limit():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("while it was cleaning up") from None

    task = await started(work)
    timer.fire()

    with pytest.raises(ValueError, match="cleaning up"):
        await task
    assert task.cancelling() == 0


async def test_a_limit_within_a_limit_leaves_the_cancellation_of_the_outer_one(timer: Timer) -> None:
    async def work() -> str:
        try:
            with limit(), limit():
                await asyncio.Event().wait()
        except AttemptTimeoutError:
            return "the outer one"
        raise AssertionError

    task = await started(work)
    outer, _ = timer.callbacks
    outer(asyncio.get_running_loop())

    assert await task == "the outer one"


async def test_the_block_is_left_in_any_case(timer: Timer) -> None:
    before = enclosing.get()
    with pytest.raises(ValueError, match="no"), limit():
        raise ValueError("no")

    assert enclosing.get() is before
    assert timer.cancelled == 1


async def test_nothing_of_it_is_left_in_the_loop_or_in_a_circle() -> None:
    gc.collect()
    gc.disable()
    try:
        made = limit()
        with made:
            await asyncio.sleep(0)
        gone = weakref.ref(made)
        del made
        assert gone() is None
    finally:
        gc.enable()


async def test_outside_a_task_it_refuses(timer: Timer) -> None:
    seen: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def enter() -> None:
        try:
            limit().__enter__()
        except RuntimeError as error:
            seen.set_result(error)

    asyncio.get_running_loop().call_soon(enter)

    assert "task" in str(await seen)
    assert not timer.callbacks


class TestOneTimerForAllAttempts:
    """Attempts of one policy in one loop share a timer, and each is cut at its own time."""

    def test_each_is_cut_off_at_its_own_time_whichever_ends_first(self) -> None:
        policy = Policy("supplier", attempt_timeout=10)
        ends: dict[str, float] = {}

        async def work(name: str, begins: float, takes: float) -> None:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(begins)
            began = loop.time()
            with contextlib.suppress(AttemptTimeoutError):
                await policy.execute(asyncio.sleep, takes)
            ends[name] = loop.time() - began

        async def all_of_them() -> None:
            await asyncio.gather(
                work("first", 0, 4),
                work("cut", 1, 60),
                work("just in time", 2, 9.5),
                work("cut together", 3, 60),
                work("with it", 3, 60),
                work("much later", 500, 60),
            )

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(all_of_them())

        assert ends == pytest.approx(
            {"first": 4, "cut": 10, "just in time": 9.5, "cut together": 10, "with it": 10, "much later": 10}
        )

    def test_a_shorter_deadline_cuts_by_itself(self) -> None:
        policy = Policy("supplier", attempt_timeout=10, deadline=30)

        async def work() -> float:
            with pytest.raises(DeadlineExceededError):
                await policy.execute(asyncio.sleep, 60, deadline=3)
            return asyncio.get_running_loop().time()

        with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(FakeClock(0.0))) as runner:
            assert runner.run(work()) == pytest.approx(3, abs=1)  # the deadline is on the real clock

    def test_a_hundred_attempts_set_one_timer(self) -> None:
        class Counting(asyncio.SelectorEventLoop):
            timers = 0

            def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # as it is called
                self.timers += 1
                return super().call_at(*args, **kwargs)

        policy = Policy("supplier", attempt_timeout=10)

        async def work() -> None:
            for _ in range(100):
                await policy.execute(asyncio.sleep, 0)

        with asyncio.Runner(loop_factory=Counting) as runner:
            runner.run(work())
            loop = runner.get_loop()
        assert isinstance(loop, Counting)
        assert loop.timers == 1

    def test_in_each_loop_and_no_loop_is_kept(self) -> None:
        policy = Policy("supplier", attempt_timeout=10)
        loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

        async def work() -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            with pytest.raises(AttemptTimeoutError):
                await policy.execute(asyncio.sleep, 60)

        for _ in range(2):
            with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
                runner.run(work())
        del runner
        gc.collect()
        assert [loop() for loop in loops] == [None, None]

    def test_in_two_loops_at_once(self) -> None:
        policy = Policy("supplier", attempt_timeout=10)

        async def work() -> int:
            cut = 0
            for _ in range(20):
                try:
                    await policy.execute(asyncio.sleep, 60)
                except AttemptTimeoutError:
                    cut += 1
            return cut

        def in_a_loop() -> int:
            with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
                return runner.run(work())

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            results = [threads.submit(in_a_loop) for _ in range(2)]
            assert [each.result(60) for each in results] == [20, 20]
