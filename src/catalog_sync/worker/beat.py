"""``python -m catalog_sync.worker.beat``: the scheduler, one for all workers. It only asks; the workers decide."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from celery import beat

from catalog_sync import contract
from catalog_sync.cli.app import read_settings
from catalog_sync.errors import ConfigurationError
from catalog_sync.jobs.dispatch import DUE_TASK
from catalog_sync.logs import setup_logging
from catalog_sync.worker.celery_app import configure

USAGE_ERROR: Final = 2
ASK_EVERY: Final = 60.0
"""Seconds between two questions whether a sync is due."""
LONGEST_LOOP: Final = 5.0


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler without a file: what it asks is harmless to ask again. It shows that it is well."""

    health_file: Path | None = None

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due to be sent. Seconds until the next time."""
        seconds: float = super().tick(*args, **options)
        if self.health_file is not None:
            self.health_file.touch()
        return seconds


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 2 where the configuration cannot be used."""
    parser = argparse.ArgumentParser(prog="catalog-beat", description="Asks the workers whether a sync is due.")
    parser.add_argument("--health-file", type=Path, help="file that is touched while the scheduler is well")
    args = parser.parse_args(arguments)
    try:
        app = configure(read_settings())
    except ConfigurationError as error:
        sys.stderr.write(f"catalog-beat: {error}\n")
        return USAGE_ERROR
    Scheduler.health_file = args.health_file
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty(), service=contract.SERVICE_WORKER)
    app.conf.update(
        beat_schedule={"due": {"task": DUE_TASK, "schedule": ASK_EVERY, "options": {"expires": ASK_EVERY}}},
        beat_max_loop_interval=LONGEST_LOOP,
    )
    service = beat.Service(app, scheduler_cls=Scheduler)
    _stop_on_signals(service)
    service.start()
    return 0


def _stop_on_signals(service: Any) -> None:
    import signal

    def stop(number: int, frame: object) -> None:
        del number, frame
        service.stop()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


if __name__ == "__main__":
    sys.exit(main())
