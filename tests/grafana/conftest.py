"""Fixtures of the tests of rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.promtool import Series, Timeline


@pytest.fixture
def timeline(tmp_path: Path) -> Callable[..., Timeline]:
    """Starts a :class:`Timeline` with these series."""

    def start(*series: Series, **options: Any) -> Timeline:
        return Timeline(tmp_path, list(series), **options)

    return start
