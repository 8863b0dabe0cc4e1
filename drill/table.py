"""The table of the drill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from drill.judge import Counts, Detection, Verdict

PAGE: Final = Path(__file__).parents[1] / "docs/drill.md"
_BEGIN, _END = "<!-- drill: begin -->", "<!-- drill: end -->"

HEADER: Final = (
    "incident",
    "rule",
    "after",
    "application",
    "after",
    "messages: rules",
    "application",
    "trace",
    "false",
)

HEADER_KEYS: Final = (
    "incident", "rule", "rule_after", "application", "application_after", "rule_messages", "application_messages",
    "traces", "false_alarms",
)  # fmt: skip
"""The same for programs."""


def rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """One row per incident, and one for the calm."""
    return [_row(line) for line in verdicts]


def _row(line: Verdict) -> tuple[str, ...]:
    return (
        line.expectation.name,
        _by(line.rule),
        _after(line.rule),
        _by(line.application),
        _after(line.application),
        _counts(line.rule_messages),
        _counts(line.application_messages),
        "–" if line.expectation.silent else f"{_trace(line.rule)} / {_trace(line.application)}",
        ", ".join(line.false_alarms) or "0",
    )


def _by(found: Detection | None) -> str:
    return "–" if found is None else f"{found.by} ({found.way})"


def _after(found: Detection | None) -> str:
    return "–" if found is None else f"{found.after:.0f} s"


def _counts(counts: Counts) -> str:
    if len({group for _, group in counts}) < 2:
        return ", ".join(f"{number} {way}" for (way, _), number in sorted(counts.items())) or "0"
    return ", ".join(f"{number} {way} ({group})" for (way, group), number in sorted(counts.items()))


def _trace(found: Detection | None) -> str:
    if found is None or found.trace is None:
        return "–"
    return "yes" if found.trace else "NO"


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table that reads well as text too."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]

    def draw(line: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    return "\n".join([draw(header), draw(["-" * width for width in widths]), *map(draw, lines)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """The goals, and what was reached."""
    incidents = [line for line in verdicts if not line.expectation.silent]
    pages = [line.rule.after for line in incidents if line.rule is not None and line.rule.way == "page"]
    most = max(
        (n for line in verdicts for c in (line.rule_messages, line.application_messages) for n in c.values()), default=0
    )
    false = sum(len(line.false_alarms) for line in verdicts)
    return (
        f"{sum(line.detected for line in incidents)} of {len(incidents)} detected; slowest page"
        f" {max(pages, default=0):.0f} s; most messages at one receiver {most}; false alarms {false}"
    )


def as_data(verdicts: Sequence[Verdict]) -> tuple[dict[str, Any], ...]:
    """The rows for programs."""
    return tuple(
        {**dict(zip(HEADER_KEYS, row, strict=True)), "title": line.expectation.title, "problems": list(line.problems)}
        for line, row in zip(verdicts, rows(verdicts), strict=True)
    )


def explained(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """The rows with what happens in each incident, for readers who were not there."""
    return [
        (f"**{name}**: {line.expectation.title}", *rest)
        for line, (name, *rest) in zip(verdicts, rows(verdicts), strict=True)
    ]


def write_page(text: str, page: Path = PAGE) -> None:
    """Puts ``text`` between the marks of the page. Raises ``ValueError`` if it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no place for the results")
    page.write_text(f"{before}{_BEGIN}\n\n{text.strip()}\n\n{_END}{after}", encoding="utf-8")
