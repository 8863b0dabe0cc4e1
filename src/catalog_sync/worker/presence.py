"""The parent process of a worker: it says that it lives, and sees to it that lost steps are looked for.

Runs in the loop of Celery's consumer, every other second; before the fork, so nothing of telemetry is touched here.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
from celery import signals

from catalog_sync.jobs.dispatch import SWEEP_TASK
from catalog_sync.jobs.keys import SWEPT, WORKER_PREFIX

if TYPE_CHECKING:
    from catalog_sync.config import Settings

REDIS_TIMEOUT: Final = 1.0
PRESENT_FOR: Final = 15
"""Seconds after which a silent worker is not shown any more."""
SWEEPS_PER_LEASE: Final = 3

_log = logging.getLogger(__name__)
_errors = (redis.RedisError, OSError)


class Presence:
    """What the parent of one worker does at every heartbeat."""

    def __init__(self, settings: Settings, name: str, health_file: Path | None) -> None:
        url = settings.redis_url or ""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT, retry_on_error=[]
        )
        self._name = name
        self._health_file = health_file
        self._sweep_every_ms = int(settings.job_lease * 1000 / SWEEPS_PER_LEASE)
        self._since = time.time()

    def beat(self, **_: Any) -> None:
        """Say that this worker lives; ask for a sweep where the last one is not recent."""
        who = {"name": self._name, "host": socket.gethostname(), "pid": os.getpid(), "since": int(self._since)}
        try:
            self._redis.set(f"{WORKER_PREFIX}{self._name}", json.dumps(who), ex=PRESENT_FOR)
            due = self._redis.set(SWEPT, self._name, nx=True, px=self._sweep_every_ms)
        except _errors as error:
            _log.warning("the worker cannot say that it lives: %s", type(error).__name__)
            return
        if due:
            self._ask_for_sweep()
        if self._health_file is not None:
            self._health_file.touch()

    def leave(self, **_: Any) -> None:
        """Say that this worker ends."""
        try:
            self._redis.delete(f"{WORKER_PREFIX}{self._name}")
            self._redis.close()
        except _errors as error:
            _log.debug("the worker cannot say that it ends: %s", type(error).__name__)

    def _ask_for_sweep(self) -> None:
        from catalog_sync.worker.celery_app import UNSAMPLED, app

        try:
            app.tasks[SWEEP_TASK].apply_async(headers=UNSAMPLED, expires=PRESENT_FOR, retry=False)
        except Exception as error:  # noqa: BLE001  whatever the broker raises: the next heartbeat asks again
            _log.warning("a sweep could not be asked for: %s", type(error).__name__)


def announce(settings: Settings, name: str, health_file: Path | None) -> Presence:
    """Does all this from the first heartbeat of the worker in this process to its end."""
    presence = Presence(settings, name, health_file)
    signals.heartbeat_sent.connect(presence.beat, weak=False)
    signals.worker_shutdown.connect(presence.leave, weak=False)
    return presence
