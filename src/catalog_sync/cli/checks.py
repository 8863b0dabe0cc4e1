"""The checks of ``catalog-sync doctor``. None of them raises: what goes wrong is their finding."""

from __future__ import annotations

import asyncio
import email.utils
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from catalog_sync import composition as app
from catalog_sync.domain.errors import (
    AccessDeniedError,
    AuthenticationError,
    CacheAuthenticationError,
    CatalogSyncError,
    ConfigurationError,
)
from catalog_sync.domain.freshness import Freshness
from catalog_sync.settings.folders import make_private
from catalog_sync.sync.reporting import error_info
from catalog_sync.terminal.output import error_line
from otel_resilience import classify
from otel_resilience.classification import error_types
from otel_resilience.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from catalog_sync.settings.settings import Settings

Status = Literal["ok", "warn", "fail"]

PROBE_LIMIT: Final = 20.0
"""Seconds for the probe of the supplier, retries included."""
TOLERATED_SKEW: Final = 5.0
"""Seconds between our clock and the supplier's; its ``Date`` counts whole ones."""
_ROOM: Final = 64 * 1024
"""Bytes that must fit into the state folder: one state file with its replacement."""


class Check(NamedTuple):
    """One finding."""

    name: str
    status: Status
    message: str
    advice: str | None = None
    """What to do about it."""


def ok(name: str, message: str) -> Check:
    """It works."""
    return Check(name, "ok", message)


def warn(name: str, message: str, advice: str) -> Check:
    """It works, but not as it should."""
    return Check(name, "warn", message, advice)


def fail(name: str, message: str, advice: str) -> Check:
    """It does not work."""
    return Check(name, "fail", message, advice)


def state_dir(path: Path) -> Check:
    """Whether a file can be written to the state folder, with content: an empty one is made on a full disk, too."""
    try:
        make_private(path)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor") as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if classify(error).error_type == error_types.DISK_FULL:
            advice = "make room there, or set CATALOG_STATE_DIR to a folder on another disk"
        else:
            advice = "set CATALOG_STATE_DIR to a folder of yours"
        return fail("state folder", f"{path} cannot be written: {reason}", advice)
    return ok("state folder", f"{path} can be written")


def alerts(settings: Settings) -> Check:
    """Whether alerts reach a person, and whether all of them were delivered."""
    from catalog_sync.alerts.overview import overview

    try:
        seen = overview(settings)
    except (ConfigurationError, OSError) as error:
        return fail("alerts", str(error), "correct that variable, or unset it")
    lost = len(seen["dead_letters"])
    if lost:
        return warn("alerts", f"{lost} dead letters: no channel delivered them", "see catalog-sync alerts")
    if seen["channels"] == ["log"]:
        return ok("alerts", "alerts go to the log only; set ERROR_ALERT_WEBHOOK_URL to notify a person")
    return ok("alerts", f"channels: {', '.join(seen['channels'])}; catalog-sync alerts test sends a test")


async def store(settings: Settings) -> Check:
    """Which Redis is used, whether it answers, and whether it may evict the catalogue."""
    from catalog_sync.store import open_store, redis_policy
    from catalog_sync.store.client import GuardedRedis

    policy = redis_policy(settings)
    clients: list[Any] = []
    try:
        async with open_store(settings, policy, instrument=clients.append) as opened:
            if opened.backend == "in-process":
                return warn(
                    "store", "in-process: the catalogue ends with the process", "install redis-server, or set REDIS_URL"
                )
            redis = GuardedRedis(clients[0], policy)
            info = await redis.call("info", lambda client: client.info())
    except CacheAuthenticationError as error:
        return fail("store", error_line(error_info(error)), "correct user name and password in REDIS_URL")
    except (CatalogSyncError, OSError) as error:
        where = redact_url(settings.redis_url) if settings.redis_url else "the private redis-server"
        return fail("store", f"{where}: {error_line(error_info(error))}", "start Redis, or correct REDIS_URL")
    return _judge_redis(opened.backend, info)


