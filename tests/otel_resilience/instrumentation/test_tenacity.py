"""Unchanged code that uses tenacity, with its instrumentor."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import pickle
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    RetryError,
    Retrying,
    TryAgain,
    retry,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_fixed,
)

from otel_resilience import Hooks, Policy, RetryConfig, add_hooks, current_attempt, default_classifier, remove_hooks
from otel_resilience.classification.model import Classification, ErrorClass, Severity
from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
from otel_resilience.telemetry import never_raise
from otel_resilience.telemetry.call_telemetry import CallTelemetry
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
MODULES = (tenacity, sys.modules[AsyncRetrying.__module__])
waits: list[float] = []
RESET = ConnectionResetError
OPTIONS: dict[str, Any] = {"stop": stop_after_attempt(3), "wait": wait_fixed(2), "sleep": waits.append}


async def no_wait(seconds: float) -> None:
    waits.append(seconds)


ASYNC_OPTIONS: dict[str, Any] = {**OPTIONS, "sleep": no_wait}
script = Script()


@retry(**OPTIONS)
def decorated_before(number: int, *, unit: str = "page") -> tuple[Any, int, str]:
    """Fetches."""
    return script(), number, unit


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[TenacityInstrumentor]:
    waits.clear()
    before = replaced(*MODULES)
    TenacityInstrumentor().instrument()
    assert replaced(*MODULES) != before
    yield TenacityInstrumentor()
    if TenacityInstrumentor().is_instrumented_by_opentelemetry:
        TenacityInstrumentor().uninstrument()
    assert replaced(*MODULES) == before


def run(*outcomes: Any) -> Any:
    script.__init__(*outcomes)  # type: ignore[misc]  # starts anew
    return decorated_before(7)


def test_a_call_that_a_retry_cured(recorded: RecordedTelemetry) -> None:
    assert run(RESET("gone"), 5) == (5, 7, "page")
    assert calls(recorded) == [(f"{HERE} decorated_before", "ok_after_retry", 2)]
    first, second, call = map(attributes, recorded.spans)
    assert first == {
        "resilience.dependency": HERE,
        "resilience.attempt.number": 1,
        "error.type": "connection_error",
        "resilience.error.class": "transient",
        "resilience.error.severity": "MEDIUM",
    }
    assert second == {
        "resilience.dependency": HERE,
        "resilience.attempt.number": 2,
        "resilience.retry.delay": 2.0,
    }
    assert "error.type" not in call
    assert script.inside == ["attempt", "attempt"]
    assert waits == [2]
    statistics = getattr(decorated_before, "statistics", None) or decorated_before.retry.statistics
    assert (statistics["attempt_number"], statistics["idle_for"]) == (2, 2)
    assert recorded.event_names() == [
        "resilience.error.classified",
        "resilience.attempt.failed",
        "resilience.retry.scheduled",
    ]
    failed = recorded.events[1].log_record
    assert failed.span_id == recorded.spans[0].context.span_id
    assert recorded.events[2].log_record.span_id == recorded.spans[2].context.span_id
    by_metric = {point.metric: point for point in recorded.points()}
    assert by_metric["resilience.operation.attempts"].value == 2
    assert by_metric["resilience.operation.duration"].attributes["resilience.outcome"] == "ok_after_retry"
    assert by_metric["resilience.errors"].attributes["error.type"] == "connection_error"
    assert by_metric["resilience.retry.delay"].value == 2
    assert current_span_name() == ""


def test_a_call_that_succeeds_at_once(recorded: RecordedTelemetry) -> None:
    assert run("ok") == ("ok", 7, "page")
    assert calls(recorded) == [(f"{HERE} decorated_before", "ok", 1)]
    assert recorded.event_names() == []


def test_a_call_whose_attempts_are_used_up(recorded: RecordedTelemetry) -> None:
    with pytest.raises(RetryError) as caught:
        run(RESET(), RESET(), RESET("password=hunter2"))
    assert isinstance(caught.value.__cause__, RESET)
    assert calls(recorded) == [(f"{HERE} decorated_before", "failed", 3)]
    call = recorded.spans[-1]
    assert attributes(call)["error.type"] == "connection_error"
    assert "hunter2" not in str(call.status.description)
    assert recorded.event_names()[-1] == "resilience.retry.exhausted"
    assert recorded.event_names().count("resilience.retry.scheduled") == 2


@pytest.mark.parametrize("reraise", [True, False])
def test_an_error_that_is_not_to_be_retried_is_not_exhausted(recorded: RecordedTelemetry, reraise: bool) -> None:
    work = retry(retry=retry_if_exception_type(OSError), reraise=reraise, **OPTIONS)(Script(RESET(), KeyError("k")))
    with pytest.raises(KeyError):
        work()
    assert calls(recorded) == [("support.instrumented Script", "failed", 2)]
    assert errors_of_attempts(recorded) == ["connection_error", "_OTHER"]
    assert "resilience.retry.exhausted" not in recorded.event_names()


def test_the_original_error_when_it_is_reraised(recorded: RecordedTelemetry) -> None:
    error = RESET()
    with pytest.raises(RESET) as caught:
        retry(reraise=True, **OPTIONS)(Script(RESET(), RESET(), error))()
    assert caught.value is error
    assert recorded.event_names()[-1] == "resilience.retry.exhausted"


def test_a_value_in_the_place_of_the_error(recorded: RecordedTelemetry) -> None:
    work = retry(retry_error_callback=lambda state: "instead", **OPTIONS)(Script(RESET(), RESET(), RESET()))
    assert work() == "instead"
    assert [attributes(span).get("resilience.outcome") for span in recorded.spans][-1] == "fallback"


def test_results_that_are_retried(recorded: RecordedTelemetry) -> None:
    work = retry(retry=retry_if_result(lambda result: result is None), **OPTIONS)(Script(None, None, 4))
    assert work() == 4
    assert calls(recorded) == [("support.instrumented Script", "ok_after_retry", 3)]
    assert errors_of_attempts(recorded) == ["failed_result", "failed_result", None]


def test_a_response_that_is_retried_shows_its_status(recorded: RecordedTelemetry) -> None:
    class Response:
        def __init__(self, status_code: int) -> None:
            self.status_code = status_code

    work = retry(retry=retry_if_result(lambda response: response.status_code >= 500), **OPTIONS)
    work(Script(Response(503), Response(200)))()
    assert errors_of_attempts(recorded) == ["503", None]


def test_results_that_are_never_good(recorded: RecordedTelemetry) -> None:
    work = retry(retry=retry_if_result(lambda result: result is None), **OPTIONS)(Script(None, None, None))
    with pytest.raises(RetryError):
        work()
    assert calls(recorded) == [("support.instrumented Script", "failed", 3)]
    assert attributes(recorded.spans[-1])["error.type"] == "failed_result"


def test_a_function_that_asks_for_another_attempt(recorded: RecordedTelemetry) -> None:
    left: list[BaseException | None] = [TryAgain(), RESET(), None]

    def work() -> int:
        error = left.pop(0)
        if isinstance(error, RESET):
            raise TryAgain from error
        if error is not None:
            raise error
        return 1

    assert retry(**OPTIONS)(work)() == 1
    assert errors_of_attempts(recorded) == ["failed_result", "connection_error", None]


class Client:
    def __init__(self, *outcomes: Any) -> None:
        self.script = Script(*outcomes)

    @retry(**OPTIONS)
    def fetch(self) -> Any:
        return self.script()

    @retry(**ASYNC_OPTIONS)
    async def fetch_async(self) -> Any:
        await asyncio.sleep(0)
        return self.script()


def test_methods_and_other_settings_for_one_call(recorded: RecordedTelemetry) -> None:
    assert Client(RESET(), 1).fetch() == 1
    with pytest.raises(RESET):
        Client.fetch.retry_with(stop=stop_after_attempt(1), reraise=True)(Client(RESET()))
    assert calls(recorded) == [(f"{HERE} fetch", "ok_after_retry", 2), (f"{HERE} fetch", "failed", 1)]


async def test_async_functions(recorded: RecordedTelemetry) -> None:
    client = Client(RESET(), 2)
    assert inspect.iscoroutinefunction(client.fetch_async)
    assert await client.fetch_async() == 2
    with pytest.raises(RetryError):
        await Client(RESET(), RESET(), RESET()).fetch_async()
    assert client.script.inside == ["attempt", "attempt"]
    assert calls(recorded) == [(f"{HERE} fetch_async", "ok_after_retry", 2), (f"{HERE} fetch_async", "failed", 3)]
    assert current_span_name() == ""


async def test_async_calls_at_the_same_time(recorded: RecordedTelemetry) -> None:
    async def one(*outcomes: Any) -> Any:
        return await Client(*outcomes).fetch_async()

    results = await asyncio.gather(one(RESET(), 1), one(2), one(RESET(), RESET(), 3))
    assert list(results) == [1, 2, 3]
    assert sorted(attempts for _, _, attempts in calls(recorded)) == [1, 2, 3]


def test_calls_of_one_controller_in_threads(recorded: RecordedTelemetry) -> None:
    controller = Retrying(**OPTIONS)
    threads = [threading.Thread(target=controller, args=(Script(RESET(), number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls(recorded) == [("support.instrumented Script", "ok_after_retry", 2)] * 8


def test_a_call_inside_a_call_and_inside_a_policy(recorded: RecordedTelemetry) -> None:
    controller = Retrying(**OPTIONS)
    numbers: list[int] = []

    def inner() -> int:
        numbers.append(current_attempt())
        if len(numbers) == 1:
            raise RESET
        return 6

    def outer() -> Any:
        return controller(inner)

    assert Policy("supplier").execute(lambda: controller(outer), name="all") == 6
    assert calls(recorded) == [
        (f"{HERE} inner", "ok_after_retry", 2),
        (f"{HERE} outer", "ok", 1),
        ("supplier all", "ok", 1),
    ]
    assert numbers == [1, 2]
    assert len({span.context.trace_id for span in recorded.spans}) == 1


def test_enclosing_policies_decide_as_before(instrumented: TenacityInstrumentor) -> None:
    def attempts() -> int:
        work = Script(*[RESET() for _ in range(12)])
        inner = Policy("inner", retry=RetryConfig(max_attempts=2, base_delay=0), budget=False)
        outer = Policy("outer", retry=RetryConfig(max_attempts=3, base_delay=0), budget=False)
        controller: Any = Retrying(reraise=True, **OPTIONS)
        with pytest.raises(RESET):
            outer.execute(lambda: controller(inner.execute, work))
        return len(work.inside)

    with_it = attempts()
    instrumented.uninstrument()
    assert with_it == attempts() == 6


def test_blocks(recorded: RecordedTelemetry) -> None:
    work = Script(RESET(), 3)
    for attempt in Retrying(**OPTIONS):
        with attempt:
            result = work()
        assert current_span_name() == ""
    assert result == 3
    assert work.inside == ["attempt", "attempt"]
    assert calls(recorded) == [(f"{HERE} test_blocks", "ok_after_retry", 2)]


def test_a_block_that_fails(recorded: RecordedTelemetry) -> None:
    def work() -> None:
        for attempt in Retrying(**OPTIONS):
            with attempt:
                raise RESET

    with pytest.raises(RetryError):
        work()
    assert calls(recorded) == [(f"{HERE} work", "failed", 3)]


def test_a_block_that_is_left_by_its_result(recorded: RecordedTelemetry) -> None:
    def work() -> Any:
        for attempt in Retrying(**OPTIONS):
            with attempt:
                return 8
        return None

    assert work() == 8
    assert calls(recorded) == [(f"{HERE} work", "ok", 1)]


@pytest.mark.parametrize("leave", [True, False])
def test_a_block_whose_result_decides(recorded: RecordedTelemetry, leave: bool) -> None:
    work = Script(None, 4)
    for attempt in Retrying(retry=retry_if_result(lambda result: result is None), **OPTIONS):
        with attempt:
            result = work()
        assert current_span_name() == ""
        attempt.retry_state.set_result(result)
        if result and leave:
            break
    assert calls(recorded) == [(f"{HERE} test_a_block_whose_result_decides", "ok_after_retry", 2)]
    assert errors_of_attempts(recorded) == ["failed_result", None]


async def test_async_blocks(recorded: RecordedTelemetry) -> None:
    work = Script(RESET(), 3)
    async for attempt in AsyncRetrying(**ASYNC_OPTIONS):
        with attempt:
            work()
    assert work.inside == ["attempt", "attempt"]

    async def left_by_its_result() -> Any:
        async for attempt in AsyncRetrying(**ASYNC_OPTIONS):
            with attempt:
                return 8
        return None

    async def fails() -> None:
        async for attempt in AsyncRetrying(**ASYNC_OPTIONS):
            with attempt:
                raise RESET

    assert await left_by_its_result() == 8
    with pytest.raises(RetryError):
        await fails()
    assert calls(recorded) == [
        (f"{HERE} test_async_blocks", "ok_after_retry", 2),
        (f"{HERE} left_by_its_result", "ok", 1),
        (f"{HERE} fails", "failed", 3),
    ]
    assert current_span_name() == ""


def test_a_block_in_a_generator_is_not_current_for_its_user(recorded: RecordedTelemetry) -> None:
    def pages() -> Iterator[int]:
        for attempt in Retrying(**OPTIONS):
            with attempt:
                yield 1
                yield 2

    assert [(page, current_span_name()) for page in pages()] == [(1, ""), (2, "")]
    assert calls(recorded) == [(f"{HERE} pages", "ok", 1)]


@pytest.mark.parametrize("block", [True, False])
async def test_a_task_that_is_cancelled_while_it_waits(recorded: RecordedTelemetry, block: bool) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    controller = AsyncRetrying(stop=stop_after_attempt(3), wait=wait_fixed(2), sleep=sleep)

    async def work() -> Any:
        if not block:
            return await controller(fails)
        async for attempt in controller:
            with attempt:
                await fails()
        return None

    async def fails() -> None:
        raise RESET

    task = asyncio.create_task(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls(recorded) == [(f"{HERE} {'work' if block else 'fails'}", "cancelled", 1)]


async def test_a_task_that_is_cancelled_in_an_attempt(recorded: RecordedTelemetry) -> None:
    started = asyncio.Event()

    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    task: asyncio.Task[None] = asyncio.create_task(AsyncRetrying(**ASYNC_OPTIONS)(hangs))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls(recorded) == [(f"{HERE} hangs", "cancelled", 1)]
    assert recorded.event_names() == []


@pytest.mark.parametrize("block", [True, False])
def test_a_wait_that_is_interrupted(recorded: RecordedTelemetry, block: bool) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    controller = Retrying(**{**OPTIONS, "sleep": interrupted})

    def fails() -> None:
        raise RESET

    def in_a_block() -> None:
        for attempt in controller:
            with attempt:
                fails()

    with pytest.raises(KeyboardInterrupt):
        in_a_block() if block else controller(fails)
    assert [(outcome, attempts) for _, outcome, attempts in calls(recorded)] == [("cancelled", 1)]


def test_callbacks_that_fail(recorded: RecordedTelemetry) -> None:
    def broken(state: Any) -> None:
        raise LookupError

    for place, attempts in (("before", 0), ("after", 1), ("before_sleep", 1)):
        with pytest.raises(LookupError):
            retry(**OPTIONS, **{place: broken})(Script(RESET()))()
        assert calls(recorded)[-1] == ("support.instrumented Script", "failed", attempts)


def test_tracebacks_are_as_long_as_before(instrumented: TenacityInstrumentor) -> None:
    @retry(reraise=True, **OPTIONS)
    def fails() -> None:
        raise RESET

    def block() -> None:
        for attempt in Retrying(reraise=True, **OPTIONS):
            with attempt:
                raise RESET

    async def asynchronous() -> None:
        await retry(reraise=True, **ASYNC_OPTIONS)(fails_async)()

    async def fails_async() -> None:
        raise RESET

    async def block_async() -> None:
        async for attempt in AsyncRetrying(reraise=True, **ASYNC_OPTIONS):
            with attempt:
                raise RESET

    def each() -> list[Any]:
        functions = (fails, block, lambda: asyncio.run(asynchronous()), lambda: asyncio.run(block_async()))
        return [frames_of(function, RESET) for function in functions]

    with_it = each()
    instrumented.uninstrument()
    assert with_it == each()


def test_signatures_are_kept(instrumented: TenacityInstrumentor) -> None:
    with_it = [inspect.signature(method) for method in (Retrying.__call__, AsyncRetrying.__call__, Retrying.iter)]
    assert str(inspect.signature(decorated_before)).startswith("(number: ")
    assert inspect.iscoroutinefunction(AsyncRetrying.__call__)
    instrumented.uninstrument()
    assert with_it == [inspect.signature(m) for m in (Retrying.__call__, AsyncRetrying.__call__, Retrying.iter)]


def test_a_name_for_the_dependency_and_a_classifier(
    instrumented: TenacityInstrumentor, recorded: RecordedTelemetry
) -> None:
    busy = Classification(ErrorClass.THROTTLED, Severity.LOW, "429", retry_after=2.0)
    instrumented.uninstrument()
    TenacityInstrumentor().instrument(
        dependency={HERE: "supplier"}.get, classifier=default_classifier().extended(lambda error: busy)
    )
    run(KeyError(), 1)
    retry(**OPTIONS)(Script(1))()
    assert calls(recorded) == [
        ("supplier decorated_before", "ok_after_retry", 2),
        ("support.instrumented Script", "ok", 1),
    ]
    assert errors_of_attempts(recorded)[0] == "429"
    (waited,) = recorded.points("resilience.retry.delay")
    assert waited.attributes == {"resilience.dependency": "supplier", "resilience.retry.source": "retry_after"}
    TenacityInstrumentor().uninstrument()
    TenacityInstrumentor().instrument(dependency="everything")
    run(1)
    assert calls(recorded)[-1][0] == "everything decorated_before"


@pytest.mark.parametrize("options", [{"dependency": ""}, {"dependency": 5}, {"classifier": "strict"}])
def test_wrong_options_are_refused(instrumented: TenacityInstrumentor, options: dict[str, Any]) -> None:
    instrumented.uninstrument()
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        TenacityInstrumentor().instrument(**options)
    assert not TenacityInstrumentor().is_instrumented_by_opentelemetry


def test_telemetry_that_fails_harms_nothing(
    instrumented: TenacityInstrumentor,
    recorded: RecordedTelemetry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> Any:
        raise LookupError

    instrumented.uninstrument()
    TenacityInstrumentor().instrument(dependency=broken)
    assert run(RESET(), 5) == (5, 7, "page")
    for attempt in Retrying(**OPTIONS):
        with attempt:
            pass
    assert [name for name, _, _ in calls(recorded)] == [
        f"{HERE} decorated_before",
        f"{HERE} test_telemetry_that_fails_harms_nothing",
    ]
    assert "telemetry failed" in caplog.text
    monkeypatch.setattr(CallTelemetry, "_record", broken)
    monkeypatch.setattr(CallTelemetry, "_open_span", never_raise(broken))
    assert run(RESET(), 5) == (5, 7, "page")


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


def test_an_error_that_cannot_be_changed(recorded: RecordedTelemetry) -> None:
    with pytest.raises(FrozenError):
        retry(reraise=True, stop=stop_after_attempt(1))(Script(FrozenError(5)))()
    assert calls(recorded) == [("support.instrumented Script", "failed", 1)]


def test_names_are_bounded(recorded: RecordedTelemetry) -> None:
    for number in range(70):
        work = Script(1)
        work.__name__ = f"work {number}"  # type: ignore[attr-defined]
        Retrying(**OPTIONS)(work)
    names = {attributes(span).get("resilience.operation") for span in recorded.spans} - {None}
    assert len(names) == 65
    assert "_OTHER" in names


def test_hooks_see_its_errors_retries_and_ends(recorded: RecordedTelemetry) -> None:
    seen: list[tuple[str, ...]] = []

    class Observer(Hooks):
        def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
            seen.append(("error", operation, verdict.error_type))

        def on_retry(self, dependency: str, operation: str, attempt: int, delay: float) -> None:
            seen.append(("retry", operation, str(attempt), str(delay)))

        def on_success(self, dependency: str, operation: str) -> None:
            seen.append(("success", operation))

        def on_failure(self, dependency: str, operation: str, outcome: str, error: BaseException) -> None:
            seen.append(("failure", operation, outcome, type(error).__name__))

    observer = Observer()
    add_hooks(observer)
    try:
        run(RESET(), 5)
        with pytest.raises(KeyError):
            retry(stop=stop_after_attempt(1), reraise=True)(Script(KeyError()))()
    finally:
        remove_hooks(observer)
    assert seen == [
        ("error", "decorated_before", "connection_error"),
        ("retry", "decorated_before", "2", "2.0"),
        ("success", "decorated_before"),
        ("error", "Script", "_OTHER"),
        ("failure", "Script", "failed", "KeyError"),
    ]


def test_without_telemetry_nothing_is_made() -> None:
    assert run(RESET(), 5) == (5, 7, "page")


@pytest.mark.skipif("enabled" not in inspect.signature(Retrying).parameters, reason="this version cannot be disabled")
def test_a_controller_that_is_disabled_is_not_shown(recorded: RecordedTelemetry) -> None:
    controller = Retrying(enabled=False)
    assert controller(Script(1)) == 1
    for attempt in controller:
        with attempt:
            pass
    assert recorded.spans == ()


def test_a_controller_can_still_be_copied_and_pickled() -> None:
    controller = Retrying(stop=stop_after_attempt(2))
    controller(Script(1))
    assert controller.copy()(Script(RESET(), 2)) == 2
    if hasattr(controller, "__getstate__") and "enabled" in vars(controller):
        assert pickle.loads(pickle.dumps(controller))(Script(RESET(), 2)) == 2


def test_twice_is_once(recorded: RecordedTelemetry, instrumented: TenacityInstrumentor) -> None:
    TenacityInstrumentor().instrument()
    run(1)
    assert len(calls(recorded)) == 1
