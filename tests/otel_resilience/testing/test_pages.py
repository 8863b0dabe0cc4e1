"""The examples of the page about settings from the environment; tests/docs runs those of all pages."""

from __future__ import annotations

import re
from pathlib import Path

from otel_resilience.policy.environment import VARIABLES

PAGE = Path(__file__).parents[3] / "docs/registry.md"


def test_every_variable_stands_on_the_page() -> None:
    shown = re.findall(r"^\| `([A-Z_]+)` \| `([\w.]+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert shown == [
        (ending, parameter if part is None else f"{part}.{parameter}")
        for ending, (part, parameter, _) in VARIABLES.items()
    ]
