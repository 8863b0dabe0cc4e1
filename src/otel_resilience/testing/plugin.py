"""The pytest plugin, found by pytest if this library is installed. It does not affect tests that do not request it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otel_resilience.testing.session import Resilience


@pytest.fixture
def resilience() -> Iterator[Resilience]:
    """No waits anywhere, fresh circuits and budgets, recorded telemetry: see otel_resilience.testing.Resilience."""
    from otel_resilience.testing.session import Resilience as Session

    with Session().active() as session:
        yield session
