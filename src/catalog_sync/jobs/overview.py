"""What ``catalog-sync status`` shows of jobs, workers and dead letters."""

from __future__ import annotations

from typing import Any, Final

from catalog_sync.jobs.keys import WORKER_PREFIX
from catalog_sync.jobs.ledger import JobLedger, read_object
from catalog_sync.jobs.port import Job
from catalog_sync.store.client import GuardedRedis
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.keys import Key

SHOWN_LETTERS: Final = 10


async def overview(redis: GuardedRedis) -> dict[str, Any]:
    """Workers seen recently, the active job, and the last dead letters. Raises the ``Cache…Error`` of the store."""
    ledger = JobLedger(redis)
    active = await _active(ledger)
    count, letters = await ledger.dead_letters(SHOWN_LETTERS)
    return {
        "workers": await _workers(redis),
        "active": None if active is None else active.to_json(),
        "dead_letters": {"count": count, "last": letters},
    }


async def _active(ledger: JobLedger) -> Job | None:
    """The active job; if its record cannot be read, what is known about it."""
    try:
        record = await ledger.active()
    except CorruptEntryError:
        return next(iter(await ledger.latest(1, 0)), None)
    return None if record is None else record.job


def _worker(key: bytes, text: bytes) -> dict[str, Any]:
    """What a worker reports about itself; only its name if that cannot be read."""
    unreadable = {"name": bytes(key).decode("utf-8", "replace").rpartition(WORKER_PREFIX)[2], "unreadable": True}
    said = read_object(text)
    return said if said is not None and isinstance(said.get("name"), str) else unreadable


async def _workers(redis: GuardedRedis) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = 0
    while True:
        cursor, keys = await redis.command(
            "look for workers", "SCAN", cursor, "MATCH", Key(f"{WORKER_PREFIX}*"), "COUNT", 500
        )
        if keys:
            texts = await redis.command("read workers", "MGET", *keys)
            found += [_worker(key, text) for key, text in zip(keys, texts, strict=True) if text is not None]
        if int(cursor) == 0:
            return sorted(found, key=lambda worker: str(worker["name"]))
