"""``python -m drill.panels DIR``: runs every PromQL of the dashboards against what a drill left.

A panel is silent when none of its queries returns a number at any time of the drill. ``silent.yaml`` lists the panels
that may be, each with its reason; another one makes the exit code 1. One that is listed and has data is only named:
some show what comes by chance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from drill.left import Left, read
from support.prometheus import Prometheus
from support.promql import filled

ROOT: Final = Path(__file__).parents[1]
DASHBOARDS: Final = ROOT / "grafana/dashboards"
LISTED: Final = Path(__file__).with_name("silent.yaml")
STEP: Final = 15
"""Seconds between two evaluations of a query."""

Name = tuple[str, str]
"""The uid of a dashboard and the title of a panel."""


class Source(Protocol):
    """A Prometheus."""

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a range query, each with ``values``."""
        ...


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel with its PromQL, variables not yet filled in."""

    dashboard: str
    title: str
    queries: tuple[str, ...]

    @property
    def name(self) -> Name:
        """Unique."""
        return self.dashboard, self.title


def panels(folder: Path = DASHBOARDS) -> Iterator[Panel]:
    """Every panel that asks Prometheus."""
    for file in sorted(folder.glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        for panel in _flat(dashboard["panels"]):
            queries = tuple(
                target["expr"]
                for target in panel.get("targets", [])
                if (target.get("datasource") or panel.get("datasource") or {}).get("type") == "prometheus"
            )
            if queries:
                yield Panel(dashboard["uid"], panel["title"], queries)


def _flat(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in found:
        yield panel
        yield from _flat(panel.get("panels", []))


def silent(source: Source, start: float, end: float, folder: Path = DASHBOARDS) -> list[Name]:
    """The panels none of whose queries returns a number between these times."""
    return [
        panel.name for panel in panels(folder) if not any(_speaks(source, query, start, end) for query in panel.queries)
    ]


def _speaks(source: Source, query: str, start: float, end: float) -> bool:
    series = source.query_range(filled(query), start, end, STEP)
    return any(not math.isnan(float(value)) for each in series for _, value in each["values"])


def listed(file: Path = LISTED, *, short: bool) -> dict[Name, str]:
    """The panels that may be silent after the drill, or after its shortened form as well, with the reasons."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    chosen = [*content["always"], *(content["after the shortened drill"] if short else [])]
    return {(entry["dashboard"], entry["panel"]): entry["reason"] for entry in chosen}


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found, as lines for people."""

    problems: list[str]
    """To be corrected: in the dashboards, in the drill or in the list."""
    notes: list[str]


def compare(found: list[Name], allowed: dict[Name, str], known: list[Name]) -> Findings:
    """The silent panels against the list."""
    lines = [f"{dashboard} / {title}: no data" for dashboard, title in found if (dashboard, title) not in allowed]
    gone = [f"{name[0]} / {name[1]}: listed, but there is no such panel" for name in allowed if name not in known]
    speaking = [name for name in allowed if name in known and name not in found]
    return Findings(lines + gone, [f"{dashboard} / {title}: listed, but it has data" for dashboard, title in speaking])


def check(folder: Path, left: Left) -> Findings:
    """Checks a drill that was kept in ``folder``."""
    with Prometheus(folder / "prometheus") as source:
        found = silent(source, left.began, left.ended)
    return compare(found, listed(short=left.short), [panel.name for panel in panels()])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="drill.panels", description="Finds panels without data after a drill.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `--keep DIR` of the drill left")
    folder = parser.parse_args().folder
    found = check(folder, read(folder))
    sys.stdout.write("".join(f"{line}\n" for line in (*found.problems, *found.notes)))
    sys.stdout.write("" if found.problems else "every panel has data or a reason\n")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
