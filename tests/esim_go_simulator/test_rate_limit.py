"""The supplier's documented rate limit."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.ratelimit import FixedWindowLimiter
from esim_go_simulator.server import RunningSimulator, running_simulator

NOW = datetime(2025, 11, 3, 12, 0, 0, 250_000, UTC)


def test_a_window_admits_the_rate_and_the_next_one_again() -> None:
    limiter = FixedWindowLimiter(3)
    assert [limiter.take("a", now).allowed for now in (10.0, 10.5, 10.9, 10.99)] == [True, True, True, False]
    assert [limiter.take("a", now).remaining for now in (11.0, 11.1, 11.2, 11.3)] == [2, 1, 0, 0]


def test_addresses_are_counted_apart() -> None:
    limiter = FixedWindowLimiter(1)
    assert [limiter.take(address, 5.0).allowed for address in ("a", "b", "a")] == [True, True, False]


def test_the_headers_say_what_is_left_and_until_when() -> None:
    assert FixedWindowLimiter(10).take("a", 7.25).headers(NOW) == {
        "X-Ratelimit-Limit": "10",
        "X-Ratelimit-Remaining": "9",
        "X-Ratelimit-Reset": "2025-11-03T12:00:01.000Z",
        "X-Ratelimit-Cost": "1",
    }


def test_without_a_limit_nothing_is_refused_and_no_header_sent() -> None:
    limiter = FixedWindowLimiter(0)
    assert all(limiter.take("a", 1.0).allowed for _ in range(1000))
    assert limiter.take("a", 1.0).headers(NOW) == {}


async def test_a_request_too_many_gets_429_with_all_headers() -> None:
    async with running_simulator(SimulatorConfig(bundles=10)) as sim, httpx.AsyncClient(trust_env=False) as http:
        answers = [
            await http.get(f"{sim.base_url}/organisation", headers={"X-API-Key": sim.api_key}) for _ in range(25)
        ]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert limited[0].json() == {"message": "Rate limit exceeded"}
        assert limited[0].headers["retry-after"] == "1"
        for answer in answers:
            assert answer.headers["x-ratelimit-limit"] == "10"
            assert datetime.fromisoformat(answer.headers["x-ratelimit-reset"]).tzinfo is not None
        denied = await http.get(f"{sim.base_url}/organisation")
        assert "x-ratelimit-cost" in denied.headers
        assert sim.requests.busiest_second >= 11


async def test_the_rate_changes_at_run_time(sim: RunningSimulator, client: httpx.AsyncClient) -> None:
    await client.post(f"{sim.control_url}/rate", json={"rate": 1})
    statuses = {(await client.get("/organisation")).status_code for _ in range(5)}
    assert statuses == {200, 429} or statuses == {429}
    await client.post(f"{sim.control_url}/rate", json={"rate": 0})
    assert (await client.get("/organisation")).status_code == 200
    for wrong in ({}, {"rate": -1}, {"rate": True}, [1]):
        assert (await client.post(f"{sim.control_url}/rate", json=wrong)).status_code == 400
