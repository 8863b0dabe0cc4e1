"""Markdown tables, the machine in general terms, and the results in the README."""

from __future__ import annotations

import os
import pathlib
import platform
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def draw(line: Sequence[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    return "\n".join([draw(lines[0]), draw(rule), *map(draw, lines[1:])])


def machine() -> str:
    """The machine in general terms."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} virtual CPUs, {platform.system()} {platform.machine()}, {python}"


README = pathlib.Path(__file__).with_name("README.md")


def write_results(name: str, text: str, page: pathlib.Path = README) -> None:
    """Puts ``text`` between the marks of section ``name`` in the README, or another page."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text().partition(first)
    _, _, after = rest.partition(last)
    page.write_text(f"{before}{first}\n{text.strip()}\n{last}{after}")
