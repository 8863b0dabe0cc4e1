"""What ``catalog-sync status`` shows of jobs, workers and dead letters."""

from __future__ import annotations

import json
from typing import Any, Final

from catalog_sync.jobs.keys import WORKER_PREFIX
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.store.client import GuardedRedis

SHOWN_LETTERS: Final = 10


async def overview(redis: GuardedRedis) -> dict[str, Any]:
    """Workers seen lately, the job under way, and the last dead letters. Raises the ``Cache…Error`` of the store."""
    ledger = JobLedger(redis)
    active = await ledger.active()
    count, letters = await ledger.dead_letters(SHOWN_LETTERS)
    return {
        "workers": await _workers(redis),
        "active": None if active is None else active.job.to_json(),
        "dead_letters": {"count": count, "last": letters},
    }


async def _workers(redis: GuardedRedis) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = 0
    while True:
        cursor, keys = await redis.command(
            "look for workers", "SCAN", cursor, "MATCH", f"{WORKER_PREFIX}*", "COUNT", 500
        )
        if keys:
            texts = await redis.command("read workers", "MGET", *keys)
            found += [json.loads(text) for text in texts if text is not None]
        if int(cursor) == 0:
            return sorted(found, key=lambda worker: str(worker["name"]))
