"""Deadlines and attempt timeouts: what they bound, what calls inside see of them, and the threads that cuts need."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_resilience import (
    AttemptThreadsExhaustedError,
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorClass,
    Policy,
    RateLimit,
    RetryConfig,
    classify,
    current_attempt,
    error_context,
    remaining,
)
from otel_resilience.limits.threads import AttemptThreads, Worker
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, PermanentFault, Script, ThrottledFault, TransientFault, make_policy, run_fake
from support.timing import quickest, takes_at_most

SHORT = 0.05
ABANDONED = "resilience.timeout.abandoned"


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition holds in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.fault("L8")
class TestDeadlineOfADef:
    def test_it_stays_in_the_thread_of_its_caller(self) -> None:
        assert Policy("supplier", deadline=30).execute(threading.get_ident) == threading.get_ident()

    def test_a_database_connection_of_the_caller_works(self) -> None:
        connection = sqlite3.connect(":memory:")
        policy = Policy("database", retry=RetryConfig(), deadline=30)
        assert policy.execute(lambda: connection.execute("select 1").fetchone(), deadline=5) == (1,)
        connection.close()

    def test_context_variables_that_it_sets_are_set(self) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
        token = variable.set(0)
        Policy("supplier", deadline=30).execute(lambda: variable.set(1))
        assert variable.get() == 1
        variable.reset(token)

    def test_a_result_that_comes_late_is_a_result(self, clock: FakeClock) -> None:
        def late() -> str:
            clock.advance(10)
            return "value"

        assert make_policy(clock, deadline=5.0).execute(late) == "value"

    def test_no_attempt_begins_after_it(self, clock: FakeClock) -> None:
        fault = TransientFault()

        def late() -> None:
            clock.advance(10)
            raise fault

        script = Script(late)
        with pytest.raises(TransientFault):
            make_policy(clock, deadline=5.0).execute(script.play)
        assert (script.calls, clock.sleeps) == (1, [])


@pytest.mark.fault("L9")
class TestRemaining:
    def test_there_is_none_without_a_deadline(self, driver: Driver, clock: FakeClock) -> None:
        assert remaining() is None
        assert driver.execute(make_policy(clock, deadline=None), remaining) is None

    def test_it_is_what_is_left_of_the_deadline(self, driver: Driver, clock: FakeClock) -> None:
        def look() -> float | None:
            clock.advance(2.0)
            return remaining()

        assert driver.execute(make_policy(clock, deadline=5.0), look) == pytest.approx(3.0)
        assert remaining() is None

    def test_it_counts_from_the_beginning_of_the_call(self, driver: Driver, clock: FakeClock) -> None:
        seen: list[float | None] = []

        def play() -> None:
            seen.append(remaining())
            raise TransientFault

        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock, deadline=5.0), play)
        assert seen == pytest.approx([5.0, 4.95, 4.85])

    @pytest.mark.parametrize(("outer", "inner", "left"), [(1.0, 9.0, 1.0), (9.0, 1.0, 1.0), (4.0, None, 4.0)])
    def test_the_nearest_counts(
        self, driver: Driver, clock: FakeClock, outer: float, inner: float | None, left: float
    ) -> None:
        inner_policy = make_policy(clock, deadline=inner)
        operation = driver.operation(remaining)

        async def call() -> Any:
            return await inner_policy.execute(operation)

        nested = call if driver.asynchronous else functools.partial(inner_policy.execute, operation)
        assert driver.run(make_policy(clock, deadline=outer).execute(nested)) == pytest.approx(left)

    def test_that_of_the_call_counts_where_it_is_shorter(self, driver: Driver, clock: FakeClock) -> None:
        assert driver.execute(make_policy(clock, deadline=5.0), remaining, deadline=2.0) == pytest.approx(2.0)

    def test_a_def_in_a_thread_sees_it(self) -> None:
        left = Policy("supplier", deadline=30, attempt_timeout=10).execute(remaining)
        assert left is not None
        assert 20 < left <= 30

    async def test_tasks_and_threads_that_the_operation_starts_see_it(self) -> None:
        async def operation() -> list[float | None]:
            return [await asyncio.create_task(look()), await asyncio.to_thread(remaining)]

        async def look() -> float | None:
            return remaining()

        for left in await Policy("supplier", deadline=30).execute(operation):
            assert left is not None
            assert 20 < left <= 30

    async def test_what_outlives_a_successful_call_is_on_its_own(self) -> None:
        async def operation() -> asyncio.Task[float | None]:
            return asyncio.create_task(later())

        async def later() -> float | None:
            await asyncio.sleep(SHORT)
            return remaining()

        assert await (await Policy("supplier", deadline=30).execute(operation)) is None


CUTS = (0.1, 1.0, 10.0)
"""Seconds after which a call is cut; on a busy machine its thread may need more of them to begin."""
PAUSE = 0.01
"""Seconds between two attempts inside it."""


class Stubborn:
    """Calls a dependency again and again, and passes over every error."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._inner = Policy("inner")
        self._ended = threading.Event()

    def calls(self) -> None:
        while self.events.count("refused") < 10 and len(self.events) < 2000:
            try:
                self._inner.execute(lambda: self.events.append("sent"))
            except DeadlineExceededError:
                self.events.append("refused")
            time.sleep(PAUSE)
        self._ended.set()

    def sent_before(self, cut: float) -> int:
        """How many attempts began; none of them after ``cut`` seconds."""
        assert self._ended.wait(60)
        sent = self.events.count("sent")
        assert self.events == ["sent"] * sent + ["refused"] * 10
        assert sent <= cut / PAUSE + 1
        return sent


