"""``python -m catalog_sync.worker``: one worker, ended by SIGTERM after what it is doing."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from catalog_sync.cli.app import read_settings
from catalog_sync.errors import ConfigurationError
from catalog_sync.jobs.broker import QUEUE

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 2 where the configuration cannot be used."""
    args = _parser().parse_args(arguments)
    from catalog_sync.worker import dead_letters, presence, process, transport
    from catalog_sync.worker.celery_app import configure

    try:
        settings = read_settings()
        settings.require_api_key()
        app = configure(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"catalog-worker: {error}\n")
        return USAGE_ERROR
    name = f"{args.name}@{socket.gethostname()}"
    process.install()
    transport.install()
    presence.announce(settings, name, args.health_file)
    dead_letters.watch(settings)
    app.worker_main(
        [
            *("--quiet", "worker", f"--hostname={name}", f"--queues={QUEUE}", f"--concurrency={args.concurrency}"),
            *("--pool=prefork", "--without-gossip", "--without-mingle", "--loglevel=INFO"),
        ]
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="catalog-worker", description="A worker for syncs. SIGTERM lets it finish.")
    parser.add_argument("--name", default=f"worker-{os.getpid()}", help="name of this worker, unique on its host")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="steps at a time (default: 1)")
    parser.add_argument("--health-file", type=Path, help="file that is touched while the worker is well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
