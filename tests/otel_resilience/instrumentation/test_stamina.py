"""Unchanged code that uses stamina, with its instrumentor."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import stamina
import stamina.instrumentation
import tenacity

from otel_resilience.instrumentation.stamina import StaminaInstrumentor
from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
from otel_resilience.testing import RecordedTelemetry
from support.instrumented import Script, attributes, calls, current_span_name, frames_of, replaced

HERE = __name__
MODULES = (tenacity, sys.modules[tenacity.AsyncRetrying.__module__], stamina, sys.modules["stamina._core"])
RESET = ConnectionResetError
QUICK: dict[str, Any] = {"on": RESET, "attempts": 3, "wait_initial": 0.0, "wait_max": 0.0, "wait_jitter": 0.0}
HAS_CALLERS = hasattr(stamina, "RetryingCaller")
script = Script()


@stamina.retry(**QUICK)
def decorated_before(number: int) -> tuple[Any, int]:
    return script(), number


@stamina.retry(**QUICK)
async def decorated_async(number: int) -> tuple[Any, int]:
    await asyncio.sleep(0)
    return script(), number


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[StaminaInstrumentor]:
    unpatched = replaced(*MODULES)
    StaminaInstrumentor().instrument()
    yield StaminaInstrumentor()
    if StaminaInstrumentor().is_instrumented_by_opentelemetry:
        StaminaInstrumentor().uninstrument()
    assert replaced(*MODULES) == unpatched


def run(*outcomes: Any) -> Any:
    script.__init__(*outcomes)  # type: ignore[misc]  # starts anew
    return decorated_before(7)


def test_functions(recorded: RecordedTelemetry) -> None:
    assert run(RESET(), 5) == (5, 7)
    assert script.inside == ["attempt", "attempt"]
    with pytest.raises(RESET):
        run(RESET(), RESET(), RESET())
    with pytest.raises(KeyError):
        run(KeyError("key"))
    assert calls(recorded) == [
        (f"{HERE} decorated_before", "ok_after_retry", 2),
        (f"{HERE} decorated_before", "failed", 3),
        (f"{HERE} decorated_before", "failed", 1),
    ]
    assert recorded.event_names().count("resilience.retry.exhausted") == 1
    assert attributes(recorded.spans[0])["error.type"] == "connection_error"
    assert current_span_name() == ""


async def test_async_functions(recorded: RecordedTelemetry) -> None:
    script.__init__(RESET(), 5, 6)  # type: ignore[misc]  # starts anew
    assert inspect.iscoroutinefunction(decorated_async)
    assert await decorated_async(7) == (5, 7)
    assert await decorated_async(8) == (6, 8)
    assert calls(recorded) == [
        (f"{HERE} decorated_async", "ok_after_retry", 2),
        (f"{HERE} decorated_async", "ok", 1),
    ]
    assert current_span_name() == ""


async def test_blocks(recorded: RecordedTelemetry) -> None:
    work = Script(RESET(), 3, RESET(), 4)
    for attempt in stamina.retry_context(**QUICK):
        with attempt:
            work()
    async for attempt in stamina.retry_context(**QUICK):
        with attempt:
            work()
    assert work.inside == ["attempt"] * 4
    assert calls(recorded) == [(f"{HERE} test_blocks", "ok_after_retry", 2)] * 2


@pytest.mark.skipif(not HAS_CALLERS, reason="this version has no callers")
async def test_callers(recorded: RecordedTelemetry) -> None:
    options = {name: value for name, value in QUICK.items() if name != "on"}

    async def fetch_async(left: list[BaseException]) -> int:
        if left:
            raise left.pop()
        return 3

    def fetch(left: list[BaseException]) -> int:
        if left:
            raise left.pop()
        return 4

    assert stamina.RetryingCaller(**options)(RESET, fetch, [RESET()]) == 4
    assert stamina.RetryingCaller(**options).on(RESET)(fetch, []) == 4
    assert await stamina.AsyncRetryingCaller(**options).on(RESET)(fetch_async, [RESET()]) == 3
    assert calls(recorded) == [
        (f"{HERE} fetch", "ok_after_retry", 2),
        (f"{HERE} fetch", "ok", 1),
        (f"{HERE} fetch_async", "ok_after_retry", 2),
    ]


async def test_a_task_that_is_cancelled_while_it_waits(recorded: RecordedTelemetry) -> None:
    failed = asyncio.Event()

    @stamina.retry(on=RESET, attempts=3, wait_initial=3600, wait_max=3600, timeout=None)
    async def fails() -> None:
        failed.set()
        raise RESET

    task = asyncio.create_task(fails())
    await failed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls(recorded) == [(f"{HERE} fails", "cancelled", 1)]


async def test_generator_functions_are_not_current_for_their_users(recorded: RecordedTelemetry) -> None:
    @stamina.retry(**QUICK)
    def pages() -> Iterator[int]:
        yield 1
        yield 2

    @stamina.retry(**QUICK)
    async def pages_async() -> AsyncIterator[int]:
        yield 1
        yield 2

    if not inspect.isgeneratorfunction(pages):
        pytest.skip("this version does not retry generators")
    assert [(page, current_span_name()) for page in pages()] == [(1, ""), (2, "")]
    assert [(page, current_span_name()) async for page in pages_async()] == [(1, ""), (2, "")]
    assert calls(recorded) == [(f"{HERE} pages", "ok", 1), (f"{HERE} pages_async", "ok", 1)]


def test_each_call_is_reported_once(recorded: RecordedTelemetry, instrumented: StaminaInstrumentor) -> None:
    plain = tenacity.retry(stop=tenacity.stop_after_attempt(2))(Script(1, 2, 3))
    TenacityInstrumentor().instrument(dependency="tenacity")
    try:
        run(5)
        plain()
        instrumented.uninstrument()
        run(6)
        plain()
        instrumented.instrument(dependency="stamina")
    finally:
        TenacityInstrumentor().uninstrument()
    run(7)
    plain()
    assert calls(recorded) == [
        (f"{HERE} decorated_before", "ok", 1),
        ("tenacity Script", "ok", 1),
        ("tenacity Script", "ok", 1),
        ("stamina decorated_before", "ok", 1),
    ]


def test_its_hooks_and_its_test_mode_are_as_before(recorded: RecordedTelemetry) -> None:
    seen: list[str] = []
    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([lambda details: seen.append(details.name)])
    try:
        run(RESET(), 5)
        stamina.set_active(False)
        with pytest.raises(RESET):
            run(RESET())
    finally:
        stamina.set_active(True)
        stamina.instrumentation.set_on_retry_hooks(hooks)
    assert seen == [f"{HERE}.decorated_before"]
    assert calls(recorded)[1:] == [(f"{HERE} decorated_before", "failed", 1)]


def test_tracebacks_are_as_long_as_before(instrumented: StaminaInstrumentor) -> None:
    def each() -> list[Any]:
        return [frames_of(lambda: run(RESET(), RESET(), RESET()), RESET), frames_of(lambda: run(KeyError()), KeyError)]

    with_it = each()
    instrumented.uninstrument()
    assert with_it == each()
