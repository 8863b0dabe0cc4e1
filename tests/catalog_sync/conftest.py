"""Fixtures of all tests of the application."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest


@pytest.fixture
def traced() -> Iterator[None]:
    """What is allocated from here on is counted by ``tracemalloc``."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()
