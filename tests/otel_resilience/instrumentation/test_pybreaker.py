"""Unchanged code that uses pybreaker, with its instrumentor."""

from __future__ import annotations

import datetime
import gc
import inspect
from collections.abc import Iterator
from typing import Any

import pybreaker
import pytest
from pybreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerListener

from otel_resilience import telemetry
from otel_resilience.instrumentation.pybreaker import PybreakerInstrumentor
from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
from otel_resilience.testing import RecordedTelemetry
from support.instrumented import (
    Script,
    attributes,
    calls,
    current_span_name,
    errors_of_attempts,
    frames_of,
    replaced,
    status_of,
    transitions,
)

RESET = ConnectionResetError
HAS_BLOCKS = hasattr(CircuitBreaker, "calling")
before = CircuitBreaker(fail_max=2, reset_timeout=60, name="made before")
script = Script()


@before
def decorated_before(number: int) -> tuple[Any, int]:
    return script(), number


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[PybreakerInstrumentor]:
    unpatched = replaced(pybreaker)
    before.close()
    PybreakerInstrumentor().instrument()
    assert replaced(pybreaker) != unpatched
    yield PybreakerInstrumentor()
    if PybreakerInstrumentor().is_instrumented_by_opentelemetry:
        PybreakerInstrumentor().uninstrument()
    assert replaced(pybreaker) == unpatched


def run(*outcomes: Any, breaker: CircuitBreaker | None = None) -> Any:
    script.__init__(*outcomes)  # type: ignore[misc]  # starts anew
    return decorated_before(7) if breaker is None else breaker.call(script)


def fail(breaker: CircuitBreaker, error: type[BaseException] = RESET) -> None:
    with pytest.raises(error):
        run(RESET("gone"), breaker=breaker)


def end_open_time(breaker: CircuitBreaker) -> None:
    opened_at = breaker._state_storage.opened_at
    assert opened_at is not None
    breaker._state_storage.opened_at = opened_at - datetime.timedelta(hours=1)


def test_the_state_is_shown_from_the_start(recorded: RecordedTelemetry) -> None:
    later = CircuitBreaker(name="made later")
    assert status_of(recorded, "made before") == status_of(recorded, "made later") == "closed"
    later.open()
    assert status_of(recorded, "made later") == "open"
    later.half_open()
    assert status_of(recorded, "made later") == "half_open"
    del later
    gc.collect()
    assert status_of(recorded, "made later") == ""


def test_a_call_that_passes(recorded: RecordedTelemetry) -> None:
    assert run("ok") == ("ok", 7)
    assert calls(recorded) == [("made before decorated_before", "ok", 1)]
    assert script.inside == ["attempt"]
    assert current_span_name() == ""


def test_a_circuit_opens_and_rejects_and_recovers(recorded: RecordedTelemetry) -> None:
    fail(before)
    fail(before, CircuitBreakerError)
    with pytest.raises(CircuitBreakerError):
        run("not called")
    assert script.left == ["not called"]
    assert calls(recorded) == [
        ("made before Script", "failed", 1),
        ("made before Script", "failed", 1),
        ("made before decorated_before", "rejected", 0),
    ]
    assert errors_of_attempts(recorded) == ["connection_error", "connection_error"]
    assert attributes(recorded.spans[-1])["error.type"] == "circuit_open"
    (rejections,) = recorded.points("resilience.circuit_breaker.rejections")
    assert (rejections.value, rejections.attributes) == (1, {"resilience.dependency": "made before"})
    end_open_time(before)
    assert run("ok") == ("ok", 7)
    assert calls(recorded)[-1] == ("made before decorated_before", "ok", 1)
    assert transitions(recorded) == [
        ("closed", "open", "consecutive_failures"),
        ("open", "half_open", "open_time_ended"),
        ("half_open", "closed", "probe_succeeded"),
    ]
    opened = next(e for e in recorded.events if e.log_record.event_name == "resilience.circuit_breaker.state_changed")
    shown = dict(opened.log_record.attributes or {})
    assert shown["error.type"] == "connection_error"
    assert shown["resilience.circuit_breaker.open_for"] == 60
    assert shown["resilience.circuit_breaker.window.failures"] == 2
    (recovery,) = recorded.points("resilience.circuit_breaker.recovery.duration")
    assert recovery.count == 1
    assert sum(point.value for point in recorded.points("resilience.circuit_breaker.transitions")) == 3


