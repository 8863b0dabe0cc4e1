"""Helpers for users' tests: a fake clock, no waits, recorded telemetry, injected faults.

The included pytest plugin offers them in one fixture, ``resilience``
(:class:`~otel_resilience.testing.Resilience`).
"""

from otel_resilience.retries.budget import forget_budgets
from otel_resilience.testing import faults
from otel_resilience.testing.clock import FakeClock, FakeTimeLoop
from otel_resilience.testing.console import print_telemetry
from otel_resilience.testing.session import RecordedCall, Resilience
from otel_resilience.testing.telemetry import Point, RecordedTelemetry
from otel_resilience.testing.waits import no_waits

__all__ = [
    "FakeClock",
    "FakeTimeLoop",
    "Point",
    "RecordedCall",
    "RecordedTelemetry",
    "Resilience",
    "faults",
    "forget_budgets",
    "no_waits",
    "print_telemetry",
]
