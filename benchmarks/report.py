"""The report on the measured cases."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.groups import BARE
from benchmarks.measure import Result
from benchmarks.tables import table
from benchmarks.targets import Verdict


def results(found: Sequence[Result]) -> str:
    """One table with all groups. The two ratios are to the bare call and to nopanic's same row of the group."""
    rows: list[list[str]] = []
    group, bare = "", 1.0
    for result in found:
        if result.case.group != group:
            group = result.case.group
            rows.append([f"**{group}**", "", "", "", ""])
        if result.case.name.startswith(BARE):
            bare = result.median
        reference = _reference(result, found)
        rows.append(
            [
                result.case.name,
                f"{result.median:,.0f}",
                f"{min(result.samples):,.0f}-{max(result.samples):,.0f}",
                f"{result.median / bare:,.1f}",
                "" if reference is None else f"{result.median / reference:.2f}",
            ]
        )
    return table(["case", "ns/call", "min-max", "x bare", "x reference"], rows)


REFERENCES = {
    "A": "both: nopanic retry+breaker",
    "B": "both: nopanic retry+breaker",
    "C": "nopanic retry",
    "D": "nopanic retry",
    "E": "nopanic",
    "F": "nopanic",
    "G": "by hand",
    "K": "nopanic retry+breaker",
    "L": "nopanic retry+breaker",
}


def _reference(result: Result, found: Sequence[Result]) -> float | None:
    wanted = REFERENCES.get(result.case.group[0])
    if wanted is None:
        return None
    if result.case.group[0] == "G":
        wanted += " async" if result.case.asynchronous else " sync"
    if result.case.group[0] == "K" and result.case.asynchronous:
        wanted += " in two asyncio.timeout"
    return next(
        (each.median for each in found if each.case.group == result.case.group and each.case.name == wanted), None
    )


def targets(verdicts: Sequence[Verdict]) -> str:
    """What was asked for and what was measured."""
    rows = [
        [
            verdict.target.name,
            verdict.target.row,
            verdict.against,
            f"<= {verdict.target.limit:g} {verdict.unit}",
            f"{verdict.measured:.2f}",
            f"{min(verdict.samples):.2f}-{max(verdict.samples):.2f}",
            "met" if verdict.met else "NOT MET",
        ]
        for verdict in verdicts
    ]
    return table(["target", "row", "against", "limit", "median", "min-max", "verdict"], rows)
