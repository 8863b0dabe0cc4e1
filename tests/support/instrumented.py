"""Helpers for tests of the instrumentors: a summary of what was reported, and what was replaced."""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_resilience.telemetry import contract
from otel_resilience.testing import RecordedTelemetry


def calls(recorded: RecordedTelemetry) -> list[tuple[str, str, int]]:
    """Name, outcome and attempts of each call, in the order in which they ended. Checks that spans agree."""
    found = []
    for span in recorded.spans:
        shown = attributes(span)
        if span.name == contract.ATTEMPT_SPAN or contract.OUTCOME not in shown:
            continue
        inside = attempts_of(recorded, span)
        assert [each[contract.ATTEMPT_NUMBER] for each in map(attributes, inside)] == [*range(1, len(inside) + 1)]
        assert shown[contract.ATTEMPTS] == len(inside)
        assert span.name == f"{shown[contract.DEPENDENCY]} {shown[contract.OPERATION]}"
        assert (span.status.status_code is StatusCode.ERROR) == (shown[contract.OUTCOME] in ("failed", "rejected"))
        found.append((span.name, str(shown[contract.OUTCOME]), len(inside)))
    return found


def attempts_of(recorded: RecordedTelemetry, call: ReadableSpan) -> list[ReadableSpan]:
    """The attempts of a call, in order."""
    return [
        span
        for span in recorded.spans
        if span.name == contract.ATTEMPT_SPAN and span.parent and span.parent.span_id == call.context.span_id
    ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


def errors_of_attempts(recorded: RecordedTelemetry) -> list[str | None]:
    """``error.type`` of each attempt, in the order in which they ended."""
    return [attributes(span).get(contract.ERROR_TYPE) for span in recorded.spans if span.name == contract.ATTEMPT_SPAN]


def current_span_name() -> str:
    """The name of the span in which this is called; empty if there is none."""
    return getattr(trace_api.get_current_span(), "name", "")


def replaced(*modules: types.ModuleType) -> dict[tuple[str, str], int]:
    """The identity of everything in these modules and their classes, as it is now."""
    found = {}
    for module in modules:
        owners: list[Any] = [module, *(each for each in vars(module).values() if isinstance(each, type))]
        for owner in owners:
            found.update(
                {(repr(owner), name): id(value) for name, value in vars(owner).items() if name != "__slotnames__"}
            )
    return found


def frames_of(function: Callable[[], object], error: type[BaseException]) -> list[tuple[str, str]]:
    """File and function of each frame that the error passes through."""
    with pytest.raises(error) as caught:
        function()
    return [(frame.filename, frame.name) for frame in traceback.extract_tb(caught.value.__traceback__)]


class Script:
    """Raises or returns its outcomes one after the other."""

    def __init__(self, *outcomes: Any) -> None:
        self.left = list(outcomes)
        self.inside: list[str] = []
        """The span that was current in each call."""

    def __call__(self) -> Any:
        self.inside.append(current_span_name())
        outcome = self.left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def status_of(recorded: RecordedTelemetry, dependency: str) -> str:
    """The state shown by the status metric; empty if there is none."""
    points = [
        point
        for point in recorded.points(contract.BREAKER_STATUS.name)
        if point.attributes[contract.DEPENDENCY] == dependency
    ]
    assert len(points) in (0, 5)
    shown = [point.attributes[contract.BREAKER_STATE] for point in points if point.value == 1]
    assert len(shown) == bool(points)
    return str(shown[0]) if shown else ""


def transitions(recorded: RecordedTelemetry) -> list[tuple[str, str, str]]:
    """Old state, new state and reason of each transition of a circuit."""
    found = [
        event.log_record.attributes
        for event in recorded.events
        if event.log_record.event_name == contract.EVENT_STATE_CHANGED
    ]
    return [
        (str(each["resilience.from"]), str(each["resilience.to"]), str(each["resilience.reason"]))
        for each in found
        if each is not None
    ]
