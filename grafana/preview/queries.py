"""What Grafana does to a query before it asks: time range, interval, variables. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

MAX_POINTS: Final = 500
"""About as many as a panel of half the width has pixels."""
_STEPS: Final = (
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800,
)  # fmt: skip
"""Intervals that Grafana chooses from, in seconds."""
_LEAST: Final = 15.0
"""Grafana's own least interval for Prometheus, in seconds."""
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+)(ms|[smhd])")
_VARIABLE: Final = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>\w+)(?::\w+)?\})")
_LABEL_VALUES: Final = re.compile(r"^label_values\((?:(?P<selector>.+),\s*)?(?P<label>\w+)\)$", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class TimeRange:
    """Start and end, in seconds since the epoch."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start

    def aligned(self, step: float) -> TimeRange:
        """Both ends at multiples of the step, as Grafana asks Prometheus."""
        return TimeRange(self.start // step * step, self.end // step * step)


def seconds(duration: str) -> float:
    """Parses a duration such as ``5m``. Raises ``ValueError`` for anything else."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"not a duration: {duration!r}")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def interval(time_range: TimeRange, panel: Mapping[str, Any]) -> float:
    """Seconds between two points of a panel: by its least interval and by how many points it has room for."""
    least = seconds(panel["interval"]) if panel.get("interval") else _LEAST
    wanted = time_range.length / MAX_POINTS
    return max(least, next((step for step in _STEPS if step >= wanted), _STEPS[-1]))


def built_in(time_range: TimeRange, step: float) -> dict[str, str]:
    """Grafana's own variables, at this range and interval."""
    length = round(time_range.length)
    return {
        "__interval": f"{step:g}s",
        "__interval_ms": f"{step * 1000:g}",
        "__rate_interval": f"{max(step + _LEAST, 4 * _LEAST):g}s",
        "__range": f"{length}s",
        "__range_s": str(length),
        "__range_ms": str(length * 1000),
    }


def chosen(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """The value of each variable of a dashboard when somebody opens it: for *All* what it says that means."""
    values: dict[str, str] = {}
    for variable in dashboard["templating"]["list"]:
        current = variable["current"]["value"]
        is_all = current in ("$__all", ["$__all"])
        values[variable["name"]] = variable["allValue"] if is_all else current
    return values


def filled(query: str, values: Mapping[str, str]) -> str:
    """The query with every variable replaced. Raises ``KeyError`` for a variable that nothing sets."""
    return _VARIABLE.sub(lambda found: values[found["bare"] or found["braced"]], query)


def label_values(query: str) -> tuple[str, str | None]:
    """Label and selector of ``label_values(selector, label)``. Raises ``ValueError`` for another query."""
    found = _LABEL_VALUES.match(query)
    if found is None:
        raise ValueError(f"not label_values(…): {query!r}")
    return found["label"], found["selector"]


def legend(template: str, labels: Mapping[str, str], expression: str) -> str:
    """The name of a series, by the panel's template or by its labels."""
    if template:
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    return (labels.get("__name__", "") + (f"{{{inside}}}" if inside else "")) or expression
