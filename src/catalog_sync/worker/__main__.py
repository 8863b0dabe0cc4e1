"""``python -m catalog_sync.worker``: one worker, ended by SIGTERM after what it is doing."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import exit_codes
from catalog_sync.composition import read_settings
from catalog_sync.programs import run_program
from catalog_sync.worker.health_file import health_file

if TYPE_CHECKING:
    from celery import Celery

PROGRAM: Final = "catalog-worker"


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then 0.

    2 where a setting cannot be used, also where only a process of the pool finds out; 1 where anything else ends it.
    """
    return run_program(PROGRAM, lambda: _run(_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> int:
    settings = read_settings()
    settings.require_api_key()
    settings.require_state_dir()
    # Not before the settings are checked: what is imported here reads variables of OpenTelemetry.
    from catalog_sync.worker import dead_letters, presence, process, transport
    from catalog_sync.worker.broker_check import check_broker
    from catalog_sync.worker.celery_app import configure

    app = configure(settings)
    check_broker(settings)
    name = f"{args.name}@{socket.gethostname()}"
    failure = process.install(args.health_file)
    transport.install()
    presence.announce(settings, name)
    dead_letters.watch(settings)
    return failure.code or _work(app, name, args.concurrency, failure)


def _work(app: Celery, name: str, concurrency: int, failure: Any) -> int:
    from celery.worker import state

    from catalog_sync.worker.celery_settings import QUEUE
    from catalog_sync.worker.consumer import SteadyConsumer

    worker = app.Worker(
        hostname=name,
        queues=QUEUE,
        concurrency=concurrency,
        pool_cls="prefork",
        consumer_cls=SteadyConsumer,
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    if failure.code:
        return int(failure.code)
    asked = state.should_stop is not None or state.should_terminate is not None
    return int(worker.exitcode or 0) or (0 if asked else exit_codes.FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A worker for syncs. SIGTERM lets it finish.")
    parser.add_argument("--name", default=f"worker-{os.getpid()}", help="name of this worker, unique on its host")
    parser.add_argument("--concurrency", type=_count, default=1, metavar="N", help="steps at a time (default: 1)")
    parser.add_argument(
        "--health-file", type=health_file, metavar="FILE", help="file that is touched while steps can be done"
    )
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 1000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
