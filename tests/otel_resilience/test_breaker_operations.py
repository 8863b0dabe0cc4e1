"""What :meth:`CircuitBreaker.execute` takes: nothing is acquired before the first step of an awaitable, and what
cannot be protected is refused."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from otel_resilience import BreakerState, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerRegistry, CircuitOpenError
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import TransientFault

CONFIG = CircuitBreakerConfig(consecutive_failures=1)


async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number


class Client:
    async def get(self, number: int) -> int:
        return await fetch(number)

    async def __call__(self) -> int:
        return await fetch(1)


def choose(number: int) -> Any:
    """Its nature is unknown until it is called."""
    chosen = [fetch]
    return chosen[0](number)


def of_a_method(client: Client) -> Callable[[], Any]:
    return lambda: client.get(1)


WAYS: dict[str, Callable[[], Callable[[], Any]]] = {
    "async def": lambda: functools.partial(fetch, 1),
    "lambda": lambda: lambda: fetch(1),
    "lambda of a method": lambda: of_a_method(Client()),
    "callable object": Client,
}
UNKNOWN: dict[str, Callable[[], Callable[[], Any]]] = {
    "unknown": lambda: functools.partial(choose, 1),
    "future": lambda: lambda: asyncio.ensure_future(fetch(1)),
}


def half_open(clock: FakeClock) -> CircuitBreaker:
    breaker = CircuitBreaker("supplier", CONFIG, clock=clock)
    error = TransientFault()
    breaker.record_error(breaker.admit(), error.classification, clock(), error)
    clock.advance(5)
    assert breaker.state is BreakerState.HALF_OPEN
    return breaker


@pytest.fixture(params=[False, True], ids=["plain", "observed"])
def _observed(request: pytest.FixtureRequest) -> Iterator[None]:
    with RecordedTelemetry().recording() if request.param else contextlib.nullcontext():
        yield


@pytest.mark.fault("L15")
@pytest.mark.usefixtures("_observed")
@pytest.mark.parametrize("way", WAYS)
def test_a_rejection_is_raised_where_the_awaitable_is_awaited(clock: FakeClock, way: str) -> None:
    async def main() -> list[object]:
        breaker = CircuitBreaker("supplier", CONFIG, clock=clock)
        breaker.force_open()
        return list(await asyncio.gather(*(breaker.execute(WAYS[way]()) for _ in range(3)), return_exceptions=True))

    assert [type(result) for result in asyncio.run(main())] == [CircuitOpenError] * 3


@pytest.mark.fault("L15")
@pytest.mark.usefixtures("_observed")
@pytest.mark.parametrize("way", [*WAYS, *UNKNOWN])
def test_a_call_that_is_cancelled_before_its_first_step_takes_no_probe_slot(clock: FakeClock, way: str) -> None:
    async def main() -> int:
        breaker = half_open(clock)
        task = asyncio.ensure_future(breaker.execute((WAYS | UNKNOWN)[way]()))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        return await breaker.execute(lambda: fetch(2))

    assert asyncio.run(main()) == 2


@pytest.mark.fault("L15")
@pytest.mark.filterwarnings("ignore:coroutine 'CircuitBreaker._execute_async' was never awaited")
@pytest.mark.parametrize("way", [*WAYS, "unknown"])
def test_a_call_that_is_never_awaited_takes_nothing_and_leaves_nothing(clock: FakeClock, way: str) -> None:
    async def main() -> None:
        breaker = half_open(clock)
        breaker.execute((WAYS | UNKNOWN)[way]())
        gc.collect()  # the operation's own coroutine must not warn: see filterwarnings
        assert await breaker.execute(lambda: fetch(2)) == 2
        assert breaker.state is BreakerState.CLOSED

    asyncio.run(main())


def test_the_time_before_the_first_step_is_not_that_of_the_call(clock: FakeClock) -> None:
    async def main() -> CircuitBreaker:
        config = CircuitBreakerConfig(slow_call_duration=2, minimum_calls=1)
        breaker = CircuitBreaker("supplier", config, clock=clock)
        for way in (*WAYS, "unknown"):
            call = breaker.execute((WAYS | UNKNOWN)[way]())
            clock.advance(60)
            await call
        return breaker

    assert asyncio.run(main()).metrics().slow_calls == 0


def test_a_lambda_that_is_not_a_coroutine_is_rejected_at_the_call(clock: FakeClock) -> None:
    called: list[int] = []

    async def main() -> None:
        breaker = CircuitBreaker("supplier", CONFIG, clock=clock)
        breaker.force_open()
        breaker.execute(lambda: called.append(1))

    with pytest.raises(CircuitOpenError):
        asyncio.run(main())
    assert called == []


# What cannot be protected


def generates() -> Iterator[int]:
    yield 1


async def generates_too() -> AsyncIterator[int]:
    yield 1


@contextlib.contextmanager
def manages() -> Iterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def manages_too() -> AsyncIterator[int]:
    yield 1


class Thing:
    @property
    def name(self) -> str:
        return "thing"

    @staticmethod
    def still() -> int:
        return 1

    def each(self) -> Iterator[int]:
        yield 1


REFUSED: list[Any] = [
    generates, generates_too, manages, manages_too, functools.partial(generates), Thing().each, Thing, Thing.name,
    vars(Thing)["still"], None, 5, "fetch",
]  # fmt: skip


@pytest.mark.parametrize("operation", REFUSED)
def test_what_cannot_be_protected_is_refused_and_counts_as_nothing(clock: FakeClock, operation: Any) -> None:
    breaker = CircuitBreakerRegistry(CONFIG, clock=clock).get("supplier")
    with pytest.raises(TypeError, match="operation must be a function"):
        breaker.execute(operation)
    metrics = breaker.metrics()
    assert (metrics.calls, metrics.failures, breaker.state) == (0, 0, BreakerState.CLOSED)


@pytest.mark.parametrize("made", [generates, generates_too, manages, manages_too])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_result_of_which_nothing_has_run_is_refused_and_gives_the_probe_slot_back(
    clock: FakeClock, made: Callable[[], Any], asynchronous: bool
) -> None:
    breaker = half_open(clock)

    async def operation() -> object:
        return made()

    for _ in range(2):
        with pytest.raises(TypeError, match="has not started"):
            asyncio.run(operation_of(breaker, operation)) if asynchronous else breaker.execute(lambda: made())
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.execute(lambda: "value") == "value"


async def operation_of(breaker: CircuitBreaker, operation: Callable[[], Awaitable[object]]) -> object:
    return await breaker.execute(operation)


def test_generators_that_are_under_way_pass(clock: FakeClock) -> None:
    breaker = CircuitBreaker("supplier", CONFIG, clock=clock)

    def first_page() -> Iterator[int]:
        pages = generates()
        next(pages)
        return pages

    assert list(breaker.execute(first_page)) == []
    assert list(breaker.execute(lambda: (n for n in [1]))) == [1]
