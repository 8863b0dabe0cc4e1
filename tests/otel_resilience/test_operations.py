"""What can be protected, and when that starts: nothing is acquired before the first step of an awaitable."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import types
import xmlrpc.client
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from otel_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Policy,
    RetryConfig,
    RetryService,
    retry,
)
from otel_resilience._internal.operations import is_async_callable
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Script, TransientFault, make_policy, run_fake


async def fetch(value: object = "value") -> object:
    return value


class Client:
    async def get(self, value: object = "value", *, page: int = 1) -> object:
        del page
        return value

    def passes_on(self) -> Awaitable[object]:
        return self.get()

    @staticmethod
    async def static() -> object:
        return "value"

    async def __call__(self) -> object:
        return "value"


CLIENT = Client()
OTHER: dict[str, int] = {"page": 2}
AWAITED: dict[str, Callable[[], Any]] = {
    "async def": fetch,
    "partial": functools.partial(fetch, "value"),
    "callable object": CLIENT,
    "lambda": lambda: fetch(),
    "lambda with arguments": lambda: fetch("value"),
    "lambda of a method": lambda: CLIENT.get("value", page=3),
    "lambda with unpacking": lambda: CLIENT.get(*["value"], **OTHER),
    "lambda of a static method": lambda: Client.static(),
    "lambda with a default": lambda call=fetch: call("value"),  # type: ignore[misc]
    "lambda of a callable object": lambda: CLIENT(),
    "lambda of a task": lambda: asyncio.create_task(fetch()),
    "lambda of a shielded call": lambda: asyncio.shield(fetch()),
    "partial of a lambda": functools.partial(lambda value: fetch(value), "value"),
    "partial that names the function": functools.partial(lambda call, value: call(value), fetch, value="value"),
    "partial of a def that passes it on": functools.partial(Client.passes_on, CLIENT),
    "def that passes it on": CLIENT.passes_on,
}


def half_open(clock: FakeClock) -> CircuitBreaker:
    """A breaker that lets one probe pass."""
    breaker = CircuitBreaker("supplier", CircuitBreakerConfig(consecutive_failures=1), clock=clock, rng=lambda: 1.0)
    with pytest.raises(TransientFault):
        breaker.execute(Script(TransientFault()).play)
    clock.advance(60)
    return breaker


@pytest.mark.fault("L15")
@pytest.mark.parametrize("operation", AWAITED.values(), ids=AWAITED)
class TestBeforeTheFirstStep:
    def test_a_rejection_surfaces_where_it_is_awaited(
        self, clock: FakeClock, path: str, operation: Callable[[], Any]
    ) -> None:
        policy = make_policy(clock)
        assert policy.breaker is not None
        policy.breaker.force_open()

        async def main() -> list[Any]:
            return await asyncio.gather(*(policy.execute(operation) for _ in range(3)), return_exceptions=True)

        assert [type(each) for each in run_fake(clock, main())] == [CircuitOpenError] * 3

    def test_a_call_that_is_cancelled_takes_nothing(
        self, clock: FakeClock, path: str, operation: Callable[[], Any]
    ) -> None:
        policy = make_policy(clock, breaker=half_open(clock))

        async def main() -> Any:
            task = asyncio.ensure_future(policy.execute(operation))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            gc.collect()
            return await policy.execute(operation)

        assert run_fake(clock, main()) == "value"
        assert policy.breaker is not None
        assert policy.breaker.state is BreakerState.CLOSED

    def test_one_that_is_never_awaited_takes_nothing_and_opens_no_span(
        self, clock: FakeClock, operation: Callable[[], Any]
    ) -> None:
        policy = make_policy(clock, breaker=half_open(clock))
        recorded = RecordedTelemetry()

        async def main() -> Any:
            protected = policy.execute(operation)
            other = await policy.execute(operation)
            protected.close()
            return other

        with recorded.recording():
            assert run_fake(clock, main()) == "value"
        assert len(recorded.spans) == 2  # of the call that was made, and of its attempt


@pytest.mark.fault("L15")
async def test_several_requests_at_once_are_rejected_where_they_are_awaited() -> None:
    policy = Policy("supplier", breaker=CircuitBreakerConfig())
    assert policy.breaker is not None
    policy.breaker.force_open()
    rejected = policy.execute(lambda: asyncio.gather(fetch(1), fetch(2)))
    with pytest.raises(CircuitOpenError):
        await rejected
    policy.breaker.close()
    assert list(await policy.execute(lambda: asyncio.gather(fetch(1), fetch(2)))) == [1, 2]


@pytest.mark.fault("L15")
async def test_a_decorated_def_that_passes_a_coroutine_on_is_rejected_where_it_is_awaited() -> None:
    policy = Policy("supplier", breaker=CircuitBreakerConfig())
    assert policy.breaker is not None
    policy.breaker.force_open()

    @policy
    def call(value: object) -> Awaitable[object]:
        return fetch(value)

    results = await asyncio.gather(*(call(number) for number in range(2)), return_exceptions=True)
    assert [type(each) for each in results] == [CircuitOpenError] * 2


@pytest.mark.fault("L15")
class TestOtherOperationsThatReturnAwaitables:
    """Only calling them shows whether they are async."""

    @staticmethod
    def made_elsewhere() -> Awaitable[object]:
        coroutine = fetch()
        return coroutine  # noqa: RET504  # more than the call alone, so that its nature is not seen

    def test_they_run_under_the_policy(self, clock: FakeClock, path: str) -> None:
        policy = make_policy(clock)
        outcomes = Script(TransientFault(), TransientFault(), "value")

        async def play() -> Any:
            return outcomes.play()

        def operation() -> Any:
            made = play()
            return made  # noqa: RET504  # as above

        async def main() -> Any:
            return await policy.execute(operation)

        assert run_fake(clock, main()) == "value"
        assert clock.sleeps == [0.05, 0.1]
        assert policy.breaker is not None
        metrics = policy.breaker.metrics()
        assert (metrics.calls, metrics.failures) == (3, 2)

    def test_one_that_is_cancelled_before_its_first_step_leaves_the_slot(self, clock: FakeClock, path: str) -> None:
        policy = make_policy(clock, breaker=half_open(clock))

        async def main() -> Any:
            task = asyncio.ensure_future(policy.execute(self.made_elsewhere))
            other = policy.execute(self.made_elsewhere)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            gc.collect()  # a coroutine that was never awaited would warn, and warnings are errors here
            return await other

        assert run_fake(clock, main()) == "value"

    def test_the_deadline_begins_with_the_first_step(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=5.0, retry=None)
        protected = policy.execute(self.made_elsewhere)
        clock.advance(10)
        assert run_fake(clock, protected) == "value"

    def test_the_number_of_attempts_counts_both_parts(self, clock: FakeClock) -> None:
        """The call fails before and after it has returned an awaitable."""
        policy = make_policy(clock, breaker=None)
        before, after = Script(TransientFault(), None), Script(TransientFault())

        async def play() -> Any:
            return after.play()

        def operation() -> Any:
            before.play()
            made = play()
            return made  # noqa: RET504  # as above

        async def main() -> Any:
            return await policy.execute(operation)

        with pytest.raises(TransientFault):
            run_fake(clock, main())
        assert (before.calls, after.calls) == (3, 2)

    def test_one_call_and_one_attempt_are_on_record(self, clock: FakeClock) -> None:
        recorded = RecordedTelemetry()
        policy = make_policy(clock)

        async def main() -> Any:
            return await policy.execute(self.made_elsewhere)

        with recorded.recording():
            run_fake(clock, main())
        assert [span.name for span in recorded.spans] == ["attempt", "supplier made_elsewhere"]

    async def test_a_future_that_runs_already_is_awaited_once(self) -> None:
        calls: list[int] = []

        async def work() -> str:
            calls.append(1)
            return "value"

        assert await Policy("supplier").execute(lambda: asyncio.ensure_future(work())) == "value"
        assert calls == [1]


class TestTheNatureOfALambda:
    @pytest.mark.parametrize(
        "operation",
        [
            lambda: OTHER.get("page"),
            lambda: len([fetch]),
            lambda: fetch,
            lambda: fetch() if OTHER else 3,
            functools.partial(lambda call=fetch: call(), call=len),
            functools.partial(lambda call: call(), len),
            functools.partial(len, []),
            lambda: [fetch()],
            lambda: fetch().close(),
            lambda: nowhere(),  # type: ignore[name-defined]  # noqa: F821  # on purpose
            lambda: 3,
        ],
    )
    async def test_one_that_does_more_or_less_than_call_an_async_function_is_a_def(
        self, operation: Callable[[], Any]
    ) -> None:
        assert not is_async_callable(operation)

    def test_outside_a_loop_it_is_called(self) -> None:
        assert not is_async_callable(lambda: fetch())


@contextlib.contextmanager
def managed() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def managed_async() -> AsyncIterator[None]:
    yield


def generating() -> Iterator[int]:
    yield 1


async def generating_async() -> AsyncIterator[int]:
    yield 1


class Odd:
    @property
    def attribute(self) -> int:
        return 1

    def generating(self) -> Iterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1


UNPROTECTABLE: dict[str, tuple[Any, str]] = {
    "generator": (generating, "a generator"),
    "async generator": (generating_async, "an async generator"),
    "partial of a generator": (functools.partial(generating), "a generator"),
    "method that generates": (Odd().generating, "a generator"),
    "object whose call generates": (Odd(), "a generator"),
    "context manager": (managed, "a context manager"),
    "async context manager": (managed_async, "a context manager"),
    "context manager that was made": (managed(), "a context manager"),
    "async context manager that was made": (managed_async(), "a context manager"),
    "class": (Client, "the class Client"),
    "property": (Odd.__dict__["attribute"], "a property"),
    "staticmethod": (staticmethod(fetch), "a staticmethod"),
    "classmethod": (classmethod(fetch), "a classmethod"),  # what a decorator in the wrong place gets
    "None": (None, "None"),
    "text": ("fetch", "'fetch'"),
}


@pytest.mark.fault("L16")
@pytest.mark.parametrize(("operation", "named"), UNPROTECTABLE.values(), ids=UNPROTECTABLE)
class TestWhatCannotBeProtected:
    def test_it_is_refused_by_execute(self, operation: Any, named: str) -> None:
        with pytest.raises(TypeError, match=f"operation must be a function, .*not {named}"):
            Policy("supplier").execute(operation)

    def test_a_generator_is_shown_the_block_form(self, operation: Any, named: str) -> None:
        with pytest.raises(TypeError) as refusal:
            Policy("supplier").execute(operation)
        loop = "async for" if named == "an async generator" else "for"
        shown = f"'{loop} attempt in policy.attempts(): with attempt: ...'" in str(refusal.value)
        assert shown is named.endswith("generator")

    def test_and_by_the_decorator(self, operation: Any, named: str) -> None:
        with pytest.raises(TypeError, match=f"must be a function, .*not {named}"):
            Policy("supplier")(operation)

    def test_and_by_retry(self, operation: Any, named: str) -> None:
        with pytest.raises(TypeError, match=f"must be a function, .*not {named}"):
            retry(on=None)(operation)

    def test_and_by_the_service(self, operation: Any, named: str) -> None:
        with pytest.raises(TypeError, match=f"operation must be a function, .*not {named}"):
            RetryService().execute_with_retry(operation)


@pytest.mark.fault("L16")
class TestWorkThatHasNotBegun:
    @pytest.mark.parametrize("make", [generating, generating_async, managed, managed_async])
    def test_it_is_refused_as_a_result(self, make: Callable[[], Any]) -> None:
        policy = Policy("supplier", breaker=CircuitBreakerConfig(), retry=RetryConfig())
        calls: list[int] = []

        def operation() -> Any:
            calls.append(1)
            return make()

        with pytest.raises(TypeError, match="nothing was protected"):
            policy.execute(operation)
        assert calls == [1]
        assert policy.breaker is not None
        assert policy.breaker.metrics().calls == 0

    async def test_also_of_an_async_operation(self) -> None:
        async def operation() -> Any:
            return generating()

        with pytest.raises(TypeError, match="nothing was protected"):
            await Policy("supplier").execute(operation)

    def test_what_was_started_or_was_fetched_already_is_a_result(self) -> None:
        begun = generating()
        next(begun)
        assert Policy("supplier").execute(lambda: begun) is begun
        assert list(Policy("supplier").execute(lambda: (each for each in [1, 2]))) == [1, 2]


class Wire(xmlrpc.client.Transport):
    """Answers with the name of the method and its parameters."""

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        del host, handler, verbose
        parameters, method = xmlrpc.client.loads(request_body)
        return ((method, *parameters),)


class Raises:
    """A proxy of an object that cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionError(name)

    def __call__(self, value: object = "value") -> object:
        return value


