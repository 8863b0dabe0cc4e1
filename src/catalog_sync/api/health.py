"""How this service is: from what it knows already. No check waits for Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.parameters import no_parameters
from catalog_sync.api.ports import Alerts, Overview, Protection
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.times import rfc3339
from catalog_sync.sync.reporting import error_info

LOOK: Final = 0.05
"""Seconds that alerts and breakers, which may live elsewhere, get to answer."""

Status = Literal["healthy", "degraded", "unhealthy"]
_ORDER: Final[tuple[Status, ...]] = ("healthy", "degraded", "unhealthy")


class Health:
    """The checks. ``wall_clock`` tells the time of day in seconds since the epoch."""

    def __init__(
        self, live: LiveCatalogue, alerts: Alerts, protection: Protection, wall_clock: Callable[[], float]
    ) -> None:
        self._live = live
        self._alerts = alerts
        self._protection = protection
        self._wall_clock = wall_clock
        self.draining = False
        """Set when the process is about to end: it is ready no more."""

    async def health(self, request: Request) -> Response:
        """``GET /health``."""
        no_parameters(request.scope["query_string"])
        return _response(await self.report())

    async def is_live(self, request: Request) -> Response:
        """``GET /health/live``: the process answers; whether its surroundings are well does not matter."""
        no_parameters(request.scope["query_string"])
        return _response({"status": "healthy", "checks": {}})

    async def is_ready(self, request: Request) -> Response:
        """``GET /health/ready``: requests may be sent here."""
        no_parameters(request.scope["query_string"])
        checks: dict[str, dict[str, Any]] = {"freshness": self._freshness(), "store": self._store()}
        if self.draining:
            checks["process"] = {"status": "unhealthy", "detail": "stopping"}
        return _response(_judged(checks))

    async def report(self) -> dict[str, Any]:
        """The object of ``GET /health``."""
        alerts, protection = await asyncio.gather(
            quickly(self._alerts.overview()), quickly(self._protection.overview())
        )
        checks = {
            "freshness": self._freshness(),
            "store": self._store(),
            "supplier": _supplier(protection),
            "alerts": _alerts_check(alerts),
        }
        if self.draining:
            checks["process"] = {"status": "unhealthy", "detail": "stopping"}
        return _judged(checks)

    async def overview(self, request: Request) -> Response:
        """``GET /overview``: everything that the page shows besides syncs and traces."""
        no_parameters(request.scope["query_string"])
        report, alerts, protection = await asyncio.gather(
            self.report(), quickly(self._alerts.overview()), quickly(self._protection.overview())
        )
        document = {
            "now": rfc3339(self._wall_clock()),
            "health": report,
            "catalogue": self._catalogue(),
            "breakers": protection.get("breakers", []),
            "budgets": protection.get("budgets", []),
            "alerts": alerts,
        }
        return JSONResponse(document, headers={"Cache-Control": "no-store"})

    def _catalogue(self) -> dict[str, Any] | None:
        meta = self._live.meta
        if meta is None:
            return None
        check = self._freshness()
        return {
            **meta.to_json(),
            "source": check["source"],
            "stale": check["source"] != "fresh",
            "age_s": check["age_s"],
            "stale_after_s": self._live.stale_after,
        }

    def _freshness(self) -> dict[str, Any]:
        meta = self._live.meta
        if meta is None:
            return {"status": "unhealthy", "detail": "there is no catalogue to read"}
        judged = Freshness.of(meta, self._live.source, now=self._wall_clock(), stale_after=self._live.stale_after)
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
        state = self._live.store_state()
        check: dict[str, Any] = {
            "status": "healthy" if state.reachable else "degraded",
            "last_answer_s_ago": None if state.seen_ago is None else round(state.seen_ago, 3),
        }
        if not state.reachable:
            check["detail"] = state.error.message if state.error else "the store has not answered lately"
        return check


async def quickly(asked: Awaitable[Overview]) -> Overview:
    """The answer, or ``{"error": ...}`` where it fails or does not come within :data:`LOOK`."""
    try:
        async with asyncio.timeout(LOOK):
            return await asked
    except Exception as error:  # noqa: BLE001  an explicit degraded result, classified and shown
        return {"error": error_info(error).to_json()}


def _supplier(protection: Overview) -> dict[str, Any]:
    if "error" in protection:
        return {"status": "degraded", "detail": "the breakers cannot be seen"}
    found = next((each for each in protection["breakers"] if each["dependency"] != "redis"), None)
    if found is None:
        return {"status": "healthy", "detail": "not called yet"}
    check = {
        "status": "healthy" if found["state"] in {"CLOSED", "SHADOW"} else "degraded",
        "breaker": found["state"],
        "dependency": found["dependency"],
    }
    if found.get("retry_after_s"):
        check["retry_after_s"] = found["retry_after_s"]
    return check


def _alerts_check(alerts: Overview) -> dict[str, Any]:
    if "error" in alerts:
        return {"status": "degraded", "detail": "the outbox cannot be seen"}
    if not alerts["set_up"]:
        return {"status": "healthy", "detail": "not set up"}
    return {
        "status": "degraded" if alerts["dead_letters"] else "healthy",
        "incidents": len(alerts["incidents"]),
        "outbox": alerts["outbox"],
        "dead_letters": alerts["dead_letters"],
    }


def _judged(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    worst = max((_ORDER.index(check["status"]) for check in checks.values()), default=0)
    return {"status": _ORDER[worst], "checks": dict(checks)}


def _response(report: Mapping[str, Any]) -> Response:
    status = 503 if report["status"] == "unhealthy" else 200
    return JSONResponse(report, status, headers={"Cache-Control": "no-store"})
