"""``catalog-sync simulate``."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from catalog_sync.terminal.arguments import Version, whole

if TYPE_CHECKING:
    import asyncio

    from esim_go_simulator.app import SimulatorConfig

SERVICE_NAME: Final = "esim-go-simulator"
EXAMPLES: Final = (
    "catalog-sync simulate --port 8099",
    "catalog-sync simulate --port 8099 --scenario flaky",
    "catalog-sync simulate --bundles 200 --rate 0 --json",
)
_USAGE_ERROR: Final = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A simulator with these options; calling it serves until SIGINT or SIGTERM and returns the exit code."""

    config: dict[str, Any]
    """Fields of ``SimulatorConfig`` except the scenario; a dictionary, because that class takes time to import."""
    scenario: str
    as_json: bool
    exit_with_stdin: bool

    def __call__(self) -> int:
        """0 after a signal; 2 for an unusable setting or file, or a port in use."""
        from catalog_sync.domain.errors import ConfigurationError
        from catalog_sync.programs import register_environment_secrets
        from catalog_sync.settings.env_file import load_env_file
        from catalog_sync.settings.otel import check_otel, tidy_otel

        try:
            load_env_file(os.environ)
            register_environment_secrets()
            tidy_otel(os.environ)
            check_otel(os.environ)  # before propagators are imported
            return self._run()
        except ConfigurationError as error:
            return _fail(str(error), self.as_json)

    def _run(self) -> int:
        import asyncio

        from catalog_sync.observability.sdk import setup_telemetry
        from esim_go_simulator.app import SimulatorConfig
        from esim_go_simulator.scenarios import load_scenario

        telemetry = setup_telemetry(SERVICE_NAME, os.environ)
        try:
            config = SimulatorConfig(**self.config, scenario=load_scenario(self.scenario))
            return asyncio.run(_serve(config, quiet=self.as_json, exit_with_stdin=self.exit_with_stdin))
        except OSError as error:
            where = f"{self.config['host']}:{self.config['port']}"
            return _fail(f"cannot listen on {where}: {error.strerror or error}", self.as_json)
        finally:
            telemetry.shutdown(timeout=0.6)


def _scenario_names(incomplete: str) -> list[str]:
    from esim_go_simulator.scenarios import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


# The defaults are repeated here because importing the server would slow down the start of every other command.
def simulate(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=whole(0, 65535), metavar="PORT", help="Port; 0 picks a free one.")] = 0,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of bundles, served exactly as it stands.")
    ] = None,
    bundles: Annotated[
        int, typer.Option(parser=whole(0, 500_000), metavar="N", help="Size of the generated catalogue.")
    ] = 5_200,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the generated catalogue.")] = 0,
    rate: Annotated[
        int,
        typer.Option(parser=whole(0, 1_000_000), metavar="N", help="Requests per second and client; 0: no limit."),
    ] = 10,
    api_key: Annotated[str, typer.Option(metavar="KEY", help="The key that is accepted.")] = "simulator-key",
    scenario: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Fault scenario: a built-in one or a JSON file.",
            autocompletion=_scenario_names,
        ),
    ] = "calm",
    max_per_page: Annotated[int, typer.Option(parser=whole(1, 100_000), metavar="N", help="Largest perPage.")] = 1000,
    max_per_page_status: Annotated[
        int, typer.Option(parser=whole(400, 403), metavar="STATUS", help="Status that answers a larger one.")
    ] = 400,
    as_json: Annotated[
        bool, typer.Option("--json", help="Nothing but JSON on stdout, also on failure; stderr has only errors.")
    ] = False,
    exit_with_stdin: Annotated[bool, typer.Option("--exit-with-stdin", hidden=True)] = False,
    version: Version = False,
) -> Simulation:
    """Run a simulator of the eSIM Go API, with fault scenarios.

    It runs until Ctrl-C. A line of JSON on stdout says where it listens.
    """
    config = {
        "host": host,
        "port": port,
        "data": data,
        "bundles": bundles,
        "seed": seed,
        "rate": rate,
        "api_key": api_key,
        "max_per_page": max_per_page,
        "max_per_page_status": max_per_page_status,
    }
    return Simulation(config=config, scenario=scenario, as_json=as_json, exit_with_stdin=exit_with_stdin)


async def _serve(config: SimulatorConfig, *, quiet: bool, exit_with_stdin: bool) -> int:
    import asyncio

    from esim_go_simulator.server import running_simulator

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end, stop)
    async with running_simulator(config) as simulator:
        _print(
            {
                "ready": True,
                "base_url": simulator.base_url,
                "control_url": simulator.control_url,
                "api_key": simulator.api_key,
                "bundles": simulator.bundles,
            }
        )
        if not quiet:
            sys.stderr.write(f"eSIM Go simulator at {simulator.base_url}, Ctrl-C stops it\n")
        await stop.wait()
    if exit_with_stdin:
        loop.remove_reader(sys.stdin.fileno())
    return 0


def _stop_at_end(stop: asyncio.Event) -> None:
    """Stops when the process that started this one has ended, which closes the other end of the pipe."""
    if not os.read(sys.stdin.fileno(), 1024):
        stop.set()


def _fail(text: str, as_json: bool) -> int:
    sys.stderr.write(f"catalog-sync simulate: {text}\n")
    if as_json:
        from otel_resilience import correlation_id

        error = {
            "type": "configuration",
            "class": "permanent",
            "severity": "HIGH",
            "message": text,
            "retry_after_s": None,
            "correlation_id": correlation_id(),
        }
        _print({"ready": False, "error": error})
    return _USAGE_ERROR


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()
