from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from otel_resilience.testing import RecordedTelemetry
from support.conventions import findings, sink_of


@pytest.fixture(scope="module", autouse=True)
def findable() -> Iterator[None]:
    """Functions and breakers that were made before are found among the living objects, and frozen ones are not."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()  # else each collection in later tests walks a million objects


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    """What was emitted, all of which must be defined in the registry of names."""
    with RecordedTelemetry().recording() as telemetry:
        yield telemetry
        assert findings(sink_of(telemetry)) == []
