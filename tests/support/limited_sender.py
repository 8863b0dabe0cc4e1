"""One sender behind a rate limit that is shared in Redis, in its own process.

``python -m support.limited_sender REDIS_URL SERVER_URL RATE NUMBER``: prints ``ready``, waits for a line, sends NUMBER
requests at once, each with its permit, and prints how it shared and the permits.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx

from otel_resilience import RateLimit
from otel_resilience.storage import RedisStorage, SharedState
from support.permits import Permit, WatchedLimiter


async def main(redis_url: str, server_url: str, rate: str, number: str) -> None:
    shared = SharedState(RedisStorage(redis_url), wait=10.0)
    limiter = WatchedLimiter("test", RateLimit(int(rate)), shared=shared)
    permits: list[Permit] = []
    async with httpx.AsyncClient(trust_env=False) as http:
        await limiter.acquire_async()  # knows the script from now on
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def send() -> None:
            await limiter.acquire_async()
            permits.append(limiter.permit())
            (await http.get(server_url)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(int(number)):
                tasks.create_task(send())
    print(json.dumps({"degraded": shared.degraded, "permits": permits, "missed": limiter.missed}), flush=True)
    shared.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
