from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_resilience.testing import RecordedTelemetry
from support.answering_server import AnsweringServer, answering_server


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering_server() as running:
        yield running


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as telemetry:
        yield telemetry
