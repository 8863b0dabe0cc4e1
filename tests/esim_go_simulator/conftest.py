from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.server import RunningSimulator, running_simulator


@pytest.fixture
async def sim() -> AsyncIterator[RunningSimulator]:
    """Two hundred bundles and no rate limit."""
    async with running_simulator(SimulatorConfig(bundles=200, rate=0)) as simulator:
        yield simulator


@pytest.fixture
async def client(sim: RunningSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ``sim`` with its key, that waits for an answer as long as a busy machine may need."""
    async with httpx.AsyncClient(
        base_url=sim.base_url, headers={"X-API-Key": sim.api_key}, timeout=30, trust_env=False, verify=False
    ) as http:
        yield http