def _judge_redis(backend: str, info: Mapping[str, Any]) -> Check:
    version, policy = info.get("redis_version", "?"), str(info.get("maxmemory_policy", "?"))
    limit = int(info.get("maxmemory", 0))
    memory = f"maxmemory {limit / 1e6:.0f} MB, {policy}" if limit else f"no maxmemory, {policy}"
    message = f"{backend}, Redis {version}, {memory}"
    if info.get("role") == "slave":
        return fail("store", f"{message}, a read-only replica", "let REDIS_URL name the primary")
    if limit and policy.startswith("allkeys"):
        return warn("store", message, "this policy may evict the catalogue: use noeviction or a volatile-* one")
    return ok("store", message)


async def supplier(settings: Settings) -> tuple[Check, str | None]:
    """Whether the supplier answers and accepts the key; with it the ``Date`` that it sent."""
    from catalog_sync.supplier.esim_go.client import supplier_policy
    from catalog_sync.supplier.port import Deadline

    if not settings.api_key:
        return fail("supplier", "ESIM_GO_API_KEY is not set", "set ESIM_GO_API_KEY to your API key of eSIM Go"), None
    answers: list[httpx.Response] = []

    started = time.monotonic()
    where = redact_url(settings.base_url)
    try:
        async with app.open_client(settings, supplier_policy(settings), on_response=answers.append) as client:
            await client.health_probe(deadline=Deadline(min(PROBE_LIMIT, settings.sync_deadline)))
    except (AccessDeniedError, AuthenticationError) as error:
        found = fail("supplier", f"{where} rejects the key: {error_line(error_info(error))}", "check ESIM_GO_API_KEY")
    except (CatalogSyncError, OSError) as error:
        advice = "check ESIM_GO_BASE_URL, the network and the supplier's status page; syncs retry by themselves"
        found = fail("supplier", f"{where}: {error_line(error_info(error))}", advice)
    else:
        seconds = time.monotonic() - started
        found = ok("supplier", f"{where} accepts the key, {seconds * 1000:.0f} ms, {_rate_limit(answers[-1].headers)}")
    return found, answers[-1].headers.get("date") if answers else None


def _rate_limit(headers: Mapping[str, str]) -> str:
    limit, remaining = headers.get("x-ratelimit-limit"), headers.get("x-ratelimit-remaining")
    return "no rate-limit headers" if limit is None else f"rate limit {limit[:20]}, {str(remaining)[:20]} remaining"


def clock(date: str | None, now: float | None = None) -> Check:
    """Our clock against the supplier's ``Date`` header."""
    if date is None:
        return warn("clock", "not compared: the supplier sent no Date", "fix the supplier check first")
    try:
        skew = (time.time() if now is None else now) - email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return warn("clock", "not compared: the supplier's Date cannot be read", "nothing: syncs do not depend on it")
    if abs(skew) <= TOLERATED_SKEW:
        return ok("clock", f"within {TOLERATED_SKEW:.0f} s of the supplier's")
    way = "ahead of" if skew > 0 else "behind"
    return warn("clock", f"{abs(skew):.0f} s {way} the supplier's", "synchronise this machine's clock (NTP)")


async def snapshot(directory: Path) -> Check:
    """Whether there is a complete snapshot, which is read while Redis is unavailable."""
    from catalog_sync.store.snapshot import Snapshot

    file = Snapshot(directory)
    existed = await asyncio.to_thread(file.path.exists)
    found = await file.load()
    if found is not None:
        judged = Freshness.of(found.meta, "snapshot", now=time.time(), stale_after=0)
        if judged.problem:
            return warn("snapshot", judged.problem, "synchronise the clocks (NTP), then start catalog-sync run")
        return ok("snapshot", f"{found.meta.bundles:,} bundles, version {found.meta.version}, as of {found.meta.as_of}")
    advice = "start catalog-sync run: every sync writes one"
    return warn("snapshot", "damaged, moved away" if existed else "none yet", advice)
