"""The dashboards, one module each."""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard
from grafana.generate.dashboards import alerting, breakers, errors, load, overview, retries, sync, telemetry

ALL: Final[tuple[Dashboard, ...]] = (
    overview.DASHBOARD,
    sync.DASHBOARD,
    errors.DASHBOARD,
    breakers.DASHBOARD,
    retries.DASHBOARD,
    load.DASHBOARD,
    alerting.DASHBOARD,
    telemetry.DASHBOARD,
)
