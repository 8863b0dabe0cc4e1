"""What ``make up`` runs: simulator, Redis, workers, scheduler and API, until Ctrl-C stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from catalog_sync import exit_codes
from catalog_sync.composition import read_settings, warn_of_unknown_variables
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError
from catalog_sync.observability.logs import setup_logging
from catalog_sync.programs import complain
from catalog_sync.settings.settings import EVERY_INTERFACE, Settings
from catalog_sync.store.private import PrivateRedis
from catalog_sync.terminal.arguments import Version, run_single_command
from catalog_sync.up.supervisor import NotReadyError, Program, Supervisor
from catalog_sync.up.supervisor import unusable as unusable_setting

PROGRAM: Final = "up"
RATE: Final = "50"
"""Requests per second that the simulator allows and we send, so that there is a catalogue to see within seconds."""

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs until SIGINT or SIGTERM, then 0; 2 if a setting is not usable, 1 if something did not start."""
    return run_single_command(PROGRAM, everything, sys.argv[1:], "python -m catalog_sync.up")


def everything(version: Version = False) -> Callable[[], int]:
    """Start the API, workers and the scheduler on this machine; Ctrl-C stops all.

    Starts a supplier simulator if ESIM_GO_BASE_URL is not set, and a private Redis if REDIS_URL is not. CATALOG_WORKERS
    is the number of workers.
    """
    return _run


def _run() -> int:
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty())
    try:
        settings = read_settings()
        warn_of_unknown_variables()
        settings.require_state_dir()
        given = {name: text for name, text in os.environ.items() if text.strip()}  # an empty variable counts as not set
        if "ESIM_GO_BASE_URL" in given:
            settings.require_api_key()
        with _redis(settings) as redis_url:
            return asyncio.run(_up(settings, {**given, "REDIS_URL": redis_url}))
    except ConfigurationError:
        raise
    except (NotReadyError, CatalogSyncError, OSError) as error:
        complain(PROGRAM, str(error))
        return exit_codes.FAILED


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[str]:
    """The configured Redis, or a private one that ends with its last user."""
    if settings.redis_url:
        yield settings.redis_url
        return
    program = shutil.which("redis-server")
    if program is None:
        raise ConfigurationError(
            "REDIS_URL is not set and there is no redis-server on the PATH: workers need one of the two"
        )
    private = PrivateRedis(_redis_folder(settings), program)
    private.start()
    try:
        yield f"unix://{quote(private.socket_path)}"
    finally:
        private.stop()


def _redis_folder(settings: Settings) -> Path:
    return settings.state_dir / "redis"


async def _up(settings: Settings, env: dict[str, str]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting: asyncio.Task[None] | None = None
    async with Supervisor(None if settings.redis_url else _redis_folder(settings)) as up:
        stopped = asyncio.create_task(stop.wait())
        unusable = asyncio.create_task(up.first_unusable())
        starting = asyncio.create_task(_start(up, settings, env))
        await asyncio.wait([starting, stopped, unusable], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await asyncio.wait([stopped, unusable], return_when=asyncio.FIRST_COMPLETED)
        for task in (starting, stopped, unusable):
            task.cancel()
        await asyncio.gather(starting, stopped, unusable, return_exceptions=True)
        if not unusable.cancelled():
            raise unusable_setting(unusable.result())
        _print("stopping; running work may finish")
    return 0


async def _start(up: Supervisor, settings: Settings, env: dict[str, str]) -> None:
    if not env.get("ESIM_GO_BASE_URL"):
        env = {**env, **await _simulator(up, env)}
    token = env.get("CATALOG_API_TOKEN") or secrets.token_urlsafe(12)
    env = {**env, "CATALOG_API_TOKEN": token, "CATALOG_JOBS": "workers", **_address(settings)}
    for number in range(1, settings.workers + 1):
        name = f"worker-{number}"
        await up.start(Program(name, ("catalog_sync.worker", "--name", name), env))
    await up.start(Program("beat", ("catalog_sync.worker.beat",), env))
    ready = await up.start(Program("api", ("catalog_sync.api.command", "--json"), env, reports_ready=True))
    _print(f"page and API: {ready['base_url']}")
    if settings.api.token is None:
        _print(f"token for requests of a sync: {token}")
    _print("the catalogue follows in seconds; Ctrl-C stops everything")


def _address(settings: Settings) -> dict[str, str]:
    """The target of links in the workers' alerts: the page that this machine serves, unless another address is set."""
    api = settings.api
    if api.public_url is not None or api.port == 0:
        return {}
    host = "localhost" if api.host in EVERY_INTERFACE else f"[{api.host}]" if ":" in api.host else api.host
    return {"CATALOG_API_PUBLIC_URL": f"http://{host}:{api.port}"}


async def _simulator(up: Supervisor, env: Mapping[str, str]) -> dict[str, str]:
    key = env.get("ESIM_GO_API_KEY") or "simulator-key"
    arguments = ("catalog_sync", "simulate", "--json", "--api-key", key, "--rate", RATE)
    ready = await up.start(Program("simulator", arguments, env, reports_ready=True, ends_last=True))
    _print(f"no ESIM_GO_BASE_URL: a simulator of the supplier at {ready['base_url']}, control {ready['control_url']}")
    rate = env.get("CATALOG_SUPPLIER_RATE_PER_S") or RATE
    return {"ESIM_GO_BASE_URL": ready["base_url"], "ESIM_GO_API_KEY": key, "CATALOG_SUPPLIER_RATE_PER_S": rate}


def _print(text: str) -> None:
    sys.stderr.write(f"up: {text}\n")
    sys.stderr.flush()