@pytest.mark.fault("L9")
class TestOuterDeadline:
    def test_a_wait_that_would_end_past_it_is_not_started(self, driver: Driver, clock: FakeClock) -> None:
        inner = make_policy(clock, deadline=None)
        script = Script(ThrottledFault())
        operation = driver.operation(script.play)

        async def call() -> Any:
            return await inner.execute(operation)

        nested = call if driver.asynchronous else functools.partial(inner.execute, operation)
        with pytest.raises(ThrottledFault):
            driver.run(make_policy(clock, deadline=0.5, retry=None).execute(nested))
        assert (script.calls, clock.sleeps) == (1, [])

    def test_no_attempt_of_an_enclosed_call_begins_after_it(self, clock: FakeClock) -> None:
        inner = make_policy(clock, deadline=None, dependency="inner")
        script = Script("value")

        def late() -> object:
            clock.advance(10)
            return inner.execute(script.play)

        with pytest.raises(DeadlineExceededError) as caught:
            make_policy(clock, deadline=5.0, retry=None).execute(late)
        assert script.calls == 0
        assert caught.value.deadline == 5.0
        verdict = classify(caught.value)
        assert (verdict.unsent, verdict.counts) == (True, False)
        assert inner.breaker is not None
        assert inner.breaker.metrics().calls == 0

    @pytest.mark.parametrize("outer", [["deadline", "attempt_timeout"], ["attempt_timeout"]], ids=str)
    def test_none_begins_in_a_call_that_was_left_behind_in_a_thread(self, outer: list[str]) -> None:
        for cut in CUTS:
            stubborn = Stubborn()
            with pytest.raises(TimeoutError):
                Policy("outer", **dict.fromkeys(outer, cut)).execute(stubborn.calls)  # type: ignore[arg-type]
            if stubborn.sent_before(cut):
                return
        pytest.fail("no attempt began at all")

    async def test_nor_in_a_thread_that_an_async_call_left_behind(self) -> None:
        for cut in CUTS:
            stubborn = Stubborn()
            with pytest.raises(DeadlineExceededError):
                await Policy("outer", deadline=cut).execute(functools.partial(asyncio.to_thread, stubborn.calls))
            if await asyncio.to_thread(stubborn.sent_before, cut):
                return
        pytest.fail("no attempt began at all")

    def test_retries_in_a_thread_that_was_left_behind_end(self) -> None:
        config = RetryConfig(max_attempts=2000, base_delay=PAUSE, max_delay=PAUSE, jitter="none")
        inner = Policy("inner", retry=config, budget=False)

        def retried(sent: list[int], ended: threading.Event) -> None:
            def operation() -> None:
                sent.append(current_attempt())
                raise ConnectionError

            try:
                inner.execute(operation)
            finally:
                ended.set()

        for cut in CUTS:
            sent: list[int] = []
            ended = threading.Event()
            with pytest.raises(AttemptTimeoutError):
                Policy("outer", attempt_timeout=cut).execute(functools.partial(retried, sent, ended))
            assert ended.wait(60)
            assert len(sent) <= cut / PAUSE + 1
            if sent:
                return
        pytest.fail("no attempt began at all")

    def test_it_cuts_an_async_call_that_a_def_runs(self) -> None:
        inner = Policy("inner")

        def call() -> None:
            asyncio.run(inner.execute(asyncio.sleep, 60))

        with takes_at_most(30), pytest.raises(DeadlineExceededError):
            Policy("outer", deadline=0.1).execute(call)

    def test_a_deadline_that_cut_an_attempt_counts_as_a_failure(self, clock: FakeClock) -> None:
        with pytest.raises(DeadlineExceededError) as caught:
            run_fake(clock, make_policy(clock, deadline=0.5).execute(functools.partial(asyncio.sleep, 9)))
        verdict = classify(caught.value)
        assert (verdict.unsent, verdict.counts) == (False, True)


