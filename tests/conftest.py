"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from otel_resilience.testing import forget_budgets

# Elsewhere each run looks at new examples; a run that decides over a change looks at the same ones every time.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


@pytest.fixture(autouse=True)
def _fresh_retry_budgets() -> None:
    """Policies of one dependency share a retry budget, also with those of an earlier test that are still in memory."""
    forget_budgets()
