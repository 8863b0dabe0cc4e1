"""The endpoint ``/bundles`` written bare in Starlette: the same catalogue in memory and server, nothing around them.

No parameter is checked beyond its type, nothing is limited, traced, measured or kept. ``python -m benchmarks.bare_api
REDIS_URL`` prints where it listens.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import tempfile
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog_sync.api.catalogue import InMemoryCatalogue
from catalog_sync.api.server import listening
from catalog_sync.settings.settings import Settings
from catalog_sync.store.backend import open_store
from catalog_sync.store.reader import Query


async def read_copy(redis_url: str, folder: str) -> InMemoryCatalogue:
    """The published catalogue."""
    settings = Settings.from_env({"REDIS_URL": redis_url, "CATALOG_STATE_DIR": folder})
    async with open_store(settings) as store:
        meta = await store.current()
        if meta is None:
            raise SystemExit("nothing is published")
        return InMemoryCatalogue(meta, [bundle async for bundle in store.iter_bundles(meta.version)])


def application(copy: InMemoryCatalogue) -> Starlette:
    """The endpoints; below ``/constant`` an answer that was made in advance."""

    def query(request: Request) -> Query:
        given = request.query_params
        numbers: dict[str, Any] = {
            name: int(given[name]) for name in ("min_days", "max_days", "limit", "offset") if name in given
        }
        return Query(country=given.get("country"), text=given.get("text"), **numbers)

    def found(query: Query) -> dict[str, Any]:
        places = copy.select(query)
        page = [copy.bundle(place).to_json() for place in query.page(places)]
        said = {"source": "fresh", "as_of": copy.meta.as_of, "stale": False, "version": copy.meta.version}
        return {**said, "total": len(places), "bundles": page}

    async def bundles(request: Request) -> JSONResponse:
        return JSONResponse(found(query(request)))

    made = JSONResponse(found(Query(country="PT"))).body

    async def constant(request: Request) -> Response:
        return Response(made, media_type="application/json")

    async def groups(request: Request) -> JSONResponse:
        counts = copy.counts("groups", copy.select(query(request)))
        rows = [
            {**meta.to_json(), "name": name, "bundles": counts.get(name, 0)} for name, meta in copy.meta.groups.items()
        ]
        return JSONResponse({"version": copy.meta.version, "total": len(rows), "groups": rows})

    return Starlette(
        routes=[Route("/bundles", bundles), Route("/groups", groups), Route("/constant/bundles", constant)]
    )


def main() -> None:
    """Serves until it is ended."""
    with tempfile.TemporaryDirectory() as folder:
        copy = asyncio.run(read_copy(sys.argv[1], str(pathlib.Path(folder))))
    with listening("127.0.0.1", 0) as (listener, url):
        print(json.dumps({"base_url": url}), flush=True)
        config = uvicorn.Config(application(copy), http="httptools", ws="none", lifespan="off", log_config=None)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
