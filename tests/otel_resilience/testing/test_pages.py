"""Every example of the pages about the library's parts runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_resilience.policy.environment import VARIABLES

pytest_plugins = ["pytester"]

PARTS = (
    "blocks", "circuit-breaker", "fallback", "hedging", "hooks", "limits", "registry", "retries", "shadow-mode",
    "time-limits",
)  # fmt: skip
DOCS = Path(__file__).parents[3] / "docs"


def examples(page: str) -> str:
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S))


def test_those_of_the_page_about_testing(run_pytest: Callable[..., pytest.RunResult]) -> None:
    source = examples("testing.md")
    assert source.count("def test_") == 7
    run_pytest(source).assert_outcomes(passed=7)


@pytest.mark.parametrize("page", PARTS)
def test_those_of_a_page_about_a_part(pytester: pytest.Pytester, page: str) -> None:
    result = pytester.runpython(pytester.makepyfile(examples(f"{page}.md")))
    assert result.ret == 0, result.stderr.str()


def test_every_variable_stands_on_the_page() -> None:
    shown = re.findall(r"^\| `([A-Z_]+)` \| `([\w.]+)` \|", (DOCS / "registry.md").read_text(encoding="utf-8"), re.M)
    assert shown == [
        (ending, parameter if part is None else f"{part.parameter}.{parameter}")
        for ending, (part, parameter, _) in VARIABLES.items()
    ]
