"""Health checks, from what the process knows already. No check waits for Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from starlette.responses import Response

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.ports import Alerts, Overview, Protection, answering_within
from catalog_sync.api.sending import UncachedJson
from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.times import rfc3339
from catalog_sync.sync.reporting import error_info

WAIT: Final = 0.02
"""Seconds that a check waits for alerts and breakers, which may be in Redis; then it shows the last answer."""
FIRST_WAIT: Final = 1.0
"""Seconds that it waits if there is no previous answer to show."""
RECENT: Final = 0.2
"""Seconds for which an answer is reused by further checks without waiting for the next one."""
TRUSTED_FOR: Final = 30.0
"""Seconds for which a previous answer is shown."""
PORT_TIMEOUT: Final = 5.0
"""Seconds after which they count as unreachable."""

Status = Literal["healthy", "degraded", "unhealthy"]
_ORDER: Final[tuple[Status, ...]] = ("healthy", "degraded", "unhealthy")


@dataclasses.dataclass(eq=False)
class _LastAnswer:
    """The last answer of a component, queried in a background task, one at a time, so that no request waits."""

    what: str
    ask: Callable[[], Awaitable[Overview]]
    clock: Callable[[], float] = time.monotonic
    _asking: asyncio.Task[None] | None = None
    _answer: Overview | None = None
    _at: float = 0.0

    def asking(self) -> asyncio.Task[None]:
        """The running query, or a new one."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._refresh())
        return self._asking

    def is_younger_than(self, seconds: float) -> bool:
        """Whether there is an answer that is no older than ``seconds``."""
        return self._answer is not None and self.clock() - self._at < seconds

    def last(self) -> Overview:
        """The last answer that may be shown; ``{"error": ...}`` if there is none."""
        if self._answer is not None and self.is_younger_than(TRUSTED_FOR):
            return self._answer
        late = CacheConnectionError(f"{self.what} did not answer within {FIRST_WAIT:g} s")
        return {"error": error_info(late).to_json()}

    async def _refresh(self) -> None:
        try:
            async with answering_within(PORT_TIMEOUT, self.what):
                self._answer = await self.ask()
        except Exception as error:  # noqa: BLE001  an explicit degraded result, classified and shown
            self._answer = {"error": error_info(error).to_json()}
        self._at = self.clock()


@dataclasses.dataclass(eq=False)
class Health:
    """The checks. ``wall_clock`` returns the time of day in seconds since the epoch."""

    live: LiveCatalogue
    alerts: Alerts
    protection: Protection
    wall_clock: Callable[[], float]
    draining: bool = False
    """Set when the process is about to end: it is no longer ready."""

    def __post_init__(self) -> None:
        self._alerts = _LastAnswer("the records of incidents", lambda: self.alerts.overview())
        self._protection = _LastAnswer("the breakers", lambda: self.protection.overview())

    async def health(self) -> Response:
        """All checks."""
        return _response(await self.report())

    async def is_live(self) -> Response:
        """Whether the process answers."""
        return _response({"status": "healthy", "checks": {}})

    async def is_ready(self) -> Response:
        """Whether requests may be sent here."""
        return _response(self._report_of(freshness=self._freshness(), store=self._store()))

    async def report(self) -> dict[str, Any]:
        """The object of ``GET /health``."""
        return self._judged(*await self._ask())

    async def _ask(self) -> tuple[Overview, Overview]:
        """The answers of alerts and breakers: one wait for both, since each costs a round of a busy event loop."""
        asked = self._alerts, self._protection
        asking = [each.asking() for each in asked]
        # On a busy event loop each round counts: a recent answer is shown without waiting for one.
        if not all(each.is_younger_than(RECENT) for each in asked):
            something = all(each.is_younger_than(TRUSTED_FOR) for each in asked)
            await asyncio.wait(asking, timeout=WAIT if something else FIRST_WAIT)
        return self._alerts.last(), self._protection.last()

    def _judged(self, alerts: Overview, protection: Overview) -> dict[str, Any]:
        return self._report_of(
            freshness=self._freshness(),
            store=self._store(),
            supplier=_supplier(protection),
            alerts=_alerts_check(alerts),
        )

    def _report_of(self, **checks: dict[str, Any]) -> dict[str, Any]:
        if self.draining:
            checks["process"] = {"status": "unhealthy", "detail": "stopping"}
        return {"status": max((check["status"] for check in checks.values()), key=_ORDER.index), "checks": checks}

    async def overview(self) -> Response:
        """Catalogue, health, breakers, budgets, alerts."""
        alerts, protection = await self._ask()
        document = {
            "now": rfc3339(self.wall_clock()),
            "health": self._judged(alerts, protection),
            "catalogue": self._catalogue(),
            "breakers": protection.get("breakers", []),
            "budgets": protection.get("budgets", []),
            "alerts": alerts,
        }
        return UncachedJson(document)

    def _catalogue(self) -> dict[str, Any] | None:
        meta = self.live.meta
        if meta is None:
            return None
        check = self._freshness()
        return {
            **meta.to_json(),
            "source": check["source"],
            "stale": check["source"] != "fresh",
            "problem": check.get("detail"),
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
        if judged.problem:
            check["detail"] = judged.problem
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


def _response(report: Mapping[str, Any]) -> Response:
    return UncachedJson(report, 503 if report["status"] == "unhealthy" else 200)
