"""The checks of ``catalog-sync doctor``. None of them raises: a failure is their finding."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from redis.exceptions import NoPermissionError

from catalog_sync import composition as app
from catalog_sync.alerts.overview import overview
from catalog_sync.domain.errors import (
    AccessDeniedError,
    AuthenticationError,
    CacheAuthenticationError,
    CacheWritesPausedError,
    CatalogSyncError,
    ConfigurationError,
    InvalidDataError,
)
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.times import http_date, rfc3339
from catalog_sync.settings.folders import make_private
from catalog_sync.store import open_store
from catalog_sync.store.client import named
from catalog_sync.store.keys import TAG, Key
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.supplier.esim_go.policy import supplier_policy
from catalog_sync.supplier.port import Deadline
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
    from catalog_sync.store import CatalogStore
    from catalog_sync.store.client import GuardedRedis
    from otel_resilience.alerting import Silence

Status = Literal["ok", "warn", "fail"]

PROBE_LIMIT: Final = 20.0
"""Seconds for the probe of the supplier, retries included."""
TRIED_BYTES: Final = 65_536
"""Bytes that are written to the state folder."""
TRIED_KEY_LIVES: Final = 60
"""Seconds after which the key written to Redis expires, in case a check is killed."""
LEAST_FREE: Final = 256_000_000
LEAST_INODES: Final = 1000
TOLERATED_SKEW: Final = 5.0
"""Seconds between our clock and the others' that are tolerated; the supplier's ``Date`` has whole seconds."""


_ROOM: Final = {
    "redis_oom": "give Redis memory, or raise its maxmemory",
    "redis_misconf": "make room on the disk of Redis, or let it write there",
    "redis_noreplicas": "start the replicas of Redis, or lower its min-replicas-to-write",
}
"""What to do if Redis accepts no writes, by the ``error.type``."""


NEEDED: Final = (
    "HSET KEY a b", "EXPIRE KEY 60", "PEXPIRE KEY 60000", "PTTL KEY", "HGET KEY a", "HMGET KEY a", "HGETALL KEY",
    "HEXISTS KEY a", "HKEYS KEY", "HLEN KEY", "HSCAN KEY 0", "PERSIST KEY", "TYPE KEY", "EXISTS KEY", "HDEL KEY a",
    "GET KEY", "SET KEY x EX 60", "ZADD KEY 1 a", "ZREM KEY a", "ZRANGE KEY 0 1", "ZREVRANGE KEY 0 1", "ZCARD KEY",
    "ZREMRANGEBYRANK KEY 0 1", "ZREMRANGEBYSCORE KEY 0 1", "LRANGE KEY 0 1", "UNLINK KEY", "DEL KEY",
    "SCAN 0 MATCH KEY", "TIME", "EVALSHA 0 0", "EVAL nothing 0", "SCRIPT LOAD return", "MULTI", "EXEC",
)  # fmt: skip
"""Commands that the programs send, directly or in scripts, with arguments to try them; those of jobs are added."""


class Check(NamedTuple):
    """One finding."""

    name: str
    status: Status
    message: str
    advice: str | None = None
    """What to do about it."""


def ok(name: str, message: str) -> Check:
    return Check(name, "ok", message)


def warn(name: str, message: str, advice: str) -> Check:
    return Check(name, "warn", message, advice)


def fail(name: str, message: str, advice: str) -> Check:
    return Check(name, "fail", message, advice)


def state_dir(path: Path) -> Check:
    """Whether a file can be written to the state folder, flushed to disk and read back unchanged."""
    written = secrets.token_bytes(TRIED_BYTES)
    try:
        make_private(path)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            if file.read() != written:
                return fail("state folder", f"{path} does not read back what was written", "check that disk")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if classify(error).error_type == error_types.DISK_FULL:
            advice = "make room there, or set CATALOG_STATE_DIR to a folder on another disk"
        else:
            advice = "set CATALOG_STATE_DIR to a folder of your own"
        return fail("state folder", f"{path} cannot be written: {reason}", advice)
    return ok("state folder", f"{path} can be written")


def disk(path: Path) -> Check:
    """Free space and inodes on the state folder's file system that are not reserved for root."""
    try:
        left = os.statvfs(path)
    except OSError as error:
        return fail("disk", f"{path} cannot be seen: {error.strerror}", "see the check of the state folder")
    free, inodes = left.f_bavail * left.f_frsize, left.f_favail
    message = f"{free / 1e9:.1f} GB free"
    if left.f_files:  # some file systems create inodes on demand
        message = f"{message}, {inodes:,} inodes"
    if free < LEAST_FREE or (left.f_files and inodes < LEAST_INODES):
        advice = f"free space there: less than {LEAST_FREE // 1_000_000} MB, or {LEAST_INODES} inodes, is soon none"
        return warn("disk", message, advice)
    return ok("disk", message)


