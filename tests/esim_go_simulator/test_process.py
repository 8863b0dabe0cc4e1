"""The simulator in its own process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.server import SimulatorProcess, running_simulator
from support.timing import TRIES


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "esim_go_simulator", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_within_a_second_while_a_connection_hangs(number: signal.Signals) -> None:
    for _ in range(TRIES):  # load only ever adds
        seconds = await stops_after(number)
        if seconds < 5:
            return
    pytest.fail(f"it took {seconds:.1f} s")


async def stops_after(number: signal.Signals) -> float:
    """Seconds from the signal to the end, which comes before the client of the connection gives up."""
    process = await spawn("--bundles", "10", "--scenario", "hang")
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert ready["ready"] is True
    assert ready["bundles"] == 10
    async with httpx.AsyncClient(headers={"X-API-Key": ready["api_key"]}, trust_env=False, timeout=120) as http:
        hanging = asyncio.create_task(http.get(f"{ready['base_url']}/catalogue"))
        async with asyncio.timeout(60):
            while (await http.get(f"{ready['control_url']}/stats")).json()["requests"]["total"] == 0:
                await asyncio.sleep(0.01)
        process.send_signal(number)
        started = time.monotonic()
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
        seconds = time.monotonic() - started
        with pytest.raises(httpx.TransportError):
            await hanging
    assert process.returncode == 0
    assert output == b""
    assert errors.decode().startswith("eSIM Go simulator at http://127.0.0.1:")
    assert b"Traceback" not in errors
    return seconds


async def test_the_process_is_controlled_and_ends_with_the_block() -> None:
    async with SimulatorProcess.start("--bundles", "20", "--rate", "0") as simulator:
        assert simulator.bundles == 20
        assert (await simulator.set_scenario("outage"))["scenario"] == "outage"
        assert (await simulator.stats())["rate"] == 0
    assert simulator.process.returncode == 0


async def test_it_ends_when_its_parent_is_gone() -> None:
    async with SimulatorProcess.start("--bundles", "5") as simulator:
        assert simulator.process.stdin is not None
        simulator.process.stdin.close()
        async with asyncio.timeout(60):
            assert await simulator.process.wait() == 0


async def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, told in (
            (("--scenario", "nothing"), "no scenario 'nothing'"),
            (("--data", str(bad)), "bad.json is not a catalogue"),
            (("--port", port), "cannot listen on 127.0.0.1:"),
        ):
            process = await spawn(*arguments, "--json")
            output, errors = await process.communicate()
            assert process.returncode == 2
            assert told in json.loads(output)["error"]["message"]
            assert told in errors.decode()
            assert errors.count(b"\n") == 1


async def test_a_process_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no scenario 'nothing'"):
        async with SimulatorProcess.start("--scenario", "nothing"):
            pass


async def test_in_process_it_stops_at_once_while_connections_hang_and_drip() -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        async with running_simulator(SimulatorConfig(bundles=50, rate=0)) as sim:
            http.headers["X-API-Key"] = sim.api_key
            sim.set_scenario({"rules": [{"fault": "hang", "when": {"page": 1}}, {"fault": "drip", "bytes_per_s": 10}]})
            urls = [f"{sim.base_url}/catalogue?page={page}&perPage=2" for page in (1, 2)]
            tasks = [asyncio.create_task(http.get(url)) for url in urls]
            async with asyncio.timeout(60):
                while len(sim.requests) < 2:
                    await asyncio.sleep(0.01)
            started = time.monotonic()
        assert time.monotonic() - started < 30  # what hangs has no end
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, httpx.TransportError) for result in results)
