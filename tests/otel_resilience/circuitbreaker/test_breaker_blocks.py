"""``with breaker:``, ``async with breaker:``."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from otel_resilience import BreakerState, CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from otel_resilience.circuitbreaker.breaker import _blocks
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import NotFoundFault, TransientFault


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=2), clock=clock, rng=lambda: 1.0)


def fail(breaker: CircuitBreaker, error: type[BaseException] = TransientFault) -> None:
    with pytest.raises(error), breaker:
        raise error


def test_it_counts_as_execute_does(breaker: CircuitBreaker) -> None:
    with breaker as entered:
        assert entered is breaker
    fail(breaker, NotFoundFault)
    assert (breaker.metrics().calls, breaker.metrics().failures) == (2, 0)
    fail(breaker)
    fail(breaker, asyncio.CancelledError)
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(CircuitOpenError, match="supplier"), breaker:
        raise AssertionError("not entered")


async def test_in_async_code(breaker: CircuitBreaker) -> None:
    async with breaker as entered:
        assert entered is breaker
    for _ in range(2):
        with pytest.raises(TransientFault):
            async with breaker:
                raise TransientFault
    assert breaker.state is BreakerState.OPEN


def test_rejections_are_counted(breaker: CircuitBreaker) -> None:
    breaker.force_open()
    with RecordedTelemetry().recording() as recorded:
        for _ in range(2):
            with pytest.raises(CircuitOpenError), breaker:
                raise AssertionError("not entered")
        (point,) = recorded.points("resilience.circuit_breaker.rejections")
    assert (point.value, breaker.metrics().rejected) == (2, 2)


def test_the_probe_of_a_block_closes_the_circuit(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker)
    fail(breaker)
    clock.advance(60)
    with breaker, pytest.raises(CircuitOpenError), breaker:
        raise AssertionError("the one probe is under way")
    assert breaker.state is BreakerState.CLOSED


def test_blocks_within_each_other(breaker: CircuitBreaker, clock: FakeClock) -> None:
    other = CircuitBreaker("other", clock=clock)
    with breaker, other, breaker, pytest.raises(TransientFault), other:
        raise TransientFault
    assert (breaker.metrics().calls, breaker.metrics().failures) == (2, 0)
    assert (other.metrics().calls, other.metrics().failures) == (2, 1)


async def test_tasks_at_once(breaker: CircuitBreaker) -> None:
    both = asyncio.Barrier(2)

    async def call(*, fails: bool) -> None:
        async with breaker:
            await both.wait()
            if fails:
                raise TransientFault

    results = await asyncio.gather(call(fails=True), call(fails=False), return_exceptions=True)
    assert isinstance(results[0], TransientFault)
    assert (breaker.metrics().calls, breaker.metrics().failures) == (2, 1)


def test_threads_at_once(breaker: CircuitBreaker) -> None:
    both = threading.Barrier(2, timeout=60)

    def call() -> None:
        with breaker:
            both.wait()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.metrics().calls == 2


class Dependency:
    """A generator with a block, each of whose steps runs in another context: a ``def`` dependency of FastAPI."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._steps = self._block(breaker)
        contextvars.copy_context().run(next, self._steps)

    @staticmethod
    def _block(breaker: CircuitBreaker) -> Iterator[None]:
        with breaker:
            yield

    def succeed(self) -> None:
        contextvars.copy_context().run(next, self._steps, None)

    def fail(self) -> None:
        with pytest.raises(TransientFault):
            contextvars.copy_context().run(self._steps.throw, TransientFault())  # type: ignore[attr-defined]  # a generator


class TestABlockThatIsLeftInAnotherContext:
    def test_it_counts(self, breaker: CircuitBreaker) -> None:
        Dependency(breaker).succeed()
        for dependency in [Dependency(breaker) for _ in range(2)]:
            dependency.fail()
        assert breaker.state is BreakerState.OPEN
        with pytest.raises(CircuitOpenError):
            Dependency(breaker)

    def test_it_is_a_probe(self, breaker: CircuitBreaker, clock: FakeClock) -> None:
        fail(breaker)
        fail(breaker)
        clock.advance(60)
        probe = Dependency(breaker)
        with pytest.raises(CircuitOpenError):
            Dependency(breaker)
        probe.succeed()
        assert breaker.state is BreakerState.CLOSED

    def test_one_from_before_the_last_change_of_state_decides_nothing(
        self, breaker: CircuitBreaker, clock: FakeClock
    ) -> None:
        late = Dependency(breaker)
        fail(breaker)
        fail(breaker)
        clock.advance(60)
        probe = Dependency(breaker)
        late.succeed()
        assert (breaker.state.name, breaker.metrics().stale_results) == ("HALF_OPEN", 1)
        probe.fail()
        assert (breaker.state.name, breaker.metrics().stale_results) == ("OPEN", 1)

    def test_nothing_of_it_is_kept_where_it_was_entered(self, breaker: CircuitBreaker) -> None:
        for _ in range(3):
            breaker.__enter__()
            contextvars.Context().run(breaker.__exit__, None, None, None)
        with breaker:
            pass
        assert breaker.metrics().calls == 4
        assert len(_blocks.get()) <= 1
        breaker.__exit__(None, None, None)  # that was never entered
        assert breaker.metrics().calls == 4