class TestProxiesOfRemoteObjects:
    """They have an attribute of every name, or of none."""

    @pytest.fixture
    def add(self) -> Any:
        return xmlrpc.client.ServerProxy("http://supplier.example", transport=Wire()).add

    @pytest.fixture(params=["remote", "out of reach"])
    def proxy(self, request: pytest.FixtureRequest, add: Any) -> Any:
        return functools.partial(add, "a") if request.param == "remote" else functools.partial(Raises(), ("add", "a"))

    def test_they_are_protected(self, proxy: Any) -> None:
        assert Policy("supplier").execute(proxy) == ("add", "a")
        assert CircuitBreaker("supplier").execute(proxy) == ("add", "a")
        assert Policy("supplier").execute(proxy.func, *proxy.args) == ("add", "a")
        for decorator in (Policy("supplier"), retry(on=None)):
            decorated: Any = decorator(proxy.func)
            assert decorated(*proxy.args) == ("add", "a")

    async def test_also_within_a_loop(self, proxy: Any) -> None:
        assert Policy("supplier").execute(proxy) == ("add", "a")
        assert Policy("supplier").execute(proxy.func, *proxy.args) == ("add", "a")
        assert CircuitBreaker("supplier").execute(lambda: proxy.func(*proxy.args)) == ("add", "a")

    def test_they_have_the_name_of_their_class(self, add: Any) -> None:
        with RecordedTelemetry().recording() as recorded:
            Policy("supplier").execute(add, 2)
            retry(on=None)(add)(2)
        assert [span.name for span in recorded.spans if span.name != "attempt"] == [
            "supplier _Method",
            "xmlrpc.client._Method _Method",
        ]