@pytest.mark.fault("L8")
class TestThreads:
    def test_they_are_reused(self) -> None:
        policy = Policy("supplier", attempt_timeout=5)
        assert len({policy.execute(threading.get_ident) for _ in range(50)}) == 1

    def test_they_are_bounded_and_refused_as_local_when_all_are_stuck(self, release: threading.Event) -> None:
        policy = Policy("supplier", attempt_timeout=0.01, max_attempt_threads=3, breaker=CircuitBreakerConfig())
        before = threading.active_count()
        for _ in range(3):
            with pytest.raises(AttemptTimeoutError):
                policy.execute(release.wait)
        for _ in range(10):
            with pytest.raises(AttemptThreadsExhaustedError) as caught:
                policy.execute(release.wait)
        assert threading.active_count() - before == 3
        verdict = classify(caught.value)
        assert (verdict.error_class, verdict.unsent, verdict.counts) == (ErrorClass.LOCAL, True, False)
        context = error_context(caught.value)
        assert context is not None
        assert (context.attempts, context.unsent) == (0, True)

    def test_concurrent_calls_with_retries_stay_within_the_bound(self, release: threading.Event) -> None:
        policy = Policy(
            "supplier",
            retry=RetryConfig(base_delay=0),
            budget=False,
            attempt_timeout=0.05,
            max_attempt_threads=8,
            idempotent=True,
        )
        before = threading.active_count()

        def call() -> None:
            with pytest.raises((AttemptTimeoutError, AttemptThreadsExhaustedError)):
                policy.execute(release.wait)

        callers = [threading.Thread(target=call) for _ in range(30)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert threading.active_count() - before <= 8

    def test_a_call_waits_for_a_thread_that_others_use(self) -> None:
        policy = Policy("supplier", attempt_timeout=5, max_attempt_threads=1)
        results: list[object] = []

        def sleepy() -> str:
            time.sleep(0.02)
            return "value"

        def call() -> None:
            results.append(policy.execute(sleepy))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert results == ["value"] * 4

    @pytest.mark.parametrize("outer", [False, True], ids=["own deadline", "outer deadline"])
    def test_the_wait_for_one_does_not_move_the_deadline(self, release: threading.Event, outer: bool) -> None:
        def waiting() -> float:
            policy = Policy("supplier", attempt_timeout=0.5, max_attempt_threads=1)
            around = Policy("order", deadline=0.5)
            taken = threading.Event()

            def sleeps() -> None:
                taken.set()
                time.sleep(0.3)

            busy = threading.Thread(target=policy.execute, args=(sleeps,))
            busy.start()
            assert taken.wait(60)
            began = time.monotonic()
            call: Callable[..., object] = functools.partial(policy.execute, release.wait)
            with pytest.raises(DeadlineExceededError):
                around.execute(call) if outer else call(deadline=0.5)
            seconds = time.monotonic() - began
            busy.join()
            return seconds

        assert quickest(waiting, 0.7) < 0.7

    def test_those_left_behind_are_counted_until_they_come_back(self, release: threading.Event) -> None:
        policy = Policy("supplier of threads", attempt_timeout=0.01)
        recorded = RecordedTelemetry()
        idents: set[int] = set()

        def answers() -> bool:
            with contextlib.suppress(AttemptTimeoutError):  # its hundredth of a second is short on a busy machine
                idents.add(policy.execute(threading.get_ident))
            return bool(idents)

        def counted() -> list[float]:
            return [
                point.value
                for point in recorded.points(ABANDONED)
                if point.attributes == {"resilience.dependency": "supplier of threads"}
            ]

        with recorded.recording():
            for _ in range(2):
                with pytest.raises(AttemptTimeoutError):
                    policy.execute(release.wait)
            assert counted() == [2]
            release.set()
            assert within(60, lambda: counted() == [0])
            assert within(60, answers)
            assert idents.isdisjoint({threading.get_ident()})

    def test_a_rejected_call_takes_none(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=5, max_attempt_threads=1)
        assert policy.breaker is not None
        policy.breaker.force_open()
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                policy.execute(lambda: "value")
        policy.breaker.close()
        assert policy.execute(lambda: "value") == "value"

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, ValueError])
    def test_whatever_the_operation_raises_comes_back_as_it_is(self, kind: type[BaseException]) -> None:
        error = kind("mine")
        policy = Policy("supplier", attempt_timeout=5)
        with pytest.raises(kind) as caught:
            policy.execute(Script(error).play)
        assert caught.value is error
        assert policy.execute(lambda: "value") == "value"

    def test_the_attempt_knows_its_number_there(self) -> None:
        seen: list[int] = []

        def operation() -> None:
            seen.append(current_attempt())
            raise ConnectionError

        with pytest.raises(ConnectionError):
            Policy("supplier", retry=RetryConfig(base_delay=0), attempt_timeout=5).execute(operation)
        assert seen == [1, 2, 3]

    def test_they_end_when_they_are_idle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("otel_resilience.limits.threads.IDLE", 0.02)
        before = threading.active_count()
        policies = [Policy("supplier", attempt_timeout=5) for _ in range(20)]
        for policy in policies:
            policy.execute(lambda: "value")
        assert within(60, lambda: threading.active_count() <= before)
        assert policies[0].execute(lambda: "value") == "value"  # a new one is made

    def test_a_worker_that_was_reserved_in_vain_ends_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("otel_resilience.limits.threads.IDLE", 0.02)
        threads = AttemptThreads("supplier", 1)
        worker = threads.reserve(1)
        worker.run(lambda: None, 1, lambda _: AssertionError())
        again = threads.reserve(1)
        time.sleep(0.1)
        again.release()
        assert again.thread is not None
        again.thread.join(60)
        assert not again.thread.is_alive()

    def test_one_whose_caller_is_interrupted_as_it_ends_takes_no_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("otel_resilience.limits.threads.IDLE", 0.02)

        class InterruptedWait:
            def __init__(self, lock: threading.Lock) -> None:
                self.lock = lock
                self.release = lock.release

            def acquire(self, timeout: float) -> bool:
                assert self.lock.acquire(timeout=60)
                raise KeyboardInterrupt

        threads = AttemptThreads("supplier", 1)
        worker = threads.reserve(1)
        worker._done = InterruptedWait(worker._done)  # type: ignore[assignment]  # as a lock
        with pytest.raises(KeyboardInterrupt):
            worker.run(lambda: "value", 60, lambda _: AssertionError())
        assert threads.reserve(1).run(lambda: "another", 60, lambda _: AssertionError()) == "another"
        assert threads.abandoned == 0
        worker.thread.join(60)
        assert not worker.thread.is_alive()

    def test_what_an_attempt_returned_is_not_kept(self) -> None:
        class Value:
            pass

        policy = Policy("supplier", attempt_timeout=5)
        policy.execute(lambda: Value())
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Value)]

    def test_a_forked_child_makes_its_own(self) -> None:
        policy = Policy("supplier", attempt_timeout=5)
        policy.execute(lambda: "value")
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if policy.execute(lambda: "value") == "value" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_where_the_system_has_no_more_nothing_is_taken_for_the_attempt(
        self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1), clock=clock)
        policy = make_policy(
            clock, attempt_timeout=5, rate_limit=RateLimit(1, per=60), max_concurrency=1, breaker=breaker
        )
        with pytest.raises(PermanentFault):
            breaker.execute(Script(PermanentFault()).play)
        clock.advance(60)

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(AttemptThreadsExhaustedError) as caught:
                policy.execute(lambda: "never")
        assert isinstance(caught.value.__cause__, RuntimeError)
        context = error_context(caught.value)
        assert context is not None
        assert (context.attempts, context.unsent) == (0, True)
        assert policy.execute(lambda: "value") == "value", "slot, permit and probe are free"

    def test_what_was_given_up_before_its_first_step_never_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        may_begin, work = threading.Event(), Worker._work
        ran: list[str] = []

        def work_later(worker: Worker) -> None:
            may_begin.wait(60)
            work(worker)

        policy = Policy("supplier", attempt_timeout=0.01, max_attempt_threads=1)
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_work", work_later)
            with pytest.raises(AttemptTimeoutError):
                policy.execute(lambda: ran.append("late"))
            may_begin.set()
            threads = policy._threads
            assert threads is not None
            assert within(60, lambda: threads.abandoned == 0)
        assert ran == []
        assert Policy("supplier", attempt_timeout=60).execute(lambda: "value") == "value"

    def test_the_interpreter_does_not_wait_for_them(self) -> None:
        program = (
            "import time\n"
            "from otel_resilience import Policy\n"
            "policy = Policy('supplier', attempt_timeout=0.05)\n"
            "policy.execute(lambda: 1)\n"
            "try: policy.execute(lambda: time.sleep(60))\n"
            "except TimeoutError: print('cut')\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert ended.stdout == "cut\n"


@pytest.mark.fault("L10")
class TestInARunningLoop:
    def said(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "otel_resilience"]

    async def test_an_attempt_timeout_that_cannot_cut_a_def_is_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = Policy("supplier", attempt_timeout=0.01)

        def sleepy() -> int:
            time.sleep(0.02)
            return threading.get_ident()

        for _ in range(3):
            assert policy.execute(sleepy) == threading.get_ident()
        (said,) = self.said(caplog)
        assert "attempt_timeout does not cut a def operation" in said
        assert "asyncio.to_thread" in said

    async def test_waits_that_block_the_loop_are_said_once(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = make_policy(clock, breaker=None)
        for _ in range(2):
            with pytest.raises(TransientFault):
                policy.execute(Script(TransientFault()).play)
        (said,) = self.said(caplog)
        assert "the waits before retries block the loop" in said

    async def test_an_awaitable_is_cut_and_nothing_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        loop = asyncio.get_running_loop()
        policy = Policy("supplier", attempt_timeout=0.01)
        with pytest.raises(AttemptTimeoutError):
            await policy.execute(lambda: asyncio.gather(asyncio.sleep(5)))
        with pytest.raises(AttemptTimeoutError):
            await policy.execute(loop.create_future)
        assert self.said(caplog) == []

    async def test_nothing_is_said_where_the_promise_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), attempt_timeout=5)
        sleep = functools.partial(asyncio.sleep, 0, "value")
        assert await policy.execute(sleep) == "value"  # type: ignore[func-returns-value]
        assert await asyncio.to_thread(policy.execute, lambda: "value") == "value"
        assert self.said(caplog) == []
