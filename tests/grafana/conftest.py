"""Generated files as they are committed, and as the generator would write them now."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.promtool import Series, Timeline

ROOT = Path(__file__).parents[2]


@pytest.fixture
def timeline(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Starts a :class:`Timeline` with these series."""

    def start(*series: Series, **options: int) -> Timeline:
        return Timeline(tmp_path, list(series), **options)

    return start
