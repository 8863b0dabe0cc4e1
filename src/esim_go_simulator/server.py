"""The simulator as a running HTTP server, in this process or in a separate one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import httpx
from aiohttp import web
from opentelemetry import trace

from esim_go_simulator.app import Simulator, SimulatorConfig
from esim_go_simulator.control import PREFIX
from esim_go_simulator.selection import CatalogueEdits

STOP_WITHIN: Final = 0.2
"""Seconds that running responses are given at the end; aiohttp takes up to twice as long."""

_KILL_AFTER: Final = 3.0


class RunningSimulator(Simulator):
    """A simulator that listens."""

    port = 0
    base_url = ""
    control_url = ""

    def listens(self, host: str, port: int) -> None:
        """Records its address."""
        name = f"[{host}]" if ":" in host else host
        self.port = port
        self.base_url = f"http://{name}:{port}/v2.5"
        self.control_url = f"http://{name}:{port}{PREFIX}"

    @property
    def api_key(self) -> str:
        """The key that it accepts."""
        return self.config.api_key

    def edit_catalogue(self, **edits: Any) -> None:
        """Changes the bundles for sale: ``drop_groups``, ``withdraw``, ``withdraw_ratio``, ``add``."""
        self.change_catalogue(CatalogueEdits.model_validate(edits))


@contextlib.asynccontextmanager
async def running_simulator(
    config: SimulatorConfig | None = None, *, tracer_provider: trace.TracerProvider | None = None
) -> AsyncIterator[RunningSimulator]:
    """A simulator in this process while the block runs.

    Raises ``OSError`` if it cannot listen, and what :meth:`SimulatorConfig.catalogue` raises.
    """
    settings = config or SimulatorConfig()
    simulator = RunningSimulator(settings, tracer_provider=tracer_provider)
    # Cancelling the handlers of clients that have gone ends their hangs and drips.
    server = web.Server(simulator.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=STOP_WITHIN)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        simulator.listens(settings.host, int(runner.addresses[0][1]))
        yield simulator
    finally:
        simulator.stopping.set()
        await runner.cleanup()


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """A simulator in a separate process."""

    process: asyncio.subprocess.Process
    base_url: str
    control_url: str
    api_key: str
    bundles: int
    """Number of bundles at its start."""

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, *arguments: str, env: Mapping[str, str] | None = None, ready_within: float = 20.0
    ) -> AsyncIterator[SimulatorProcess]:
        """Runs ``catalog-sync simulate`` with these arguments until the block ends.

        It also ends when this process dies. ``env`` replaces the environment. Raises ``RuntimeError`` if it does not
        start, ``TimeoutError`` if it is not ready in time.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "esim_go_simulator", *arguments, "--json", "--exit-with-stdin"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever started it, and that one ends it
            env=None if env is None else dict(env),
        )
        try:
            async with asyncio.timeout(ready_within):
                ready = await _read_ready(process, arguments)
            yield cls(process, ready["base_url"], ready["control_url"], ready["api_key"], ready["bundles"])
        finally:
            await _stop(process)

    async def set_scenario(self, scenario: str | dict[str, Any]) -> dict[str, Any]:
        """Starts a scenario; returns the result of :meth:`stats`."""
        return await self.control("POST", "scenario", scenario)

    async def stats(self) -> dict[str, Any]:
        """The object of ``GET /__sim/stats``."""
        return await self.control("GET", "stats")

    async def control(self, method: str, call: str, data: Any = None) -> dict[str, Any]:
        """Calls the control endpoint. Raises ``httpx.HTTPError``."""
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10.0) as client:  # noqa: S501 - plain http
            response = await client.request(method, f"{self.control_url}/{call}", json=data)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
            return answer


async def _read_ready(process: asyncio.subprocess.Process, arguments: Sequence[str]) -> dict[str, Any]:
    if process.stdout is None:
        raise RuntimeError("the simulator has no standard output")
    line = await process.stdout.readline()
    try:
        ready: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise RuntimeError(f"the simulator did not start with {list(arguments)}: {line[:200]!r}") from error
    if not ready.get("ready"):
        raise RuntimeError(f"the simulator did not start: {ready.get('error')}")
    return ready


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Sends SIGTERM, and SIGKILL if that does not help."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_KILL_AFTER):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
