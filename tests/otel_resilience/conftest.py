from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from otel_resilience.testing import FakeClock, RecordedTelemetry
from support import resilience
from support.resilience import Driver


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["plain", "limited", "observed"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A call that nobody watches and nothing limits takes a shorter way through the code, with the same semantics."""
    monkeypatch.setitem(resilience.defaults, "deadline", 30.0 if request.param == "limited" else None)
    with RecordedTelemetry().recording() if request.param == "observed" else contextlib.nullcontext():
        yield request.param


@pytest.fixture(params=[False, True], ids=["def", "async_def"])
def driver(request: pytest.FixtureRequest, clock: FakeClock, path: str) -> Driver:
    return Driver(clock, asynchronous=request.param)
