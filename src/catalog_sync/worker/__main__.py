"""``python -m catalog_sync.worker``: one worker, ended by SIGTERM after what it is doing."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from catalog_sync import exit_codes
from catalog_sync.composition import read_settings
from catalog_sync.terminal.arguments import Version, run_single_command, text, whole
from catalog_sync.worker.health_file import HealthFile

if TYPE_CHECKING:
    from celery import Celery

PROGRAM: Final = "catalog-worker"


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT, then 0.

    2 if a setting is not usable, even if only a process of the pool finds that out; 1 if anything else ends it.
    """
    return run_single_command(
        PROGRAM,
        worker,
        sys.argv[1:] if arguments is None else arguments,
        "python -m catalog_sync.worker",
        "python -m catalog_sync.worker --name w1 --concurrency 4",
    )


def worker(
    name: Annotated[
        str | None, typer.Option(parser=text, metavar="NAME", help="Name of this worker, unique on its host.")
    ] = None,
    concurrency: Annotated[int, typer.Option(parser=whole(1, 1000), metavar="N", help="Steps at a time.")] = 1,
    health_file: HealthFile = None,
    version: Version = False,
) -> Callable[[], int]:
    """Run a worker for syncs. SIGTERM lets it finish what it is doing."""
    return lambda: _run(name or f"worker-{os.getpid()}", concurrency, health_file)


def _run(name: str, concurrency: int, health_file: Path | None) -> int:
    settings = read_settings()
    settings.require_api_key()
    settings.require_state_dir()
    # Not before the settings are checked: these imports read OpenTelemetry's variables.
    from catalog_sync.store.server import check_server
    from catalog_sync.worker import dead_letters, presence, process, transport
    from catalog_sync.worker.celery_app import configure

    app = configure(settings)
    check_server(settings, publishes=True, needed=True)
    name = f"{name}@{socket.gethostname()}"
    failure = process.install(health_file)
    transport.install()
    beat_every = presence.announce(settings, name).beat_every
    dead_letters.watch(settings)
    return failure.code or _work(app, name, concurrency, beat_every, failure)


def _work(app: Celery, name: str, concurrency: int, beat_every: float, failure: Any) -> int:
    from celery.worker import state

    from catalog_sync.worker.celery_settings import QUEUE

    app.conf.worker_concurrency = concurrency
    worker = app.Worker(
        hostname=name,
        queues=QUEUE,
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        heartbeat_interval=beat_every,
    )
    worker.start()
    if failure.code:
        return int(failure.code)
    asked = state.should_stop is not None or state.should_terminate is not None
    return int(worker.exitcode or 0) or (0 if asked else exit_codes.FAILED)


if __name__ == "__main__":
    sys.exit(main())
