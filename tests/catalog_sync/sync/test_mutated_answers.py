"""With any mutated answer of the supplier a sync ends with a report, and nothing wrong is published.

``MUTATED_ANSWERS`` is the number of mutations that are tried, for a longer run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog_sync.domain.models import Bundle, Outcome, SyncReport
from catalog_sync.settings.settings import Settings
from catalog_sync.store import CatalogStore, Snapshot, open_store
from catalog_sync.supplier.esim_go.client import EsimGoClient
from catalog_sync.supplier.esim_go.policy import supplier_policy
from catalog_sync.sync.service import SyncService
from otel_resilience import RetryConfig
from support.published import quick_policy
from support.redis_server import RedisServer
from support.settings import make_settings

TRIED = int(os.environ.get("MUTATED_ANSWERS", "40"))
GROUPS = ("Standard Fixed", "Other")
PER_PAGE = 3


def row(name: str, group: str) -> dict[str, Any]:
    return {
        "name": name, "description": f"eSIM {name}", "groups": [group], "duration": 7, "dataAmount": 1000,
        "unlimited": False, "price": 6.9, "countries": [{"iso": "PT", "region": "Europe"}], "speed": ["4G"],
    }  # fmt: skip


ROWS = {group: [row(f"{group[0].lower()}-{number}", group) for number in range(5)] for group in GROUPS}
NAMES = {each["name"] for rows in ROWS.values() for each in rows}

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**400,
        1e308,
        "",
        "1_000",
        "٣",
        "../x",
        "..",
        "\ud83d",
        "\x00",
        "x" * 5000,
        [],
        [[]],
        {},
        "b-9",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"<html>",
        b"\xff\xfe",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"bundles": null}',
        b"NaN",
    ]
)


def answer(request: httpx.Request) -> tuple[str, Any]:
    """An answer of a healthy supplier, with its path."""
    path = request.url.path.removeprefix("/v2.5")
    if path == "/organisation/groups":
        return path, {"groups": [{"name": group} for group in GROUPS]}
    if path == "/organisation":
        return path, {"name": "us"}
    group, number = request.url.params["group"], int(request.url.params["page"])
    size = int(request.url.params["perPage"])
    rows = ROWS.get(group, [])
    shown = rows[(number - 1) * size : number * size]
    envelope = {"bundles": shown, "rows": len(rows), "pageCount": -(-len(rows) // size), "pageSize": size}
    return f"{group} {number}", json.loads(json.dumps(envelope))


def healthy(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=_Raw(json.dumps(answer(request)[1]).encode()))


def mutated(data: st.DataObject) -> Callable[[httpx.Request], httpx.Response]:
    """A supplier that damages one of its answers every time."""
    where = data.draw(st.sampled_from(["/organisation/groups", *(f"{g} {n}" for g in GROUPS for n in (1, 2))]), "where")
    how = data.draw(st.sampled_from(["json", "json", "json", "json", "body", "cut", "status", "header"]), "how")
    body, status = data.draw(BODIES, "body"), data.draw(st.sampled_from([201, 204, 302, 400, 404, 418, 500]), "status")
    odd, lacks = data.draw(ODD, "odd"), data.draw(st.booleans(), "lacks")
    place = data.draw(st.integers(0, 10_000), "place")

    def respond(request: httpx.Request) -> httpx.Response:
        here, document = answer(request)
        if here != where:
            return healthy(request)
        if how == "json":
            places = list(_places(document))
            container, key = places[place % len(places)]
            if lacks:
                del container[key]
            else:
                container[key] = odd
        text = json.dumps(document).encode()
        if how == "cut":
            text = text[: place % len(text)]
        headers = {"content-type": "application/json"}
        if how == "header":
            headers |= {"content-encoding": "gzip" if lacks else "br", "retry-after": "soon"}
            headers["x-ratelimit-reset"] = "1_0"
        return httpx.Response(
            status if how == "status" else 200, headers=headers, stream=_Raw(body if how == "body" else text)
        )

    return respond


class _Raw(httpx.AsyncByteStream):
    """A body as it is sent, whatever the headers say of it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> Any:
        yield self._body


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    for place in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, place
        if isinstance(document[place], dict | list):
            yield from _places(document[place])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("mutated")) as running:
        yield running


@settings(
    max_examples=TRIED,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.data())
@pytest.mark.fault("F16", "S13")
def test_no_mutated_answer_breaks_a_sync_or_publishes_a_wrong_catalogue(
    server: RedisServer, tmp_path: Path, data: st.DataObject
) -> None:
    server.command("FLUSHALL")
    asyncio.run(_sync_twice(server.url, tmp_path, mutated(data)))


async def _sync_twice(url: str, state_dir: Path, spoilt: Callable[[httpx.Request], httpx.Response]) -> None:
    config = make_settings(
        "http://supplier.test/v2.5", state_dir, redis_url=url, page_size=PER_PAGE, retry=RetryConfig(max_attempts=1)
    )
    async with open_store(config, quick_policy(30)) as store:
        first = await _sync(config, store, healthy)
        assert first.outcome is Outcome.COMPLETE, first.error
        before = {bundle.name: bundle async for bundle in store.iter_bundles(str(first.version))}
        assert before.keys() == NAMES
        report = await _sync(config, store, spoilt)
        json.dumps(report.to_json(), ensure_ascii=False).encode()
        error = report.error
        assert error is None or error.type != "_OTHER", error
        after = {bundle.name: bundle async for bundle in store.iter_bundles(str(report.version))}
    if report.outcome is Outcome.FAILED:
        assert (error is not None, report.version) == (True, first.version)
    kept = [name for name, bundle in after.items() if _same(bundle, before.get(name))]
    assert len(kept) >= len(NAMES) - 1, "one answer was spoilt in one place: one row may have changed, or was set aside"
    assert len(after) <= len(NAMES)
    for bundle in after.values():
        assert Bundle.from_json_text(json.dumps(bundle.to_json()).encode()) == bundle


def _same(bundle: Bundle, before: Bundle | None) -> bool:
    """Whether bundles are equal apart from the mark of kept ones."""
    import dataclasses

    return before is not None and dataclasses.replace(bundle, stale=False) == before


async def _sync(
    config: Settings, store: CatalogStore, respond: Callable[[httpx.Request], httpx.Response]
) -> SyncReport:
    supplier = EsimGoClient(config, supplier_policy(config), httpx.MockTransport(respond))
    async with contextlib.aclosing(supplier):
        return await SyncService(config, supplier, store, Snapshot(config.state_dir)).run()
