"""Correlation IDs: the trace ID if there is a trace, otherwise one of the same form."""

from __future__ import annotations

import asyncio
import contextvars
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_resilience import (
    Policy,
    correlation_id,
    correlation_scope,
    error_context,
    new_correlation_id,
)
from otel_resilience.correlation import BAGGAGE_KEY, is_correlation_id
from support.resilience import PermanentFault, Script

ID = "0123456789abcdef" * 2
OTHER_ID = "fedcba9876543210" * 2


@pytest.fixture(autouse=True)
def fresh_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ID made by an earlier test."""
    monkeypatch.setattr("otel_resilience.correlation._made", contextvars.ContextVar("fresh", default=None))


def span(trace_id: int, *, sampled: bool) -> trace.Span:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return NonRecordingSpan(SpanContext(trace_id, 1, is_remote=False, trace_flags=flags))


@pytest.mark.parametrize("sampled", [True, False])
def test_it_is_the_trace_id_also_of_an_unsampled_trace(sampled: bool) -> None:
    with trace.use_span(span(0xABC, sampled=sampled)):
        assert correlation_id() == f"{0xABC:032x}"


def test_without_a_trace_one_is_made_and_kept() -> None:
    made = correlation_id()
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert correlation_id() == made


def test_each_context_makes_its_own() -> None:
    ids = [contextvars.Context().run(correlation_id) for _ in range(3)]
    assert len(set(ids)) == 3


async def test_concurrent_tasks_make_their_own() -> None:
    async def task() -> tuple[str, str]:
        first = correlation_id()
        await asyncio.sleep(0)
        return first, correlation_id()

    pairs = await asyncio.gather(*(task() for _ in range(5)))
    assert all(first == second for first, second in pairs)
    assert len(set(pairs)) == 5


def test_a_scope_carries_it_as_baggage() -> None:
    with correlation_scope(ID) as pinned:
        assert pinned == correlation_id() == ID
        assert baggage.get_baggage(BAGGAGE_KEY) == ID
        with correlation_scope(OTHER_ID):
            assert correlation_id() == OTHER_ID
        assert correlation_id() == ID
    assert baggage.get_baggage(BAGGAGE_KEY) is None
    assert correlation_id() != ID


def test_a_scope_without_an_id_pins_the_current_one() -> None:
    current = correlation_id()
    with correlation_scope() as pinned:
        assert pinned == current == baggage.get_baggage(BAGGAGE_KEY)


def test_a_trace_comes_before_baggage() -> None:
    with correlation_scope(ID), trace.use_span(span(0xABC, sampled=True)):
        assert correlation_id() == f"{0xABC:032x}"


def test_it_survives_the_way_to_another_process_without_a_trace() -> None:
    headers: dict[str, str] = {}
    with correlation_scope(ID):
        inject(headers)
    token = context.attach(extract(headers))
    try:
        assert correlation_id() == ID
    finally:
        context.detach(token)


@pytest.mark.parametrize(
    "foreign", ["", "short", "0" * 32, "g" * 32, ID.upper(), ID + "0", "x\nInjected: header", "é" * 32]
)
def test_what_comes_from_outside_is_not_trusted(foreign: str) -> None:
    assert not is_correlation_id(foreign)
    token = context.attach(baggage.set_baggage(BAGGAGE_KEY, foreign))
    try:
        assert correlation_id() != foreign
        assert is_correlation_id(correlation_id())
    finally:
        context.detach(token)
    with (
        pytest.raises(ValueError, match=r"^identifier: a correlation ID is 32 lower-case hex"),
        correlation_scope(foreign),
    ):
        pytest.fail("entered")


@given(st.text(max_size=40))
def test_only_trace_ids_are_correlation_ids(text: str) -> None:
    assert is_correlation_id(text) == bool(re.fullmatch("[0-9a-f]{32}", text) and set(text) != {"0"})


def test_new_ones_are_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes(16), bytes.fromhex(ID)])
    monkeypatch.setattr("otel_resilience.correlation.os.urandom", lambda _: next(drawn))
    assert new_correlation_id() == ID


def test_a_scope_ends_also_with_an_error() -> None:
    with pytest.raises(KeyError), correlation_scope(ID):
        raise KeyError
    assert baggage.get_baggage(BAGGAGE_KEY) is None


@pytest.mark.parametrize("limit", [None, 5.0], ids=["in place", "in a thread"])
def test_the_operation_and_its_error_speak_of_the_same_id(limit: float | None) -> None:
    inside: list[str] = []
    fault = PermanentFault()

    def operation() -> None:
        inside.append(correlation_id())
        raise fault

    with pytest.raises(PermanentFault):
        Policy("supplier", attempt_timeout=limit).execute(operation)
    found = error_context(fault)
    assert found is not None
    assert inside == [found.correlation_id] == [correlation_id()]


def test_a_scope_reaches_the_error() -> None:
    fault = PermanentFault()
    with correlation_scope(ID), pytest.raises(PermanentFault):
        Policy("supplier").execute(Script(fault).play)
    found = error_context(fault)
    assert found is not None
    assert found.correlation_id == ID
    assert fault.__notes__[0].endswith(f"correlation ID {ID}")
