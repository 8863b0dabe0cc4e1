"""Every kind of fault, as a client sees it on the wire."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.server import RunningSimulator, running_simulator

PAGE = {"page": 2, "perPage": 20}


def always(fault: str, **parameters: Any) -> dict[str, Any]:
    return {"rules": [{"fault": fault, **parameters}]}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "Invalid perPage value"),
        (401, "access denied"),
        (403, "access denied"),
        (404, "Not Found"),
        (429, "Rate limit exceeded"),
        (500, "Internal server error"),
        (503, "Processing, please come back later"),
    ],
)
async def test_a_status_has_the_documented_body(
    sim: RunningSimulator, client: httpx.AsyncClient, status: int, text: str
) -> None:
    sim.set_scenario(always("status", status=status))
    answer = await client.get("/catalogue")
    assert (answer.status_code, answer.json()) == (status, {"message": text})
    assert answer.headers.get("retry-after") == {429: "1", 503: "5"}.get(status)


@pytest.mark.parametrize("status", [502, 504])
async def test_gateway_errors_are_html(sim: RunningSimulator, client: httpx.AsyncClient, status: int) -> None:
    sim.set_scenario(always("status", status=status))
    answer = await client.get("/organisation/groups")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.startswith("<html>")


async def test_retry_after_is_seconds_a_date_or_absent(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario(always("status", status=503, retry_after=0.5))
    assert (await client.get("/catalogue")).headers["retry-after"] == "0.5"
    sim.set_scenario(always("status", status=429, retry_after=30, retry_after_date=True))
    date = parsedate_to_datetime((await client.get("/catalogue")).headers["retry-after"])
    assert 28 <= date.timestamp() - time.time() <= 31
    sim.set_scenario(always("status", status=503, retry_after="none", message="down"))
    answer = await client.get("/catalogue")
    assert "retry-after" not in answer.headers
    assert answer.json() == {"message": "down"}


@pytest.mark.parametrize(
    ("fault", "start"),
    [("html", "<html>"), ("null_bundles", '{"bundles":null}'), ("bare_array", '[{"name":'),
     ("contradiction", '{"bundles":[],"rows":5148,"pageCount":103}')],
)  # fmt: skip
async def test_wrong_content_comes_with_200(
    sim: RunningSimulator, client: httpx.AsyncClient, fault: str, start: str
) -> None:
    sim.set_scenario(always(fault))
    answer = await client.get("/catalogue", params=PAGE)
    assert answer.status_code == 200
    assert answer.text.startswith(start)


async def test_an_empty_body_and_bare_groups(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario(always("empty"))
    empty = await client.get("/catalogue")
    assert (empty.status_code, empty.content) == (200, b"")
    sim.set_scenario(always("bare_array"))
    assert isinstance((await client.get("/organisation/groups")).json(), list)


async def test_a_truncated_body_is_shorter_than_it_says(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario(always("truncated"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await client.get("/catalogue", params=PAGE)


async def test_the_same_page_is_repeated(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    first = (await client.get("/catalogue", params={**PAGE, "page": 1})).json()
    sim.set_scenario(always("repeated_page"))
    assert (await client.get("/catalogue", params=PAGE)).json() == first


async def test_bad_rows_are_bad_in_one_field_each_and_always_the_same(
    sim: RunningSimulator, client: httpx.AsyncClient
) -> None:
    good = (await client.get("/catalogue", params={"perPage": 200})).json()["bundles"]
    sim.set_scenario(always("bad_rows", ratio=0.3))
    bad = (await client.get("/catalogue", params={"perPage": 200})).json()["bundles"]
    again = (await client.get("/catalogue", params={"perPage": 200})).json()["bundles"]
    spoilt = [row for row, right in zip(bad, good, strict=True) if row != right]
    assert bad == again
    assert 30 <= len(spoilt) <= 90
    defects = {
        "price" if row["price"] == "N/A" else "duration" if row["duration"] == 0 else row["countries"][0]["iso"]
        for row in spoilt
    }
    assert defects == {"price", "duration", "XX"}


async def test_string_prices_keep_their_digits(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    good = (await client.get("/catalogue", params=PAGE)).json()["bundles"]
    sim.set_scenario(always("string_prices"))
    strings = (await client.get("/catalogue", params=PAGE)).json()["bundles"]
    assert [row["price"] for row in strings] == [str(row["price"]) for row in good]
    assert isinstance((await client.get(f"/catalogue/bundle/{good[0]['name']}")).json()["price"], str)


async def test_the_catalogue_shrinks_while_it_is_paged(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario({"rules": [{"fault": "paging_drift", "keep": 0.5, "when": {"skip": 2}}]})
    counts = []
    for page in (1, 2, 3, 1):
        answer = (await client.get("/catalogue", params={"page": page})).json()
        counts.append((answer["rows"], answer["pageCount"], len(answer["bundles"])))
    assert counts == [(200, 4, 50), (200, 4, 50), (100, 2, 0), (100, 2, 50)]


async def test_a_hang_never_answers_and_ends_with_the_client(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario("hang")
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/catalogue", timeout=0.1)
    async with asyncio.timeout(60):
        while sim.requests.count("catalogue", 0) == 0:
            await asyncio.sleep(0.01)
    assert (await client.get("/organisation")).status_code == 200


async def test_a_reset_is_a_tcp_reset(sim: RunningSimulator) -> None:
    sim.set_scenario("resets")
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(f"GET /v2.5/catalogue HTTP/1.1\r\nHost: x\r\nX-API-Key: {sim.api_key}\r\n\r\n".encode())
    with pytest.raises(ConnectionResetError) as caught:
        await reader.read()
    assert caught.value.errno == errno.ECONNRESET
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_a_close_ends_without_an_answer(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario("closes")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await client.get("/catalogue")


async def test_a_drip_is_right_but_slow(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    good = await client.get("/catalogue", params={"perPage": 2})
    sim.set_scenario(always("drip", bytes_per_s=2 * len(good.content)))
    started = time.monotonic()
    assert (await client.get("/catalogue", params={"perPage": 2})).content == good.content
    assert time.monotonic() - started >= 0.3


async def test_latency_is_right_but_late(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    good = await client.get("/catalogue")
    sim.set_scenario(always("latency", delay_s=0.2))
    started = time.monotonic()
    assert (await client.get("/catalogue")).content == good.content
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(("fault", "wire_limit"), [("oversized", 2_100_000), ("gzip_bomb", 20_000)])
async def test_a_large_body_is_bounded_and_does_not_say_its_size(
    sim: RunningSimulator, client: httpx.AsyncClient, fault: str, wire_limit: int
) -> None:
    sim.set_scenario(always(fault, size_bytes=2_000_000))
    async with client.stream("GET", "/catalogue", timeout=5) as answer:
        body = b"".join([piece async for piece in answer.aiter_bytes()])
        assert "content-length" not in answer.headers
        assert answer.num_bytes_downloaded < wire_limit
    assert len(body) == 2_000_000
    assert json.loads(body)["bundles"] == []


async def test_a_wrong_content_encoding_cannot_be_decoded(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario(always("bad_encoding"))
    with pytest.raises(httpx.DecodingError):
        await client.get("/catalogue")


async def test_redirects_go_to_another_host_in_a_loop_or_home(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario("redirect-other-host")
    moved = await client.get("/catalogue", params=PAGE)
    assert moved.status_code == 302
    assert moved.headers["location"] == f"http://localhost:{sim.port}/v2.5/catalogue?page=2&perPage=20"
    sim.set_scenario("redirect-loop")
    with pytest.raises(httpx.TooManyRedirects):
        await client.get("/catalogue", follow_redirects=True)
    sim.set_scenario(always("redirect", to="same-host"))
    assert (await client.get("/catalogue", params=PAGE, follow_redirects=True)).json()["pageSize"] == 20
    sim.set_scenario(always("redirect", to="plain-http"))
    assert (await client.get("/catalogue")).headers["location"].startswith("http://127.0.0.1")
    sim.set_scenario(always("redirect", location="https://elsewhere.invalid/"))
    assert (await client.get("/catalogue")).headers["location"] == "https://elsewhere.invalid/"


async def test_a_key_that_follows_a_redirect_shows_in_the_log(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    await client.get(sim.base_url.replace("127.0.0.1", "localhost") + "/organisation", headers={"X-API-Key": "leak"})
    (seen,) = sim.requests
    assert (seen.host, seen.has_key, seen.status) == (f"localhost:{sim.port}", True, 403)
    assert "leak" not in repr(seen)


async def test_scenarios_are_switched_at_run_time_and_counted(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    control = sim.control_url
    for body in ('"outage"', '{"name": "outage"}', json.dumps(always("status", status=503))):
        assert (await client.post(f"{control}/scenario", content=body)).status_code == 200
        assert (await client.get("/catalogue")).status_code == 503
    assert (await client.post(f"{control}/scenario", json="calm")).json()["scenario"] == "calm"
    assert (await client.get("/catalogue")).status_code == 200
    stats = (await client.get(f"{control}/stats")).json()
    assert stats["requests"]["endpoints"] == {"catalogue": {"200": 1, "503": 3}}
    assert stats["requests"]["faults"] == {"status": 3}
    assert (await client.post(f"{control}/reset")).json()["requests"]["total"] == 0
    assert (await client.get(f"{control}/scenario")).json() == {"name": "calm", "description": "Nothing goes wrong."}
    assert "flaky" in (await client.get(f"{control}/scenarios")).json()
    assert (await client.get(f"{control}/nothing")).status_code == 404


@pytest.mark.parametrize("body", ["", "{", "[]", "1", '"nothing"', '{"rules":[{"fault":"fire"}]}', '{"rulez":[]}'])
async def test_a_scenario_that_is_not_valid_is_refused(
    sim: RunningSimulator, client: httpx.AsyncClient, body: str
) -> None:
    answer = await client.post(f"{sim.control_url}/scenario", content=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


@pytest.mark.parametrize("name", ["flaky", "rate-limited"])
async def test_a_client_that_repeats_gets_through(name: str) -> None:
    """Also within the eight failures that a breaker with a threshold of ten tolerates."""
    async with (
        running_simulator(SimulatorConfig(bundles=1000, rate=0, scenario=name)) as sim,
        httpx.AsyncClient(headers={"X-API-Key": sim.api_key}, timeout=30, trust_env=False) as http,
    ):
        total = 0
        for page in range(1, 21):
            for _ in range(5):
                try:
                    answer = await http.get(
                        f"{sim.base_url}/catalogue", params={"page": page}, timeout=30 if page != 3 else 1
                    )
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    total += len(answer.json()["bundles"])
                    break
        assert total == 1000
        totals = sim.stats()["requests"]
        failures = sum(count for status, count in totals["statuses"].items() if status == "none" or status >= "500")
        assert failures + totals["faults"].get("truncated", 0) <= 8
        assert totals["statuses"].get("429", 0) > 0 or name == "flaky"


async def test_an_outage_is_total(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    sim.set_scenario("outage")
    seen: set[int] = set()
    for _ in range(3):
        try:
            seen.add((await client.get("/organisation")).status_code)
        except httpx.TransportError:
            seen.add(0)
    assert seen == {0, 503}


async def test_catalogue_scenarios_change_what_is_sold_while_they_last(
    sim: RunningSimulator, client: httpx.AsyncClient
) -> None:
    before = (await client.get("/organisation/groups")).json()["groups"]
    sim.set_scenario("vanished-group")
    assert (await client.get("/organisation/groups")).json()["groups"] == [*before[:3], before[4]]
    sim.set_scenario("big-drop")
    assert 100 <= (await client.get("/catalogue")).json()["rows"] <= 105
    sim.set_scenario("group-denied")
    statuses = [(await client.get("/catalogue", params={"group": g["name"]})).status_code for g in before]
    assert statuses == [200, 200, 200, 403, 200]
    assert (await client.get("/organisation")).status_code == 200
    sim.set_scenario("key-revoked")
    assert (await client.get("/organisation")).status_code == 403
