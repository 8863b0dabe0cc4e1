"""The API as a client sees it when nothing goes wrong."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.catalogue import GROUPS, GeneratedCatalogue
from esim_go_simulator.datafile import array_items, read_catalogue
from esim_go_simulator.selection import CatalogueView, ListQuery, envelope, page_body
from esim_go_simulator.server import RunningSimulator, running_simulator


async def pages(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        answer = (await client.get("/catalogue", params={**query, "page": page})).raise_for_status().json()
        found += answer["bundles"]
        if page >= answer["pageCount"]:
            assert answer["rows"] == len(found)
            return found
        page += 1


async def test_pages_of_each_group_sum_to_its_rows_and_the_groups_to_the_whole(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/organisation/groups")).json()["groups"]
    assert [group["name"] for group in listed] == list(GROUPS)
    everything = await pages(client, perPage=50)
    by_group = [row for group in GROUPS for row in await pages(client, perPage=7, group=group)]
    assert len(everything) == 200
    assert len({row["name"] for row in everything}) == 200
    assert sorted(row["name"] for row in by_group) == sorted(row["name"] for row in everything)


async def test_a_page_has_the_documented_shape(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/catalogue")).json()
    assert {key: answer[key] for key in ("pageCount", "rows", "pageSize")} == {
        "pageCount": 4,
        "rows": 200,
        "pageSize": 50,
    }
    assert set(answer["bundles"][0]) == {
        "name", "description", "groups", "countries", "dataAmount", "duration", "speed", "autostart", "unlimited",
        "price", "billingType",
    }  # fmt: skip


async def test_a_page_beyond_the_last_is_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/catalogue", params={"page": 5})).json()["bundles"] == []


async def test_filters_select_by_base_country_region_and_description(client: httpx.AsyncClient) -> None:
    async with running_simulator(SimulatorConfig(rate=0)) as full:
        url = f"{full.base_url}/catalogue"
        portugal = (await client.get(url, params={"countries": "PT,es", "perPage": 1000})).json()["bundles"]
        assert portugal
        assert all({c["iso"] for c in row["countries"]} & {"PT", "ES"} for row in portugal)
        oceania = (await client.get(url, params={"region": "oceania", "perPage": 1000})).json()["bundles"]
        assert all("Oceania" in {c["region"] for c in row["countries"]} for row in oceania)
        lite = (await client.get(url, params={"description": "*, Unlimited, 7 Days, Port*"})).json()["bundles"]
        assert {row["name"] for row in lite} <= {f"esim_{kind}_7D_PT_V2" for kind in ("UL", "ULE", "ULP")}
        assert lite
        assert (await client.get(url, params={"group": "standard - fixed"})).json()["rows"] == 0


async def test_rows_are_ordered_by_a_column(client: httpx.AsyncClient) -> None:
    query: dict[str, str | int] = {"orderBy": "price", "direction": "desc", "perPage": 200}
    prices = [float(row["price"]) for row in (await client.get("/catalogue", params=query)).json()["bundles"]]
    assert prices == sorted(prices, reverse=True)


async def test_a_bundle_is_found_by_its_exact_name(client: httpx.AsyncClient) -> None:
    row = (await client.get("/catalogue")).json()["bundles"][0]
    assert (await client.get(f"/catalogue/bundle/{row['name']}")).json() == row
    missing = await client.get(f"/catalogue/bundle/{row['name'].upper()}")
    assert (missing.status_code, missing.json()) == (404, {"message": "Not Found"})


async def test_the_small_endpoints_answer(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    assert (await client.get("/organisation")).json()["organisations"][0]["currency"] == "USD"
    networks = (await client.get("/networks", params={"isos": "PT"})).json()["countryNetworks"]
    assert [country["name"] for country in networks] == ["PT"]
    assert (await client.get("/networks")).status_code == 400
    old = sim.base_url.replace("v2.5", "v2.4")
    assert (await client.get(f"{old}/organisation")).status_code == 200
    assert (await client.get(f"{old.replace('v2.4', 'v1.0')}/organisation")).status_code == 404


async def test_a_wrong_key_and_a_wrong_method_are_refused(client: httpx.AsyncClient) -> None:
    for key in (b"", b"wrong", "wrong-ü".encode(), "wrong-ü".encode("latin-1"), b"\xff\xfe"):
        denied = await client.get("/organisation", headers={b"X-API-Key": key})
        assert (denied.status_code, denied.json()) == (403, {"message": "access denied"})
    assert (await client.post("/catalogue")).status_code == 405


@pytest.mark.parametrize(
    "query",
    [{"page": "0"}, {"page": "-1"}, {"page": "x"}, {"perPage": "0"}, {"perPage": "1001"}, {"page": "9" * 20},
     {"orderBy": "colour"}, {"direction": "up"}],
)  # fmt: skip
async def test_wrong_parameters_are_named(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/catalogue", params=query)
    assert (answer.status_code, answer.json()) == (400, {"message": f"Invalid {next(iter(query))} value"})


async def test_the_largest_page_and_the_answer_to_a_larger_one_can_be_set(client: httpx.AsyncClient) -> None:
    config = SimulatorConfig(bundles=100, rate=0, max_per_page=50, max_per_page_status=401)
    async with running_simulator(config) as strict:
        refused = await client.get(f"{strict.base_url}/catalogue", params={"perPage": 51})
        assert (refused.status_code, refused.json()) == (401, {"message": "access denied"})
        assert (await client.get(f"{strict.base_url}/catalogue", params={"perPage": 50})).status_code == 200


def rows(catalogue: GeneratedCatalogue) -> list[bytes]:
    return [catalogue.row(index) for index in range(len(catalogue))]


def test_the_default_catalogue_is_of_the_suppliers_size_and_the_same_every_time() -> None:
    first = rows(GeneratedCatalogue())
    assert first == rows(GeneratedCatalogue())
    assert first != rows(GeneratedCatalogue(seed=1))
    parsed = [json.loads(row) for row in first]
    assert len({row["name"] for row in parsed}) == len(parsed) == 5_200
    assert len({country["iso"] for row in parsed for country in row["countries"]}) == 198
    sizes = {group: sum(row["groups"] == [group] for row in parsed) for group in GROUPS}
    assert all(1_000 < sizes[group] < 1_600 for group in GROUPS[:4])
    assert 0 < sizes[GROUPS[4]] < 100
    assert any(isinstance(row["price"], str) for row in parsed)
    assert any(row["speed"] is None for row in parsed)
    assert all(0 < float(row["price"]) < 500 for row in parsed)


@pytest.mark.parametrize("size", [0, 1, 5, 300, 6_500, 20_000])
def test_a_catalogue_of_any_size_has_that_many_names_and_finds_each(size: int) -> None:
    catalogue = GeneratedCatalogue(size)
    found = [json.loads(row) for row in rows(catalogue)]
    assert len({row["name"] for row in found}) == size
    assert all(catalogue.find(row["name"]) == index for index, row in enumerate(found))
    assert len({row["groups"][0] for row in found}) == min(size, 5)
    assert catalogue.find("esim_1GB_7D_PT_V999999") is None
    assert catalogue.find("nothing") is None


def test_half_a_million_bundles_cost_little() -> None:
    view = CatalogueView(GeneratedCatalogue(500_000))
    counts = [len(view.select(ListQuery(group=group))) for group in GROUPS]
    assert sum(counts) == len(view) == 500_000
    last, page_count, count = page_body(view, ListQuery(page=10_000, per_page=50))
    assert (len(last), page_count, count) == (50, 10_000, 500_000)


def test_a_page_costs_less_than_a_millisecond() -> None:
    view = CatalogueView(GeneratedCatalogue())
    queries = [ListQuery(page=page) for page in range(1, 105)]

    def serve() -> float:
        started = time.process_time()
        for query in queries:
            fetched, page_count, count = page_body(view, query)
            envelope(fetched, page_count, count, 50)
        return (time.process_time() - started) / len(queries)

    serve()
    assert min(serve() for _ in range(3)) < 0.001


ODD_ROWS = [
    '{ "name":"esim_a","price":6.90 , "duration":7,"groups":["Größe"],"countries":[{"iso":"US-HI"}]}',
    '{"name":"esim b/c","price":"3.510","duration":1e1,"extra":[1.0,{"bundles":[]}]}',
    "12.50",
]


@pytest.mark.parametrize("text", ["[{}]", ' {{"rows": 3.0, "x": {{"bundles": [1]}}, "bundles": [{}] , "y": 1}}'])
async def test_a_data_file_is_served_byte_by_byte(tmp_path: Path, client: httpx.AsyncClient, text: str) -> None:
    file = tmp_path / "bundles.json"
    file.write_text(text.format(" ,\n ".join(ODD_ROWS)), "utf-8")
    async with running_simulator(SimulatorConfig(data=file, rate=0)) as served:
        answer = await client.get(f"{served.base_url}/catalogue")
        assert answer.text == '{"bundles":[' + ",".join(ODD_ROWS) + '],"pageCount":1,"rows":3,"pageSize":50}'
        assert (await client.get(f"{served.base_url}/catalogue", params={"group": "Größe"})).json()["rows"] == 1
        assert (await client.get(f"{served.base_url}/catalogue/bundle/esim%20b%2Fc")).text == ODD_ROWS[1]
        assert served.stats()["groups"] == ["Größe"]


@pytest.mark.parametrize("text", ["", "{}", '{"bundles":1}', "[1,]", "[1 2]", "[1", '{"a" 1}', "nonsense"])
def test_a_file_that_is_not_a_catalogue_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.json is not a catalogue"):
        read_catalogue(file)
    assert list(array_items("[ ]", "bundles")) == []


async def test_the_catalogue_changes_at_run_time(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    gone = (await client.get("/catalogue")).json()["bundles"][0]["name"]
    control = sim.control_url
    change = {"withdraw": [gone], "drop_groups": [-1], "add": [{"name": "new", "groups": ["Fresh"], "price": 1}]}
    stats = (await client.post(f"{control}/catalogue", json=change)).json()
    assert stats["groups"] == [*GROUPS[:4], "Fresh"]
    assert (await client.get(f"/catalogue/bundle/{gone}")).status_code == 404
    assert (await client.get("/catalogue/bundle/new")).json() == {"name": "new", "groups": ["Fresh"], "price": 1}
    assert (await client.get("/catalogue", params={"group": GROUPS[-1]})).json()["rows"] == 0
    restored = (await client.post(f"{control}/catalogue", json={"restore": True, "withdraw_ratio": 0.5})).json()
    assert 100 <= restored["bundles"] <= 105
    assert (await client.post(f"{control}/catalogue", json={"colour": 1})).status_code == 400


async def test_concurrent_requests_are_all_counted(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(client.get("/catalogue", params={"page": page}) for page in (1, 2, 3, 4)))
    assert sim.requests.count("catalogue", 200) == len(sim.requests) == 4
    assert {seen.page for seen in sim.requests} == {1, 2, 3, 4}
    assert (await client.get(f"{sim.control_url}/stats")).json()["requests"]["max_requests_in_1s"] == 4
    assert len((await client.get(f"{sim.control_url}/requests?limit=2")).json()["requests"]) == 2
