"""Health checks, from what the process knows already. No check waits for Redis."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from starlette.responses import JSONResponse, Response

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.ports import Alerts, Overview, Protection
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.times import rfc3339
from catalog_sync.sync.reporting import error_info

PORT_TIMEOUT: Final = 0.05
"""Timeout in seconds for alerts and breakers, which may be in another system."""

Status = Literal["healthy", "degraded", "unhealthy"]
_ORDER: Final[tuple[Status, ...]] = ("healthy", "degraded", "unhealthy")


@dataclasses.dataclass(eq=False)
class Health:
    """The checks. ``wall_clock`` returns the time of day in seconds since the epoch."""

    live: LiveCatalogue
    alerts: Alerts
    protection: Protection
    wall_clock: Callable[[], float]
    draining: bool = False
    """Set when the process is about to end: it is not ready any more."""

    async def health(self) -> Response:
        """All checks."""
        return _response(await self.report())

    async def is_live(self) -> Response:
        """Whether the process answers."""
        return _response({"status": "healthy", "checks": {}})

    async def is_ready(self) -> Response:
        """Whether requests may be sent here."""
        checks: dict[str, dict[str, Any]] = {"freshness": self._freshness(), "store": self._store()}
        if self.draining:
            checks["process"] = {"status": "unhealthy", "detail": "stopping"}
        return _response(_report_of(checks))

    async def report(self) -> dict[str, Any]:
        """The object of ``GET /health``."""
        alerts, protection = await asyncio.gather(
            with_timeout(self.alerts.overview()), with_timeout(self.protection.overview())
        )
        checks = {
            "freshness": self._freshness(),
            "store": self._store(),
            "supplier": _supplier(protection),
            "alerts": _alerts_check(alerts),
        }
        if self.draining:
            checks["process"] = {"status": "unhealthy", "detail": "stopping"}
        return _report_of(checks)

    async def overview(self) -> Response:
        """Catalogue, health, breakers, budgets, alerts."""
        report, alerts, protection = await asyncio.gather(
            self.report(), with_timeout(self.alerts.overview()), with_timeout(self.protection.overview())
        )
        document = {
            "now": rfc3339(self.wall_clock()),
            "health": report,
            "catalogue": self._catalogue(),
            "breakers": protection.get("breakers", []),
            "budgets": protection.get("budgets", []),
            "alerts": alerts,
        }
        return JSONResponse(document, headers={"Cache-Control": "no-store"})

    def _catalogue(self) -> dict[str, Any] | None:
        meta = self.live.meta
        if meta is None:
            return None
        check = self._freshness()
        return {
            **meta.to_json(),
            "source": check["source"],
            "stale": check["source"] != "fresh",
            "age_s": check["age_s"],
            "stale_after_s": self.live.stale_after,
        }

    def _freshness(self) -> dict[str, Any]:
        meta = self.live.meta
        if meta is None:
            return {"status": "unhealthy", "detail": "there is no catalogue to read"}
        judged = Freshness.of(meta, self.live.source, now=self.wall_clock(), stale_after=self.live.stale_after)
        check: dict[str, Any] = {
            "status": "degraded" if judged.stale else "healthy",
            "source": judged.source,
            "as_of": judged.as_of,
            "age_s": round(judged.age, 3),
            "version": meta.version,
        }
        if judged.stale_groups:
            check["stale_groups"] = list(judged.stale_groups)
        return check

    def _store(self) -> dict[str, Any]:
        state = self.live.store_state()
        check: dict[str, Any] = {
            "status": "healthy" if state.reachable else "degraded",
            "last_answer_s_ago": None if state.seen_ago is None else round(state.seen_ago, 3),
        }
        if not state.reachable:
            check["detail"] = state.error.message if state.error else "the store has not answered recently"
        return check


async def with_timeout(overview: Awaitable[Overview]) -> Overview:
    """The overview, or ``{"error": ...}`` where it fails or takes longer than :data:`PORT_TIMEOUT`."""
    try:
        async with asyncio.timeout(PORT_TIMEOUT):
            return await overview
    except Exception as error:  # noqa: BLE001  an explicit degraded result, classified and shown
        return {"error": error_info(error).to_json()}


def _supplier(protection: Overview) -> dict[str, Any]:
    if "error" in protection:
        return {"status": "degraded", "detail": "the breakers cannot be read"}
    found = next((each for each in protection["breakers"] if each["dependency"] != "redis"), None)
    if found is None:
        return {"status": "healthy", "detail": "not called yet"}
    failing = 2 * found["failures"] > found["calls"]
    check = {
        "status": "healthy" if found["state"] in {"CLOSED", "SHADOW"} and not failing else "degraded",
        "breaker": found["state"],
        "dependency": found["dependency"],
    }
    if failing:
        check["detail"] = f"{found['dependency']}: {found['failures']} of {found['calls']} calls failed lately"
    if found.get("retry_after_s"):
        check["retry_after_s"] = found["retry_after_s"]
    return check


def _alerts_check(alerts: Overview) -> dict[str, Any]:
    if "error" in alerts:
        return {"status": "degraded", "detail": "the outbox cannot be read"}
    if not alerts["set_up"]:
        return {"status": "healthy", "detail": "not set up"}
    return {
        "status": "degraded" if alerts["dead_letters"] else "healthy",
        "incidents": len(alerts["incidents"]),
        "outbox": alerts["outbox"],
        "dead_letters": alerts["dead_letters"],
    }


def _report_of(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    worst = max((_ORDER.index(check["status"]) for check in checks.values()), default=0)
    return {"status": _ORDER[worst], "checks": dict(checks)}


def _response(report: Mapping[str, Any]) -> Response:
    status = 503 if report["status"] == "unhealthy" else 200
    return JSONResponse(report, status, headers={"Cache-Control": "no-store"})