def alerts(settings: Settings) -> Check:
    """Whether alerts reach a person, and whether all of them were delivered."""
    try:
        seen = overview(settings)
    except (ConfigurationError, OSError) as error:
        return fail("alerts", str(error), "correct that variable, or unset it")
    lost = len(seen["dead_letters"])
    if lost:
        return warn("alerts", f"{lost} dead letters: no channel delivered them", "see catalog-sync alerts")
    wanted = dict.fromkeys(name for step in settings.alerts.escalation for name in step.channels)
    missing = [name for name in wanted if name not in seen["channels"]]
    if missing:
        message = f"ERROR_ALERT_ESCALATION goes to {', '.join(missing)}, which is not set up"
        return warn("alerts", message, f"set up these channels, or use one of {', '.join(seen['channels'])}")
    if seen["channels"] == ["log"]:
        return ok("alerts", "alerts go to the log only; set ERROR_ALERT_WEBHOOK_URL to notify a person")
    silent = "".join(f"; silenced {_silenced(each)}" for each in settings.alerts.silences if time.time() < each.until)
    return ok("alerts", f"channels: {', '.join(seen['channels'])}{silent}; catalog-sync alerts test sends a test")


def _silenced(silence: Silence) -> str:
    """What one of ``ERROR_ALERT_SILENCES`` covers, and until when."""
    until = "for ever" if math.isinf(silence.until) else f"until {rfc3339(silence.until)}"
    fields = ("kind", "dependency", "error_type", "severity")
    return " ".join([*(f"{name}={value}" for name in fields if (value := getattr(silence, name)) is not None), until])


class StoreFindings(NamedTuple):
    """Findings about the store and, as far as it answers, about its content."""

    store: Check
    catalogue: Check | None = None
    skew: float | None = None
    """Seconds by which our clock is ahead of that of Redis."""


async def store(settings: Settings) -> StoreFindings:
    """Which Redis is used, whether it accepts writes, may evict the catalogue, and has all of it."""
    try:
        async with open_store(settings, first_answer=app.first_answer()) as opened:
            if opened.backend == "in-process":
                found = warn(
                    "store", "in-process: the catalogue ends with the process", "install redis-server, or set REDIS_URL"
                )
                return StoreFindings(found)
            redis = opened.redis
            info = await _about(redis)
            found = _judge_redis(opened.backend, info)
            if found.status != "fail" and (forbidden := await _forbidden(redis)):
                unknown = ["INFO"] if info is None else []
                message = f"the ACL of this user forbids {', '.join(unknown + forbidden)}"
                return StoreFindings(fail("store", message, "allow all commands in its ACL"))
            skew = await _skew(redis)
            if found.status != "fail" and not await _writes(redis):
                found = fail("store", f"{found.message}, does not read back what was written", "check that server")
            whole = await catalogue(opened)
    except (CatalogSyncError, OSError) as error:
        return StoreFindings(_unusable(settings, error))
    return StoreFindings(found, whole, skew)


def _unusable(settings: Settings, error: Exception) -> Check:
    info = error_info(error)
    if isinstance(error, CacheAuthenticationError):
        return fail("store", error_line(info), "correct user, password and rights in REDIS_URL")
    if isinstance(error, CacheWritesPausedError):
        advice = _ROOM.get(info.type, "see the log of Redis for what it lacks")
        return fail("store", error_line(info), f"{advice}; reads go on")
    where = redact_url(settings.redis_url) if settings.redis_url else "the private redis-server"
    return fail("store", f"{where}: {error_line(info)}", "start Redis, or correct REDIS_URL")


