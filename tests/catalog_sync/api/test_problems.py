"""Errors of every kind are problem documents and reveal no internals."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.api.guards import MAX_QUERY
from catalog_sync.domain.errors import CacheConnectionError
from support.api_world import AUTHORIZED, ApiWorld, api_world


def check(answer: Any, status: int, kind: str) -> None:
    document = answer.json()
    assert answer.status_code == document["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert document["type"] == f"urn:catalog-sync:problem:{kind}"
    assert document["title"]
    assert document["detail"]
    assert document["correlation_id"] == answer.headers["x-correlation-id"]


@pytest.mark.parametrize("path", ["/nothing", "/bundles/", "/syncs/1/2", "/static/page.html", "/static/..%2Fapp.py"])
async def test_not_found(world: ApiWorld, path: str) -> None:
    answer = await world.http.get(path)
    check(answer, 404, "bundle_not_found" if path == "/bundles/" else "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/bundles", "GET, HEAD"),
        ("PUT", "/syncs", "GET, HEAD, POST"),
        ("PATCH", "/syncs/1", "DELETE, GET, HEAD"),
        ("OPTIONS", "/bundles", "GET, HEAD"),
        ("BREW", "/bundles", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_offered(world: ApiWorld, method: str, path: str, allowed: str) -> None:
    answer = await world.http.request(method, path, headers=AUTHORIZED)
    check(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/bundles?limit=-1", "limit"),
        ("/bundles?limit=1.5", "limit"),
        ("/bundles?limit=1e3", "limit"),
        ("/bundles?limit=1.0", "limit"),
        ("/bundles?limit=1_0", "limit"),
        ("/bundles?limit=%2B1", "limit"),
        ("/bundles?limit=%201", "limit"),
        ("/bundles?limit=", "limit"),
        ("/bundles?limit=%D9%A3", "limit"),
        ("/bundles?limit=9999999999", "limit"),
        ("/bundles?min-days=3", "min-days"),
        ("/bundles?limit=1&limit=2", "limit"),
        ("/bundles?country=", "country"),
        ("/bundles?text=%20", "text"),
        (f"/bundles?text={'x' * 201}", "text"),
        ("/bundles/x?limit=1", "limit"),
        ("/countries?kind=x", "kind"),
        ("/syncs?limit=0", "limit"),
        ("/syncs?limit=201", "limit"),
        ("/syncs/1?x=1", "x"),
        ("/traces?limit=no", "limit"),
        ("/health?x=1", "x"),
    ],
)
async def test_a_wrong_parameter_is_named(world: ApiWorld, path: str, parameter: str) -> None:
    answer = await world.http.get(path)
    check(answer, 400, "invalid_parameters")
    assert answer.json()["errors"][0]["parameter"] == parameter


async def test_every_unknown_or_repeated_parameter_is_named(world: ApiWorld) -> None:
    answer = await world.http.get("/bundles?limit=1&limit=1&x=1&Country=PT")
    check(answer, 400, "invalid_parameters")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["limit", "x", "Country"]
    assert "country" in answer.json()["errors"][1]["detail"], "it says what is offered"


@pytest.mark.parametrize("path", ["/bundles?country=PT", "/health", "/syncs", "/", "/openapi.json"])
async def test_head_is_get_without_a_body(world: ApiWorld, path: str) -> None:
    whole, head = await world.http.get(path), await world.http.head(path)
    assert head.status_code == whole.status_code == 200
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("query", ["text=%FF", "&".join(f"a{n}=1" for n in range(40))])
async def test_a_malformed_query(world: ApiWorld, query: str) -> None:
    check(await world.http.get(f"/bundles?{query}"), 400, "invalid_parameters")


async def test_a_query_has_a_largest_length(world: ApiWorld) -> None:
    check(await world.http.get(f"/bundles?text={'x' * MAX_QUERY}"), 414, "uri_too_long")


async def test_a_defect_reveals_no_internals_and_is_logged_with_its_id(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("password=hunter2hunter2")

    monkeypatch.setattr(world.live, "view", broken)
    with caplog.at_level(logging.ERROR):
        answer = await world.http.get("/bundles")
    check(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    assert "Zero" not in answer.text
    record = next(record for record in caplog.records if record.name == "catalog_sync.api.context")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_unreachable_records_are_a_503_with_retry_after(world: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise CacheConnectionError("Redis does not answer (read job: refused)", retry_after=4.2)

    monkeypatch.setattr(world.jobs, "latest", away)
    answer = await world.http.get("/syncs")
    check(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error_type"] == "connection_error"


async def test_an_outage_is_not_logged_by_every_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with api_world(tmp_path, catalogue=False) as world:
        with caplog.at_level(logging.WARNING, "catalog_sync.api.context"):
            for _ in range(20):
                check(await world.http.get("/bundles"), 503, "catalog_unavailable")
        assert len([record for record in caplog.records if record.name == "catalog_sync.api.context"]) == 1


async def test_more_requests_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_world(tmp_path, CATALOG_API_MAX_CONCURRENCY="2") as world:
        go = asyncio.Event()

        async def slow(**_: object) -> list[object]:
            await go.wait()
            return []

        monkeypatch.setattr(world.jobs, "latest", slow)
        waiting = [asyncio.create_task(world.http.get("/syncs")) for _ in range(2)]
        while world.api.gate.active < 2:
            await asyncio.sleep(0)
        refused = await world.http.get("/bundles")
        check(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await world.http.get("/health/live")).status_code == 200
        go.set()
        assert [(await task).status_code for task in waiting] == [200, 200]
        assert (await world.http.get("/bundles")).status_code == 200
