from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_resilience.testing import RecordedTelemetry


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as telemetry:
        yield telemetry