def test_a_probe_that_fails_and_a_circuit_opened_manually(recorded: RecordedTelemetry) -> None:
    before.open()
    end_open_time(before)
    fail(before, CircuitBreakerError)
    before.close()
    before.close()
    assert transitions(recorded) == [
        ("closed", "open", "manual"),
        ("open", "half_open", "open_time_ended"),
        ("half_open", "open", "probe_failed"),
        ("open", "closed", "manual"),
    ]


def test_a_change_by_another_process(recorded: RecordedTelemetry) -> None:
    other = CircuitBreaker()
    other.open()
    opened_at = other._state_storage.opened_at
    assert opened_at is not None
    before._state_storage.opened_at, before._state_storage.state = opened_at, "open"
    with pytest.raises(CircuitBreakerError):
        run("not called")
    assert transitions(recorded)[-1] == ("closed", "open", "shared")
    assert calls(recorded) == [("made before decorated_before", "rejected", 0)]


def test_the_original_error_where_it_is_not_replaced(recorded: RecordedTelemetry) -> None:
    breaker = CircuitBreaker(fail_max=1, throw_new_error_on_trip=False, name="supplier")
    fail(breaker)
    assert calls(recorded) == [("supplier Script", "failed", 1)]
    assert transitions(recorded) == [("closed", "open", "consecutive_failures")]


def test_an_error_that_the_breaker_leaves_out(recorded: RecordedTelemetry) -> None:
    breaker = CircuitBreaker(fail_max=1, exclude=[RESET], name="supplier")
    fail(breaker)
    assert calls(recorded) == [("supplier Script", "failed", 1)]
    assert transitions(recorded) == []


def test_breakers_within_each_other(recorded: RecordedTelemetry) -> None:
    inner, outer = CircuitBreaker(name="inner"), CircuitBreaker(name="outer")
    inner.open()
    with pytest.raises(CircuitBreakerError):
        outer.call(lambda: inner.call(Script()))
    assert calls(recorded) == [("inner Script", "rejected", 0), ("outer call", "failed", 1)]
    assert errors_of_attempts(recorded) == ["circuit_open"]
    recursive = CircuitBreaker(name="recursive")
    assert recursive.call(lambda: recursive.call(Script(3))) == 3
    assert calls(recorded)[2:] == [("recursive Script", "ok", 1), ("recursive call", "ok", 1)]


def test_under_tenacity(recorded: RecordedTelemetry) -> None:
    from tenacity import Retrying, stop_after_attempt

    breaker = CircuitBreaker(fail_max=2, name="supplier")
    work = Script(RESET(), RESET(), "not called")
    TenacityInstrumentor().instrument(dependency="retry")

    @breaker
    def fetch() -> Any:
        return work()

    try:
        with pytest.raises(CircuitBreakerError):
            Retrying(stop=stop_after_attempt(3), reraise=True)(fetch)
    finally:
        TenacityInstrumentor().uninstrument()
    assert [(name, outcome) for name, outcome, _ in calls(recorded)] == [
        ("supplier fetch", "failed"),
        ("supplier fetch", "failed"),
        ("supplier fetch", "rejected"),
        ("retry fetch", "failed"),
    ]
    assert attributes(recorded.spans[-1])["error.type"] == "circuit_open"


