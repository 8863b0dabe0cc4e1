"""Unchanged code that uses circuitbreaker, with its instrumentor."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import circuitbreaker
import pytest
from circuitbreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerMonitor, circuit

from otel_resilience import telemetry
from otel_resilience.instrumentation.circuitbreaker import CircuitbreakerInstrumentor
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
OPTIONS: dict[str, Any] = {"failure_threshold": 2, "recovery_timeout": 60}
script = Script()


@circuit(name="made before", **OPTIONS)
def decorated_before(number: int) -> tuple[Any, int]:
    return script(), number


before = CircuitBreakerMonitor.get("made before")


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[CircuitbreakerInstrumentor]:
    unpatched = replaced(circuitbreaker)
    close(before)
    CircuitbreakerInstrumentor().instrument()
    assert replaced(circuitbreaker) != unpatched
    yield CircuitbreakerInstrumentor()
    if CircuitbreakerInstrumentor().is_instrumented_by_opentelemetry:
        CircuitbreakerInstrumentor().uninstrument()
    assert replaced(circuitbreaker) == unpatched


def close(breaker: Any) -> None:
    with breaker:
        pass


def run(*outcomes: Any) -> Any:
    script.__init__(*outcomes)  # type: ignore[misc]  # starts anew
    return decorated_before(7)


def fail() -> None:
    with pytest.raises(RESET):
        run(RESET("gone"))


def end_open_time(breaker: Any) -> None:
    breaker._opened -= 3600


def test_the_state_is_shown_from_the_start(recorded: RecordedTelemetry) -> None:
    later = CircuitBreaker(name="made later", failure_threshold=1)
    assert status_of(recorded, "made before") == status_of(recorded, "made later") == "closed"
    with pytest.raises(RESET):
        later.call(Script(RESET()))
    assert status_of(recorded, "made later") == "open"
    end_open_time(later)
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
    fail()
    fail()
    with pytest.raises(CircuitBreakerError):
        run("not called")
    assert script.left == ["not called"]
    assert calls(recorded) == [
        ("made before decorated_before", "failed", 1),
        ("made before decorated_before", "failed", 1),
        ("made before decorated_before", "rejected", 0),
    ]
    assert errors_of_attempts(recorded) == ["connection_error", "connection_error"]
    assert attributes(recorded.spans[-1])["error.type"] == "circuit_open"
    (rejections,) = recorded.points("resilience.circuit_breaker.rejections")
    assert (rejections.value, rejections.attributes) == (1, {"resilience.dependency": "made before"})
    end_open_time(before)
    assert run("ok") == ("ok", 7)
    assert transitions(recorded) == [
        ("closed", "open", "consecutive_failures"),
        ("open", "half_open", "open_time_ended"),
        ("half_open", "closed", "probe_succeeded"),
    ]
    (recovery,) = recorded.points("resilience.circuit_breaker.recovery.duration")
    assert recovery.count == 1


def test_a_probe_that_fails(recorded: RecordedTelemetry) -> None:
    fail()
    fail()
    end_open_time(before)
    fail()
    assert transitions(recorded)[1:] == [
        ("open", "half_open", "open_time_ended"),
        ("half_open", "open", "probe_failed"),
    ]


def test_a_fallback(recorded: RecordedTelemetry) -> None:
    @circuit(failure_threshold=1, name="supplier", fallback_function=lambda: "instead")
    def fetch() -> str:
        raise RESET

    with pytest.raises(RESET):
        fetch()
    assert fetch() == "instead"
    assert attributes(recorded.spans[-1])["resilience.outcome"] == "fallback"
    assert [point.value for point in recorded.points("resilience.circuit_breaker.rejections")] == [1]


def test_an_error_that_does_not_count(recorded: RecordedTelemetry) -> None:
    @circuit(failure_threshold=1, name="supplier", expected_exception=KeyError)
    def fetch() -> str:
        raise RESET

    with pytest.raises(RESET):
        fetch()
    assert calls(recorded) == [("supplier fetch", "failed", 1)]
    assert transitions(recorded) == []


async def test_async_functions(recorded: RecordedTelemetry) -> None:
    inside: list[str] = []

    @circuit(failure_threshold=1, name="supplier")
    async def fetch(error: type[BaseException] | None) -> None:
        await asyncio.sleep(0)
        inside.append(current_span_name())
        if error is not None:
            raise error

    await asyncio.gather(fetch(None), fetch(None))
    with pytest.raises(RESET):
        await fetch(RESET)
    with pytest.raises(CircuitBreakerError):
        await fetch(None)
    assert inside == ["attempt"] * 3
    assert calls(recorded) == [
        ("supplier fetch", "ok", 1),
        ("supplier fetch", "ok", 1),
        ("supplier fetch", "failed", 1),
        ("supplier fetch", "rejected", 0),
    ]
    assert current_span_name() == ""


def test_blocks_and_breakers_within_each_other(recorded: RecordedTelemetry) -> None:
    inner, outer = CircuitBreaker(name="inner"), CircuitBreaker()

    def work() -> None:
        with outer, inner:
            assert current_span_name() == "attempt"
            raise RESET

    with pytest.raises(RESET):
        work()
    assert calls(recorded) == [("inner work", "failed", 1), ("circuitbreaker work", "failed", 1)]
    assert current_span_name() == ""


async def test_generators_have_no_spans(recorded: RecordedTelemetry) -> None:
    @circuit(failure_threshold=1, name="supplier")
    def pages(error: type[BaseException] | None) -> Iterator[str]:
        yield current_span_name()
        if error is not None:
            raise error

    @circuit(name="supplier")
    async def pages_async() -> AsyncIterator[str]:
        yield current_span_name()

    assert list(pages(None)) == [""]
    assert [name async for name in pages_async()] == [""]
    with pytest.raises(RESET):
        list(pages(RESET))
    with pytest.raises(CircuitBreakerError):
        list(pages(None))
    assert recorded.spans == ()
    assert transitions(recorded) == [("closed", "open", "consecutive_failures")]
    assert [point.value for point in recorded.points("resilience.circuit_breaker.rejections")] == [1]


def test_looking_at_a_circuit_is_not_a_rejection(recorded: RecordedTelemetry) -> None:
    fail()
    fail()
    assert before is not None
    assert before.opened
    assert before in list(CircuitBreakerMonitor.get_open())
    assert recorded.points("resilience.circuit_breaker.rejections") == []


def test_tracebacks_and_signatures_are_as_before(instrumented: CircuitbreakerInstrumentor) -> None:
    def each() -> list[Any]:
        @circuit(failure_threshold=1)
        def fails() -> None:
            raise RESET

        members = (CircuitBreaker.__enter__, CircuitBreaker.__exit__, CircuitBreaker.__init__)
        signatures = [inspect.signature(member) for member in members]
        return [frames_of(fails, RESET), frames_of(fails, CircuitBreakerError), signatures]

    with_it = each()
    instrumented.uninstrument()
    assert with_it == each()


def test_names_of_dependencies(instrumented: CircuitbreakerInstrumentor, recorded: RecordedTelemetry) -> None:
    instrumented.uninstrument()
    assert status_of(recorded, "made before") == ""
    CircuitbreakerInstrumentor().instrument(dependency={"made before": "renamed"}.get)
    run(1)
    assert calls(recorded) == [("renamed decorated_before", "ok", 1)]
    assert status_of(recorded, "renamed") == "closed"


def test_telemetry_that_fails_harms_nothing(
    instrumented: CircuitbreakerInstrumentor, recorded: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> str:
        raise LookupError

    instrumented.uninstrument()
    CircuitbreakerInstrumentor().instrument(dependency=broken)
    monkeypatch.setattr(telemetry, "state_changed", broken)
    assert run(5) == (5, 7)
    fail()
    fail()
    with pytest.raises(CircuitBreakerError):
        run(1)
    assert {name for name, _, _ in calls(recorded)} >= {"made before decorated_before"}
    assert status_of(recorded, "made before") == "open"
