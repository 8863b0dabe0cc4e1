"""One sender behind a rate limit that is shared in Redis, in its own process.

``python limited_sender.py REDIS_URL SERVER_URL RATE NUMBER``: prints ``ready``, waits for a line, sends NUMBER requests
at once, each after the limiter's word.
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx

from otel_resilience import RateLimit
from otel_resilience.storage import RedisStorage, SharedRateLimiter, SharedState


async def main(redis_url: str, server_url: str, rate: str, number: str) -> None:
    shared = SharedState(RedisStorage(redis_url), wait=10.0)
    limiter = SharedRateLimiter("test", RateLimit(int(rate)), shared=shared)
    async with httpx.AsyncClient(trust_env=False) as http:
        await limiter.acquire_async()  # knows the script from now on
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def send() -> None:
            await limiter.acquire_async()
            headers = {"X-Sent-At": repr(time.monotonic())}
            (await http.get(server_url, headers=headers)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(int(number)):
                tasks.create_task(send())
    print("degraded" if shared.degraded else "shared", flush=True)
    shared.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
