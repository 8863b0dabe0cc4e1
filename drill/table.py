"""The table of the drill."""

from __future__ import annotations

from collections.abc import Sequence

from drill.judge import CALM, Counts, Detection, Verdict

HEADER = ("incident", "rule", "after", "application", "after", "messages: rules", "application", "trace", "false")


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
        "–" if line.expectation is CALM else f"{_trace(line.rule)} / {_trace(line.application)}",
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
    incidents = [line for line in verdicts if line.expectation is not CALM]
    pages = [line.rule.after for line in incidents if line.rule is not None and line.rule.way == "page"]
    most = max((n for line in verdicts for c in (line.rule_messages, line.application_messages) for n in c.values()), default=0)
    false = sum(len(line.false_alarms) for line in verdicts)
    return (
        f"{sum(line.detected for line in incidents)} of {len(incidents)} detected; slowest page"
        f" {max(pages, default=0):.0f} s; most messages at one receiver {most}; false alarms {false}"
    )
