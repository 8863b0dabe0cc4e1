"""The scheduler, one for all workers. It only requests; the workers decide."""

from __future__ import annotations

import datetime
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis
from celery import beat

from catalog_sync.composition import read_settings, warn_of_unknown_variables
from catalog_sync.observability import contract
from catalog_sync.observability.logs import setup_logging
from catalog_sync.store.client import connect_blocking
from catalog_sync.store.server import check_server
from catalog_sync.worker import transport
from catalog_sync.worker.celery_app import configure
from catalog_sync.worker.celery_settings import DUE_TASK
from otel_resilience.redaction import redact

ASK_EVERY: Final = 60.0
"""Interval in seconds of checking whether a sync is due."""
LONGEST_LOOP: Final = 5.0
LONG_AGO: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)

_log = logging.getLogger(__name__)


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler without a file: its requests are harmless to repeat.

    It shows its health while its messages are sent and the broker answers.
    """

    health_file: Path | None = None
    ping: Callable[[], object] = staticmethod(lambda: None)
    """Raises if the broker does not answer."""
    _sends = True

    def tick(self, *args: Any, **options: Any) -> float:
        """Sends what is due. Returns the seconds until the next time."""
        seconds: float = super().tick(*args, **options)
        self._show_health()
        return seconds

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Sends one message, and remembers whether that worked."""
        self._sends = False
        sent = super().apply_async(*args, **options)
        self._sends = True
        return sent

    def _show_health(self) -> None:
        if self.health_file is None or not self._sends:
            return
        try:
            type(self).ping()
            self.health_file.touch()
        except (redis.RedisError, OSError) as error:
            _log.warning("the health file is not updated: %s", redact(str(error)))


def serve(shown_in: Path | None) -> int:
    """Runs until SIGTERM or SIGINT, then 0. ``shown_in`` is touched while the scheduler is healthy.

    Raises ``ConfigurationError`` if a setting is not usable.
    """
    settings = read_settings()
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty(), service=contract.SERVICE_WORKER)
    warn_of_unknown_variables()
    app = configure(settings)
    check_server(settings, publishes=True, needed=True)
    transport.install()
    Scheduler.health_file = shown_in
    Scheduler.ping = staticmethod(connect_blocking(settings.redis_url or "").ping)
    app.conf.update(
        beat_schedule={
            "due": {
                "task": DUE_TASK,
                "schedule": ASK_EVERY,
                "options": {"expires": ASK_EVERY},
                "last_run_at": LONG_AGO,  # otherwise Celery would wait a whole interval first
            }
        },
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
