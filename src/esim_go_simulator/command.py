"""``catalog-sync simulate``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from esim_go_simulator.app import SimulatorConfig

SERVICE_NAME: Final = "esim-go-simulator"
_USAGE_ERROR: Final = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The subcommand ``simulate``."""
    parser = subparsers.add_parser(
        "simulate",
        help="run a simulator of the eSIM Go API, with fault scenarios",
        description="Runs a simulator of the eSIM Go API until Ctrl-C. A line of JSON on stdout says where it listens.",
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``simulate``."""
    # The defaults stand here again because importing the server costs every other command its start-up time.
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("--host", default="127.0.0.1", help=f"address to listen on {default}")
    add("--port", type=_whole(0, 65535), default=0, help="port; 0 picks a free one (default)")
    add("--data", type=Path, metavar="FILE", help="JSON file of bundles, served exactly as it stands")
    size = f"size of the generated catalogue {default}"
    add("--bundles", type=_whole(0, 500_000), default=5_200, metavar="N", help=size)
    add("--seed", type=int, default=0, help=f"seed of the generated catalogue {default}")
    rate = f"requests per second and client; 0: no limit {default}"
    add("--rate", type=_whole(0, 1_000_000), default=10, metavar="N", help=rate)
    add("--api-key", default="simulator-key", metavar="KEY", help=f"the key that is accepted {default}")
    scenario = f"fault scenario: a built-in one or a JSON file {default}"
    add("--scenario", default="calm", metavar="NAME|FILE", help=scenario)
    add("--max-per-page", type=_whole(1, 100_000), default=1000, metavar="N", help=f"largest perPage {default}")
    status = f"answer to a larger one {default}"
    add("--max-per-page-status", type=_whole(400, 403), default=400, metavar="STATUS", help=status)
    add("--json", action="store_true", help="nothing but JSON on stdout, also when it fails")
    add("--exit-with-stdin", action="store_true", help=argparse.SUPPRESS)


def _whole(lowest: int, highest: int) -> Any:
    def whole(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"must be from {lowest} to {highest}, not {text}")
        return value

    whole.__name__ = "whole number"
    return whole


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; 0 then, 2 for wrong options, a file that is no catalogue or a port in use."""
    from catalog_sync.domain.errors import ConfigurationError
    from catalog_sync.programs import know_secrets
    from catalog_sync.settings.env_file import load_env_file
    from catalog_sync.settings.otel import check_otel, tidy_otel

    try:
        load_env_file(os.environ)
        know_secrets()
        tidy_otel(os.environ)
        check_otel(os.environ)  # before propagators are imported
        return _run(args)
    except ConfigurationError as error:
        return _fail(str(error), args.json)


def _run(args: argparse.Namespace) -> int:
    from catalog_sync.observability.sdk import setup_telemetry
    from esim_go_simulator.app import SimulatorConfig
    from esim_go_simulator.scenarios import load_scenario

    telemetry = setup_telemetry(SERVICE_NAME, os.environ)
    try:
        config = SimulatorConfig(
            host=args.host,
            port=args.port,
            data=args.data,
            bundles=args.bundles,
            seed=args.seed,
            rate=args.rate,
            api_key=args.api_key,
            scenario=load_scenario(args.scenario),
            max_per_page=args.max_per_page,
            max_per_page_status=args.max_per_page_status,
        )
        return asyncio.run(_serve(config, quiet=args.json, exit_with_stdin=args.exit_with_stdin))
    except OSError as error:
        return _fail(f"cannot listen on {args.host}:{args.port}: {error.strerror or error}", args.json)
    finally:
        telemetry.shutdown(timeout=0.6)


async def _serve(config: SimulatorConfig, *, quiet: bool, exit_with_stdin: bool) -> int:
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
    """Stop when whoever started this process is gone: the other end of the pipe closes then."""
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