@pytest.mark.skipif(not HAS_BLOCKS, reason="this version has no blocks")
def test_blocks(recorded: RecordedTelemetry) -> None:
    breaker = CircuitBreaker(fail_max=2, name="supplier")

    def block(*outcomes: Any) -> None:
        work = Script(*outcomes)
        with breaker.calling():
            work()
        assert work.inside == ["attempt"]

    block("ok")
    for error in (RESET, CircuitBreakerError, CircuitBreakerError):
        with pytest.raises(error):
            block(RESET())
        assert current_span_name() == ""
    assert calls(recorded) == [
        ("supplier block", "ok", 1),
        ("supplier block", "failed", 1),
        ("supplier block", "failed", 1),
        ("supplier block", "rejected", 0),
    ]
    assert transitions(recorded) == [("closed", "open", "consecutive_failures")]
    end_open_time(breaker)
    block("ok")
    assert transitions(recorded)[1:] == [
        ("open", "half_open", "open_time_ended"),
        ("half_open", "closed", "probe_succeeded"),
    ]


def test_what_has_no_spans(recorded: RecordedTelemetry) -> None:
    async def asynchronous() -> None:
        raise RESET

    def pages() -> Iterator[int]:
        yield 1
        yield 2

    breaker = CircuitBreaker(name="supplier")
    breaker(asynchronous)().close()
    assert list(breaker(pages)()) == [1, 2]
    breaker.open()
    for function in (asynchronous, pages):
        with pytest.raises(CircuitBreakerError):
            breaker.call(function)
    assert recorded.spans == ()
    assert [point.value for point in recorded.points("resilience.circuit_breaker.rejections")] == [2]


def test_tracebacks_are_as_long_as_before(instrumented: PybreakerInstrumentor) -> None:
    def fails() -> None:
        raise RESET

    def each() -> list[Any]:
        breaker = CircuitBreaker(fail_max=2, name="supplier")
        found = [frames_of(lambda: breaker.call(fails), RESET)]
        found += [frames_of(lambda: breaker.call(fails), CircuitBreakerError) for _ in range(2)]
        end_open_time(breaker)
        return [*found, frames_of(lambda: breaker.call(fails), CircuitBreakerError)]

    with_it = each()
    instrumented.uninstrument()
    assert with_it == each()


def test_listeners_and_attributes_are_as_before() -> None:
    seen: list[Any] = []

    class Listener(CircuitBreakerListener):
        def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
            seen.append(func)

        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            seen.append((old_state.name, new_state.name))

    listener = Listener()
    breaker = CircuitBreaker(fail_max=1, listeners=[listener])
    work = Script(RESET())
    with pytest.raises(CircuitBreakerError):
        breaker.call(work)
    assert seen == [work, ("closed", "open")]
    assert breaker.listeners == (listener,)
    assert (breaker.current_state, breaker.fail_counter) == ("open", 1)
    assert str(inspect.signature(decorated_before)).startswith("(number: ")


def test_the_storage_is_not_asked_for_the_metric(recorded: RecordedTelemetry) -> None:
    reads: list[str] = []

    class Storage(pybreaker.CircuitMemoryStorage):
        def __getattribute__(self, name: str) -> Any:
            reads.append(name)
            return super().__getattribute__(name)

    breaker = CircuitBreaker(state_storage=Storage("closed"), name="stored")
    reads.clear()
    assert status_of(recorded, "stored") == "closed"
    assert reads == []
    assert breaker.name == "stored"


def test_names_of_dependencies(instrumented: PybreakerInstrumentor, recorded: RecordedTelemetry) -> None:
    CircuitBreaker().call(Script(1))
    instrumented.uninstrument()
    assert status_of(recorded, "made before") == ""
    PybreakerInstrumentor().instrument(dependency={"made before": "renamed"}.get)
    run(1)
    assert calls(recorded) == [("pybreaker Script", "ok", 1), ("renamed decorated_before", "ok", 1)]
    assert status_of(recorded, "renamed") == "closed"


def test_telemetry_that_fails_harms_nothing(
    instrumented: PybreakerInstrumentor, recorded: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> str:
        raise LookupError

    instrumented.uninstrument()
    PybreakerInstrumentor().instrument(dependency=broken)
    monkeypatch.setattr(telemetry, "state_changed", broken)
    assert run(5) == (5, 7)
    fail(before)
    fail(before, CircuitBreakerError)
    with pytest.raises(CircuitBreakerError):
        run(1)
    assert {name for name, _, _ in calls(recorded)} >= {"made before decorated_before"}
    assert status_of(recorded, "made before") == "open"