async def catalogue(opened: CatalogStore) -> Check:
    """Whether everything published is unchanged. Raises ``CatalogSyncError``, except for damage."""
    try:
        meta = await opened.current()
        if meta is None:
            return ok("catalogue", "nothing is published yet")
        await opened.verify(meta)
        await opened.load_index(meta.version)
    except InvalidDataError as error:
        advice = "start catalog-sync run: a full sync publishes a whole one; until then readers get the snapshot"
        return fail("catalogue", error_line(error_info(error)), advice)
    return ok("catalogue", f"{meta.bundles:,} bundles, version {meta.version}, as they were published")


async def _writes(redis: GuardedRedis) -> bool:
    """Whether a key can be written, read back and removed."""
    key, value = Key(f"{TAG}:doctor:{secrets.token_hex(8)}"), secrets.token_hex(8)
    await redis.command("try a write", "SET", key, value, "EX", TRIED_KEY_LIVES)
    read = await redis.command("read it back", "GET", key)
    await redis.command("remove it", "DEL", key)
    return bool(read == value.encode())


async def _forbidden(redis: GuardedRedis) -> list[str]:
    """Commands that a program needs and the ACL of our user does not allow; tried on a key of our own."""
    key = Key(f"{TAG}:doctor:{secrets.token_hex(8)}")
    commands = [tuple(key if part == "KEY" else part for part in line.split()) for line in NEEDED]

    async def send(client: Any) -> list[Any]:
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*named(command, redis.prefix))
            return list(await pipeline.execute(raise_on_error=False))

    answers = await redis.call("try commands", send, writes=True)
    found = zip(NEEDED, answers, strict=True)
    return [_name(line) for line, answer in found if isinstance(answer, NoPermissionError)]


def _name(line: str) -> str:
    words = line.split()
    return " ".join(words[: 2 if words[0] == "SCRIPT" else 1])


async def _about(redis: GuardedRedis) -> Mapping[str, Any] | None:
    """What the server says about itself; ``None`` where our user may not ask. No sync needs it."""
    try:
        return await redis.call("info", lambda client: client.info())
    except CacheAuthenticationError as error:
        if error.error_type != error_types.redis_reply("NOPERM"):
            raise
        return None


async def _skew(redis: GuardedRedis) -> float:
    asked = time.time()
    seconds, microseconds = await redis.command("ask the time", "TIME")
    return (asked + time.time()) / 2 - (int(seconds) + int(microseconds) / 1e6)


def _judge_redis(backend: str, info: Mapping[str, Any] | None) -> Check:
    if info is None:
        message = f"{backend}, the ACL of this user forbids INFO: version, role and memory are unknown"
        return warn("store", message, "allow INFO in its ACL, so that they are checked")
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
    """Whether the supplier answers and accepts the key; with the ``Date`` that it sent."""
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


def clock(date: str | None, store_skew: float | None = None, now: float | None = None) -> Check:
    """Our clock against that of Redis, and against the supplier's ``Date`` header."""
    skews = {} if store_skew is None else {"Redis'": store_skew}
    sent = http_date(date)
    if sent is not None:
        skews["the supplier's"] = (time.time() if now is None else now) - sent
    if not skews:
        return warn("clock", "not compared: neither Redis nor the supplier said its time", "fix their checks first")
    wrong = [
        f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {whose}"
        for whose, skew in skews.items()
        if abs(skew) > TOLERATED_SKEW
    ]
    if wrong:
        return warn("clock", " and ".join(wrong), "synchronise the clocks (NTP)")
    return ok("clock", f"within {TOLERATED_SKEW:.0f} s of {' and '.join(skews)}")


async def snapshot(directory: Path) -> Check:
    """Whether there is a complete snapshot, which is read while Redis is unavailable."""
    file = Snapshot(directory)
    try:
        existed = await asyncio.to_thread(file.path.exists)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return warn("snapshot", f"{file.path} cannot be read: {reason}", "set CATALOG_STATE_DIR to a folder of yours")
    found = await file.load()
    if found is not None:
        judged = Freshness.of(found.meta, "snapshot", now=time.time(), stale_after=0)
        if judged.problem:
            return warn("snapshot", judged.problem, "synchronise the clocks (NTP), then start catalog-sync run")
        return ok("snapshot", f"{found.meta.bundles:,} bundles, version {found.meta.version}, as of {found.meta.as_of}")
    advice = "start catalog-sync run: every sync writes one"
    return warn("snapshot", "damaged, moved away" if existed else "none yet", advice)
