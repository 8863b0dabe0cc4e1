"""Fixtures of the tests of alerts."""

from __future__ import annotations

import pytest

from otel_resilience._internal.in_use import InUse
from otel_resilience.telemetry import gauges


@pytest.fixture(autouse=True)
def _own_breakers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test must not see circuits of earlier tests: one left open would keep an incident open."""
    monkeypatch.setattr(gauges, "_breakers", InUse())
