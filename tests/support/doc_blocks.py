"""The code blocks of the repository's pages, with the hidden setup before them that only tests see."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_PLACES: Final = (
    "*.md",
    "docs/**/*.md",
    "benchmarks/*.md",
    "deploy/**/*.md",
    "grafana/*.md",
    "otel-collector/*.md",
    "src/*/*.md",
)
_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<mark>not run|run by|before|in the background): ?(?P<text>[^>]*?) ?-->\n+)?"
    r"^(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=fence)$",
    re.M | re.S,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    code: str
    mark: str | None
    text: str
    """The text of the mark."""

    @property
    def runs(self) -> bool:
        """Whether the tests run it."""
        return self.mark not in {"not run", "run by"}

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page except the changelog."""
    return sorted(page for place in _PLACES for page in ROOT.glob(place) if page.name != "CHANGELOG.md")


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return list(_blocks(page))


def pages_with(language: str) -> list[Path]:
    """Pages with a block of this language that the tests run."""
    return [page for page in pages() if any(each.language == language and each.runs for each in blocks(page))]


def name(page: Path) -> str:
    """The page's name, for the names of tests."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("fence")) + 1
        yield Block(page, line, found["language"], found["code"], found["mark"], found["text"] or "")
