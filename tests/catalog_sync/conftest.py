"""Fixtures of all tests of the application."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest


@pytest.fixture
def traced() -> Iterator[None]:
    """``tracemalloc`` counts everything allocated during the test."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()
