"""One sender behind a rate limit that is shared in Redis, as a process of its own.

``python limited_sender.py REDIS_URL SERVER_URL RATE NUMBER``: prints ``ready``, waits for a line, sends NUMBER requests
at once, each after the limiter's word.
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx

from catalog_sync.store.client import connect_url
from catalog_sync.supplier.shared_limit import SharedRateLimiter


async def main(redis_url: str, server_url: str, rate: str, number: str) -> None:
    client = connect_url(redis_url)
    await client.ping()
    limiter = SharedRateLimiter(float(rate), client, "test", wait=10.0)
    async with httpx.AsyncClient(trust_env=False) as http:
        await limiter.acquire()  # knows the script from now on
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def send() -> None:
            await limiter.acquire()
            headers = {"X-Sent-At": repr(time.monotonic())}
            (await http.get(server_url, headers=headers)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(int(number)):
                tasks.create_task(send())
    await client.aclose()
    print("degraded" if limiter.degraded else "shared", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
