"""Reads: the same answers as the command line, their source, and no request that waits for the store."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.api import catalogue
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import GroupMeta
from support.api_world import CATALOGUE, ApiWorld, api_world
from support.published import AS_OF, lines_of, make_bundle, make_meta

PT = ["esim_1GB_7D_PT_V2", "esim_3GB_30D_PT_V2"]


def names(document: dict[str, Any]) -> list[str]:
    return [bundle["name"] for bundle in document["bundles"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["esim/odd name?_V2", *PT, "esim_ULP_7D_RNOR_V2"]),
        ("country=pt", PT),
        ("group=standard+unlimited-plus", ["esim_ULP_7D_RNOR_V2"]),
        ("region=north+america", ["esim/odd name?_V2"]),
        ("min_days=7&max_days=7", ["esim_1GB_7D_PT_V2", "esim_ULP_7D_RNOR_V2"]),
        ("text=unlimited+NORDICS", ["esim_ULP_7D_RNOR_V2"]),
        ("limit=1&offset=1", ["esim_1GB_7D_PT_V2"]),
        ("country=XX", []),
        ("min_days=8&max_days=7", []),
    ],
)
async def test_parameters_are_the_options_of_search(world: ApiWorld, query: str, expected: list[str]) -> None:
    answer = await world.http.get(f"/bundles?{query}")
    assert answer.status_code == 200
    assert names(answer.json()) == expected


async def test_the_answer_is_the_object_of_search(world: ApiWorld) -> None:
    answer = await world.http.get("/bundles?country=PT&limit=1")
    assert answer.json() == {
        "source": "fresh",
        "as_of": AS_OF,
        "stale": False,
        "version": "v1",
        "total": 2,
        "bundles": [CATALOGUE[0].to_json()],
    }


async def test_one_bundle_by_its_name_whatever_it_holds(world: ApiWorld) -> None:
    answer = await world.http.get("/bundles/esim%2Fodd%20name%3F_V2")
    assert answer.status_code == 200
    assert answer.json()["bundle"]["name"] == "esim/odd name?_V2"
    missing = await world.http.get("/bundles/esim_1gb_7d_pt_v2")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:catalog-sync:problem:bundle_not_found")


async def test_countries_and_groups_count_the_bundles_that_match(world: ApiWorld) -> None:
    countries = (await world.http.get("/countries")).json()
    assert countries["total"] == 4
    assert countries["countries"][1] == {"code": "PT", "bundles": 2, "regions": ["Europe"]}
    filtered = (await world.http.get("/countries?text=nordics&limit=1&offset=1")).json()
    assert (filtered["total"], filtered["countries"]) == (2, [{"code": "SE", "bundles": 1, "regions": ["Europe"]}])
    groups = (await world.http.get("/groups?country=PT")).json()
    assert {group["name"]: group["bundles"] for group in groups["groups"]} == {
        "Standard - Unlimited Plus": 0,
        "Standard Fixed": 2,
    }
    assert groups["groups"][0] | {"bundles": 0} == {
        "name": "Standard - Unlimited Plus",
        "bundles": 0,
        "as_of": AS_OF,
        "stale": False,
    }


@pytest.mark.parametrize("path", ["/bundles", "/bundles/esim_1GB_7D_PT_V2", "/countries", "/groups"])
async def test_headers_say_the_same_as_the_body(world: ApiWorld, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.headers["etag"] == '"v1"'
    assert answer.headers["cache-control"] == "public, max-age=5"
    assert answer.headers["x-catalog-source"] == answer.json()["source"] == "fresh"
    assert answer.headers["x-catalog-as-of"] == answer.json()["as_of"] == AS_OF
    assert answer.headers["x-catalog-stale"] == "false"
    assert answer.headers["x-catalog-version"] == "v1"
    assert "warning" not in answer.headers


@pytest.mark.parametrize("given", ['"v1"', 'W/"v1"', '"v0", "v1"', "*"])
async def test_a_client_with_the_current_version_gets_304(world: ApiWorld, given: str) -> None:
    answer = await world.http.get("/bundles", headers={"If-None-Match": given})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"v1"')
    world.store.publish("v2")
    await world.refresh()
    changed = await world.http.get("/bundles", headers={"If-None-Match": '"v1"'})
    assert (changed.status_code, changed.json()["version"]) == (200, "v2")


async def test_a_published_version_is_served_once_the_last_refresh_is_a_second_ago(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "WAIT", 60.0)  # for the look that the request starts, which a busy machine holds up
    world.store.publish("v2", CATALOGUE[:1])
    assert (await world.http.get("/bundles")).json()["version"] == "v1"
    world.clock.passed += 1.1
    assert (await world.http.get("/bundles")).json()["version"] == "v2"


async def test_many_requests_share_one_refresh(world: ApiWorld) -> None:
    world.clock.passed += 1.1
    reads = world.store.reads
    await asyncio.gather(*(world.http.get("/bundles") for _ in range(20)))
    assert world.store.reads == reads + 1


async def test_a_hanging_store_delays_no_read(world: ApiWorld) -> None:
    await world.http.get("/bundles")
    world.store.hanging = True
    world.clock.passed += 1.1
    took = []
    for number in range(20):
        began = time.perf_counter()
        answer = await world.http.get(f"/bundles?limit={number}")
        took.append(time.perf_counter() - began)
        assert answer.status_code == 200
    # The first one starts the look and gives it its bounded time; the others find it under way.
    assert max(took) < 10.0
    assert sorted(took)[10] < 0.25


async def test_without_a_refresh_for_three_seconds_the_copy_is_stale(world: ApiWorld) -> None:
    world.store.hanging = True
    world.clock.passed += 2.9
    assert (await world.http.get("/bundles")).json()["source"] == "fresh"
    world.clock.passed += 0.2
    late = await world.http.get("/bundles")
    assert (late.json()["source"], late.json()["stale"]) == ("stale", True)
    assert late.headers["etag"] == '"v1-stale"'
    assert late.headers["cache-control"] == "no-cache"


async def test_a_failing_store_makes_reads_stale_until_it_answers(world: ApiWorld) -> None:
    world.store.failing = True
    await world.refresh()
    assert (await world.http.get("/bundles")).json()["source"] == "stale"
    world.store.failing = False
    await world.refresh()
    assert (await world.http.get("/bundles")).json()["source"] == "fresh"


async def test_a_store_that_was_emptied_leaves_a_stale_copy(world: ApiWorld) -> None:
    world.store.pointer = None
    await world.refresh()
    answer = (await world.http.get("/bundles")).json()
    assert (answer["source"], answer["total"]) == ("stale", 4)


async def test_old_data_is_stale_though_nothing_else_changes(world: ApiWorld) -> None:
    world.clock.passed += 86_400 - 61
    await world.refresh()
    assert (await world.http.get("/bundles")).json()["source"] == "fresh"
    world.clock.passed += 2
    assert (await world.http.get("/bundles")).json()["source"] == "stale"


async def test_a_group_that_was_kept_marks_its_bundles_alone(world: ApiWorld) -> None:
    old = "2026-11-20T00:00:00Z"
    groups = {
        "Standard Fixed": GroupMeta(3, AS_OF, stale=False),
        "Standard - Unlimited Plus": GroupMeta(1, old, stale=True),
    }
    kept = [*CATALOGUE[:2], dataclasses.replace(CATALOGUE[2], stale=True), CATALOGUE[3]]
    world.store.publish("v2", kept, groups=groups)
    await world.refresh()
    whole = (await world.http.get("/bundles")).json()
    assert (whole["source"], whole["as_of"]) == ("stale", old)
    fixed = (await world.http.get("/bundles?group=Standard+Fixed")).json()
    assert (fixed["source"], fixed["as_of"]) == ("fresh", AS_OF)
    one = (await world.http.get("/bundles/esim_ULP_7D_RNOR_V2")).json()
    assert (one["stale"], one["bundle"]["stale"]) == (True, True)


async def test_the_snapshot_is_served_where_the_store_never_answered(tmp_path: Path) -> None:
    async with api_world(tmp_path / "state", catalogue=False) as world:
        nothing = await world.http.get("/bundles")
        assert (nothing.status_code, nothing.headers["retry-after"]) == (503, "1")
        assert nothing.json()["type"] == "urn:catalog-sync:problem:catalog_unavailable"
        index = CatalogueIndex()
        stored = [index.add(bundle) for bundle in CATALOGUE]
        await world.snapshot.write_version(make_meta("v7", index), lines_of(stored))
        world.store.failing = True
        await world.refresh()
        answer = await world.http.get("/bundles/esim_1GB_7D_PT_V2")
        assert (answer.json()["source"], answer.json()["version"]) == ("snapshot", "v7")
        assert answer.headers["etag"] == '"v7-snapshot"'
        world.store.failing = False
        world.store.publish("v8")
        await world.refresh()
        assert (await world.http.get("/bundles")).json()["version"] == "v8"


async def test_a_version_that_goes_away_while_it_is_read_is_replaced_by_its_successor(world: ApiWorld) -> None:
    world.store.publish("v2")
    meta = world.store.meta

    async def gone_once(version: str) -> Any:
        if version == "v2":
            world.store.publish("v3")
            del world.store.versions["v2"]
        return await meta(version)

    world.store.meta = gone_once  # type: ignore[method-assign]
    await world.refresh()
    assert (await world.http.get("/bundles")).json()["version"] == "v3"


async def test_no_answer_mixes_two_versions(world: ApiWorld) -> None:
    """Readers while versions change: every answer is whole and of one version."""
    stop = asyncio.Event()

    answers = {"/bundles?limit=0": 0, "/bundles?limit=0&text=esim": 0}

    async def publish() -> None:
        for number in range(2, 200):
            if number > 13 and min(answers.values()) > 2:
                break
            version = f"v{number}"
            rows = [make_bundle(f"esim_{index:03}", description=version) for index in range(number)]
            world.store.publish(version, rows)
            await world.refresh()
        stop.set()

    async def read(path: str) -> None:
        while not stop.is_set():
            answer = (await world.http.get(path)).json()
            if answer["version"] != "v1":
                assert answer["total"] == int(answer["version"][1:])
                assert {bundle["description"] for bundle in answer["bundles"]} == {answer["version"]}
            answers[path] += 1
            await asyncio.sleep(0)

    await asyncio.gather(publish(), *map(read, answers))
    assert min(answers.values()) > 2