@pytest.mark.parametrize("name", ["", " ", 5, None])
def test_a_name_that_says_nothing_is_that_of_the_class(name: object) -> None:
    class Fetch:
        def __init__(self) -> None:
            self.__name__ = name

        def __call__(self) -> str:
            return "value"

    with RecordedTelemetry().recording() as recorded:
        calls: list[Callable[[], Any]] = [lambda: Policy("supplier").execute(Fetch()), Policy("supplier")(Fetch())]
        assert [call() for call in calls] == ["value"] * 2
    assert [span.name for span in recorded.spans if span.name != "attempt"] == ["supplier Fetch"] * 2


class Lazy:
    """Like Django's ``SimpleLazyObject``: the first access, even to its class, creates the wrapped object."""

    def __getattribute__(self, name: str) -> Any:
        raise ConnectionError("fetched too early")


class TestResultsThatAreLazy:
    def test_they_are_not_looked_at(self, clock: FakeClock) -> None:
        policy = make_policy(clock, breaker=half_open(clock), fallback="none")
        result = Lazy()
        assert policy.execute(lambda: result) is result
        assert CircuitBreaker("supplier").execute(lambda: result) is result
        assert policy.breaker is not None
        assert policy.breaker.state is BreakerState.CLOSED

    async def test_nor_those_of_an_async_def(self) -> None:
        class OtherLazy(Lazy):
            pass

        result = OtherLazy()
        assert await Policy("supplier").execute(fetch, result) is result
        assert await CircuitBreaker("supplier").execute(lambda: fetch(result)) is result

    async def test_a_coroutine_of_a_generator_is_awaited(self) -> None:
        @types.coroutine
        def old_style() -> Generator[Any, None, str]:
            yield from asyncio.sleep(0).__await__()
            return "value"

        def operation() -> Any:
            made = old_style()
            return made  # noqa: RET504  # so that its nature is not seen

        assert await Policy("supplier").execute(operation) == "value"


def test_a_partial_of_a_class_and_a_bound_builtin_are_functions() -> None:
    assert isinstance(Policy("supplier").execute(functools.partial(Client)), Client)
    assert Policy("supplier").execute([3].pop) == 3
