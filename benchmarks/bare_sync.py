"""The minimum cost of a full sync: the same pages fetched by httpx and parsed, nothing checked, kept or reported.

``python benchmarks/bare_sync.py BASE_URL KEY`` prints ``{"bundles": ..., "requests": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx

PER_PAGE = 50
CONNECTIONS = 16  # as the sync has


async def fetch_all(base_url: str, key: str) -> dict[str, int]:
    """Every page of every group, the first of each before the others."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(
        headers={"X-API-Key": key}, limits=limits, timeout=60, verify=False, trust_env=False
    ) as client:

        async def get(path: str, **parameters: str) -> Any:
            answer = await client.get(base_url + path, params=parameters)
            answer.raise_for_status()
            return json.loads(answer.content)

        async def group(name: str) -> list[Any]:
            first = await page(name, 1)
            return [first, *await asyncio.gather(*(page(name, number) for number in range(2, first["pageCount"] + 1)))]

        async def page(name: str, number: int) -> Any:
            return await get("/catalogue", group=name, page=str(number), perPage=str(PER_PAGE))

        named = await get("/organisation/groups")
        groups = await asyncio.gather(*(group(entry["name"]) for entry in named["groups"]))
    names = {bundle["name"] for pages in groups for page in pages for bundle in page["bundles"]}
    return {"bundles": len(names), "requests": 1 + sum(map(len, groups))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(fetch_all(*sys.argv[1:]))) + "\n")
