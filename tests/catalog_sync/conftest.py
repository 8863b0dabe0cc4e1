"""Fixtures of all tests of the application."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

# What commands import first in threads is there: two threads that rewrite assertions at once meet a defect of Python
# before 3.11.9 and 3.12.2, "AST constructor recursion depth mismatch".
import catalog_sync.alerts.overview
import catalog_sync.supplier.protection  # noqa: F401


@pytest.fixture
def traced() -> Iterator[None]:
    """``tracemalloc`` counts everything allocated during the test."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()
