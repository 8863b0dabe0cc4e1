"""Unchanged code that uses backoff, with its instrumentor."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import backoff
import pytest
from backoff import _async, _sync

from otel_resilience.instrumentation.backoff import BackoffInstrumentor
from otel_resilience.testing import RecordedTelemetry
from support.instrumented import (
    Script,
    attributes,
    calls,
    current_span_name,
    errors_of_attempts,
    frames_of,
    replaced,
)

HERE = __name__
RESET = ConnectionResetError
NOW: dict[str, Any] = {"max_tries": 3, "interval": 0, "jitter": None, "logger": None}
script = Script()
seen: list[Any] = []


@backoff.on_exception(backoff.constant, RESET, on_backoff=seen.append, on_giveup=seen.append, **NOW)
def decorated_before(number: int) -> tuple[Any, int]:
    return script(), number


@backoff.on_exception(backoff.constant, RESET, **NOW)
async def decorated_async(number: int) -> tuple[Any, int]:
    await asyncio.sleep(0)
    return script(), number


@backoff.on_predicate(backoff.constant, **NOW)
def polls() -> Any:
    return script()


@backoff.on_predicate(backoff.constant, **NOW)
async def polls_async() -> Any:
    return script()


DECORATED: tuple[Callable[..., Any], ...] = (decorated_before, decorated_async, polls, polls_async)


def cells() -> list[list[int]]:
    return [[id(cell.cell_contents) for cell in each.__closure__ or ()] for each in DECORATED]


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[BackoffInstrumentor]:
    seen.clear()
    unpatched = replaced(backoff, _sync, _async), cells()
    BackoffInstrumentor().instrument()
    assert cells() != unpatched[1]
    yield BackoffInstrumentor()
    if BackoffInstrumentor().is_instrumented_by_opentelemetry:
        BackoffInstrumentor().uninstrument()
    assert (replaced(backoff, _sync, _async), cells()) == unpatched


def run(*outcomes: Any, function: Any = None) -> Any:
    script.__init__(*outcomes)  # type: ignore[misc]  # starts anew
    return decorated_before(7) if function is None else function()


def test_functions(recorded: RecordedTelemetry) -> None:
    assert run(RESET("gone"), 5) == (5, 7)
    assert script.inside == ["attempt", "attempt"]
    with pytest.raises(RESET):
        run(RESET(), RESET(), RESET())
    with pytest.raises(KeyError):
        run(RESET(), KeyError("key"))
    assert run(1) == (1, 7)
    assert calls(recorded) == [
        (f"{HERE} decorated_before", "ok_after_retry", 2),
        (f"{HERE} decorated_before", "failed", 3),
        (f"{HERE} decorated_before", "failed", 2),
        (f"{HERE} decorated_before", "ok", 1),
    ]
    first, second = map(attributes, recorded.spans[:2])
    assert first["error.type"] == "connection_error"
    assert second["resilience.retry.delay"] == 0
    assert recorded.event_names()[:3] == [
        "resilience.error.classified",
        "resilience.attempt.failed",
        "resilience.retry.scheduled",
    ]
    assert recorded.event_names().count("resilience.retry.exhausted") == 1
    assert current_span_name() == ""


def test_handlers_see_what_they_saw_before() -> None:
    with pytest.raises(RESET):
        run(RESET(), RESET(), RESET())
    assert [each["tries"] for each in seen] == [1, 2, 3]
    assert {each["target"] for each in seen} == {inspect.unwrap(decorated_before)}


async def test_async_functions(recorded: RecordedTelemetry) -> None:
    assert inspect.iscoroutinefunction(decorated_async)
    script.__init__(RESET(), 5, RESET(), RESET(), RESET())  # type: ignore[misc]  # starts anew
    assert await decorated_async(7) == (5, 7)
    with pytest.raises(RESET):
        await decorated_async(8)
    assert script.inside == ["attempt"] * 5
    assert calls(recorded) == [
        (f"{HERE} decorated_async", "ok_after_retry", 2),
        (f"{HERE} decorated_async", "failed", 3),
    ]
    assert current_span_name() == ""


async def test_async_calls_at_the_same_time(recorded: RecordedTelemetry) -> None:
    @backoff.on_exception(backoff.constant, RESET, **NOW)
    async def fetch(work: Script) -> Any:
        await asyncio.sleep(0)
        return work()

    results = await asyncio.gather(fetch(Script(RESET(), 1)), fetch(Script(2)), fetch(Script(RESET(), RESET(), 3)))
    assert list(results) == [1, 2, 3]
    assert sorted(attempts for _, _, attempts in calls(recorded)) == [1, 2, 3]


async def test_results_that_are_retried(recorded: RecordedTelemetry) -> None:
    assert run(None, 4, function=polls) == 4
    assert run(None, None, None, function=polls) is None
    script.__init__(None, 4, None, None, None)  # type: ignore[misc]  # starts anew
    assert await polls_async() == 4
    assert await polls_async() is None
    with pytest.raises(RESET):
        run(RESET(), function=polls)
    assert calls(recorded) == [
        (f"{HERE} polls", "ok_after_retry", 2),
        (f"{HERE} polls", "failed", 3),
        (f"{HERE} polls_async", "ok_after_retry", 2),
        (f"{HERE} polls_async", "failed", 3),
        (f"{HERE} polls", "failed", 1),
    ]
    assert errors_of_attempts(recorded)[:2] == ["failed_result", None]


def test_giving_up_early(recorded: RecordedTelemetry) -> None:
    def gives_up(error: Exception) -> bool:
        return "fatal" in str(error)

    @backoff.on_exception(backoff.constant, RESET, giveup=gives_up, raise_on_giveup=False, **NOW)
    def fetch() -> Any:
        return script()

    assert run(RESET("fatal"), function=fetch) is None
    assert calls(recorded) == [(f"{HERE} fetch", "failed", 1)]
    assert "resilience.retry.exhausted" not in recorded.event_names()


class Client:
    @backoff.on_exception(backoff.constant, RESET, **NOW)
    def fetch(self) -> Any:
        return script()


def test_methods_partials_and_decorators_above_and_below(recorded: RecordedTelemetry) -> None:
    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @traced
    @backoff.on_exception(backoff.constant, RESET, on_backoff=seen.append, **NOW)
    @traced
    def fetch() -> Any:
        return script()

    assert run(RESET(), 1, function=Client().fetch) == 1
    assert run(RESET(), 2, function=fetch) == 2
    assert seen[0]["target"] is fetch.__wrapped__.__wrapped__
    twice = backoff.on_exception(backoff.constant, KeyError, **NOW)(decorated_before)
    assert run(RESET(), KeyError(), 3, function=lambda: twice(7)) == (3, 7)
    assert calls(recorded) == [
        (f"{HERE} fetch", "ok_after_retry", 2),
        (f"{HERE} fetch", "ok_after_retry", 2),
        (f"{HERE} decorated_before", "failed", 2),
        (f"{HERE} decorated_before", "ok", 1),
        (f"{HERE} decorated_before", "ok_after_retry", 2),
    ]


async def test_a_wait_that_is_interrupted(recorded: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    failed = asyncio.Event()

    def interrupted(seconds: float) -> None:
        waits.append(seconds)
        raise KeyboardInterrupt

    @backoff.on_exception(backoff.constant, RESET, interval=3600, jitter=None, logger=None)
    def fails() -> None:
        failed.set()
        raise RESET

    @backoff.on_exception(backoff.constant, RESET, interval=3600, jitter=None, logger=None)
    async def fails_async() -> None:
        failed.set()
        raise RESET

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fails()
    failed.clear()
    task = asyncio.create_task(fails_async())
    await failed.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits == [3600]
    assert calls(recorded) == [(f"{HERE} fails", "cancelled", 1), (f"{HERE} fails_async", "cancelled", 1)]


async def test_handlers_that_fail(recorded: RecordedTelemetry) -> None:
    def broken(details: Any) -> None:
        raise LookupError

    @backoff.on_exception(backoff.constant, RESET, on_backoff=broken, **NOW)
    def fetch() -> Any:
        raise RESET

    @backoff.on_exception(backoff.constant, RESET, on_backoff=broken, **NOW)
    async def fetch_async() -> Any:
        raise RESET

    with pytest.raises(LookupError):
        fetch()
    with pytest.raises(LookupError):
        await fetch_async()
    assert calls(recorded) == [(f"{HERE} fetch", "failed", 1), (f"{HERE} fetch_async", "failed", 1)]


def test_tracebacks_are_as_long_as_before(instrumented: BackoffInstrumentor) -> None:
    def each() -> list[Any]:
        script.__init__(*[RESET()] * 6)  # type: ignore[misc]  # starts anew
        functions = (lambda: decorated_before(7), lambda: asyncio.run(decorated_async(7)))
        return [frames_of(function, RESET) for function in functions]

    with_it = each()
    instrumented.uninstrument()
    assert with_it == each()


def test_what_was_decorated_meanwhile_is_undone_too(
    instrumented: BackoffInstrumentor, recorded: RecordedTelemetry
) -> None:
    meanwhile: Any = backoff.on_exception(backoff.constant, RESET, **NOW)(script)
    instrumented.uninstrument()
    assert run(1, function=meanwhile) == 1
    assert recorded.spans == ()
    assert script in [cell.cell_contents for cell in meanwhile.__closure__ or ()]


def test_names_of_dependencies(instrumented: BackoffInstrumentor, recorded: RecordedTelemetry) -> None:
    instrumented.uninstrument()
    BackoffInstrumentor().instrument(dependency="supplier")
    run(1)
    assert calls(recorded) == [("supplier decorated_before", "ok", 1)]


def test_telemetry_that_fails_harms_nothing(instrumented: BackoffInstrumentor, recorded: RecordedTelemetry) -> None:
    def broken(name: str) -> str:
        raise LookupError

    instrumented.uninstrument()
    BackoffInstrumentor().instrument(dependency=broken)
    assert run(RESET(), 5) == (5, 7)
    assert calls(recorded) == [(f"{HERE} decorated_before", "ok_after_retry", 2)]
