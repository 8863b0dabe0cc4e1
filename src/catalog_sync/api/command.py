"""``catalog-api``: reads settings from the environment, sets up logs and traces, and serves until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from catalog_sync import exit_codes
from catalog_sync.terminal.arguments import Version, run_single_command

if TYPE_CHECKING:
    from catalog_sync.alerts import CatalogAlerts
    from catalog_sync.history import History
    from catalog_sync.observability.traces import TraceRing
    from catalog_sync.settings.settings import Settings

PROGRAM: Final = "catalog-api"
SWITCH_EVERY: Final = 0.0005
"""Interpreter switch interval in seconds, for threads that make responses beside the event loop; default 0.005."""

GC_THRESHOLDS: Final = (700, 10, 100)
"""Garbage collection thresholds, with a tenth as many full collections as by default: each blocks the event loop for
tens of milliseconds, with the catalogue in memory, and frees next to nothing: requests and syncs leave no cycles."""

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then 0; 2 if a setting is wrong, 1 if something else failed."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_single_command(PROGRAM, api, arguments, "catalog-api", "CATALOG_API_PORT=8081 catalog-api --json")


def api(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout: base_url once it listens, or an error.")
    ] = False,
    version: Version = False,
) -> Callable[[], int]:
    """Serve the catalogue over HTTP, take requests for syncs, and show why one failed.

    Environment variables: CATALOG_API_PORT, CATALOG_API_TOKEN and others, see docs/configuration.md.
    """
    return lambda: _run(as_json=as_json)


def _run(*, as_json: bool) -> int:
    from catalog_sync.composition import alerting, check_redis, read_settings, warn_of_unknown_variables
    from catalog_sync.history import History
    from catalog_sync.observability.contract import SERVICE_API

    settings = read_settings(ask_redis=False)
    from catalog_sync.api.server import listening  # FastAPI reads OTEL_PROPAGATORS, which is checked now

    check_redis(settings, publishes=settings.api.token is not None)
    if settings.jobs == "process":  # this process runs syncs, and their traces are kept there
        settings.require_state_dir()
    with (
        _observed() as traces,
        listening(settings.api.host, settings.api.port) as (listener, url),
        alerting(_with_address(settings, url), SERVICE_API) as alerts,
        History(settings, SERVICE_API) as history,
    ):
        warn_of_unknown_variables()
        asyncio.run(_serve(settings, traces, alerts, history, listener, url, as_json=as_json))
    return exit_codes.OK


def _with_address(settings: Settings, url: str) -> Settings:
    """Links in this process's alerts lead to its own pages, unless it listens on every interface: then to none."""
    from catalog_sync.settings.settings import EVERY_INTERFACE

    if settings.api.public_url is not None or settings.api.host in EVERY_INTERFACE:
        return settings
    return settings.changed(api=settings.api.changed(public_url=url))


@contextlib.contextmanager
def _observed() -> Iterator[TraceRing]:
    """Logs on stderr, telemetry to where ``OTEL_*`` says, and recent traces kept here."""
    from catalog_sync.composition import TELEMETRY_END
    from catalog_sync.observability.contract import SERVICE_API
    from catalog_sync.observability.logs import setup_logging
    from catalog_sync.observability.sdk import keep_spans, setup_telemetry
    from catalog_sync.observability.traces import TraceRing

    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty(), service=SERVICE_API)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    traces = TraceRing()
    telemetry = setup_telemetry(SERVICE_API, os.environ, extra_span_processor=keep_spans(traces.add))
    try:
        yield traces
    finally:
        telemetry.shutdown(timeout=TELEMETRY_END)


async def _serve(
    settings: Settings,
    traces: TraceRing,
    alerts: CatalogAlerts,
    history: History,
    listener: socket.socket,
    url: str,
    *,
    as_json: bool,
) -> None:
    from catalog_sync.alerts.overview import KeptAlerts
    from catalog_sync.api.app import Api
    from catalog_sync.api.server import open_parts, serve
    from catalog_sync.observability.sdk import choose_signals

    parts_of_all = open_parts(
        settings, traces, alerts=KeptAlerts(settings, alerts), history=history, on_report=alerts.sync_ended
    )
    async with parts_of_all as parts:

        def ready() -> None:
            # These objects stay: a full collection over all of them would delay requests by tens of ms.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            _log.info("listening on %s", url, extra={"url.full": url})
            if settings.api.token is None:
                _log.warning("CATALOG_API_TOKEN is not set: syncs cannot be requested")
            if as_json:
                sys.stdout.write(json.dumps({"ready": True, "base_url": url}) + "\n")
                sys.stdout.flush()

        sys.setswitchinterval(SWITCH_EVERY)
        exported = choose_signals(os.environ).traces is not None
        await serve(Api(settings, parts, traces_exported=exported), parts, listener, ready=ready)


if __name__ == "__main__":
    sys.exit(main())
