"""What a user of the rules may want otherwise: thresholds, windows, if the runbook lives."""

from __future__ import annotations

import dataclasses
from typing import Final

RUNBOOK_BASE: Final = "http://localhost:8025/runbook"
"""docs/alerts.md as the bundled receiver shows it. ``make dashboards RUNBOOK_BASE=https://…`` names another place."""

GRAFANA_URL: Final = "http://localhost:3000"
"""Where people open Grafana, for links that Grafana does not make itself; the address published by Compose."""

DATASOURCE_UIDS: Final = {"prometheus": "prometheus", "loki": "loki", "tempo": "tempo"}
EVALUATION_INTERVAL: Final = 10
"""Seconds. With pushes every 15 s and 15 s of grouping a page leaves within a minute."""

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration(seconds: int) -> str:
    """In the format of PromQL and Grafana: 5400 is ``90m``. Raises ``ValueError`` below one second."""
    if seconds < 1:
        raise ValueError(f"a duration needs at least one second, not {seconds}")
    return next(f"{seconds // size}{unit}" for size, unit in _UNITS if seconds % size == 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds of the rules; every time in seconds. The defaults are those of the application if it has one."""

    runbook_base: str = RUNBOOK_BASE
    stale_after: int = 86400
    """Age from which the catalogue is stale: ``CATALOG_STALE_AFTER_S``."""
    no_sync_after: int = 90000
    """A daily job and an hour of slack."""
    first_sync_grace: int = 900
    """A new installation has not synced yet."""
    watched: int = 93600
    """How long a failed sync is reported while no later one works; longer than ``no_sync_after``. Also how long
    Prometheus may be away without forgetting the last moments (:mod:`grafana.generate.rules.recording`)."""
    recent: int = 300
    """The window of rules about something that happened."""
    hold: int = 150
    """``keep_firing_for`` of rules whose condition comes and goes within one incident. With ``recent`` it is shorter
    than the time between two messages, so that all alerts of an incident end in the same one."""
    objective: float = 0.99
    """Share of protected calls that should succeed in the end, over 30 days."""
    least_calls: int = 20
    """With fewer calls in its short window an error budget says nothing."""
    slow_call: float = 2.5
    """Seconds; a bound of the histogram's buckets. A protected call that takes longer counts as slow."""
    slow_share: float = 0.05
    """Share of slow calls from which a dependency is called slow, if it is also four times the usual share."""
    cut_share: float = 0.02
    """Attempts that a time limit cut, per call, from which a dependency is called slow."""
    least_cut: int = 3
    """Fewer cut attempts than this within ``recent`` say nothing."""
    throttled: int = 10
    """Answers "too many requests" in the window of ``recent``."""
    queue_wait: int = 120
    """Seconds that a sync may wait for a worker."""
    clock_off: int = 300
    """Seconds by which the clock of a process may differ from the Collector's. It must be more than a request may wait
    between two tiers of Collectors."""
    memory: float = 1.0
    """Divides the seconds that stand as numbers beside windows; for a drill whose windows are divided likewise."""
    queue_share: float = 0.5
    """Share of the capacity of a queue in the Collector."""

    def remembered(self, seconds: int) -> str:
        """A number of seconds in a query."""
        return f"{seconds / self.memory:g}"
