"""The parent process of a worker: registers the worker, requests sweeps, and probes the processes of its pool.

Runs in the loop of Celery's consumer every few seconds; before the fork, so it does not touch telemetry. The parent
runs no steps, so it does not show health either: a process of the pool does, with each heartbeat of a step, or, if no
step runs, with a probe that the parent sends to it in the same way as steps.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import redis
from celery import signals

from catalog_sync.jobs.keys import ACTIVE, SWEPT, SWEPT_IDLE, WORKER_PREFIX
from catalog_sync.store.client import connect_blocking, translated
from catalog_sync.store.keys import Key
from catalog_sync.worker.celery_settings import SWEEP_TASK
from catalog_sync.worker.process import probe

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

LONGEST_BEAT: Final = 5.0
"""Maximum seconds between two heartbeats of a worker."""
PRESENT_FOR: Final = 15
"""Seconds after which a silent worker is no longer listed."""
SWEEPS_PER_LEASE: Final = 3
IDLE_SWEEP: Final = 15.0
"""Interval in seconds of sweeps while no job is active."""
PROBE_EVERY: Final = 4.0
"""Interval in seconds of probes of the pool."""
PROBE_LIMIT: Final = 30.0
"""Seconds after which a process that has started a probe without finishing it is killed and replaced."""
PROBE_GIVEN_UP: Final = 2 * PROBE_LIMIT
"""Seconds after which another process is probed if one has not even started its probe."""

_log = logging.getLogger(__name__)
_errors = (redis.RedisError, OSError)


class Presence:
    """What the parent of one worker does at every heartbeat."""

    def __init__(self, settings: Settings, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = connect_blocking(settings.redis_url or "")
        self._name = name
        self._entry = Key(f"{WORKER_PREFIX}{name}").under(settings.key_prefix)
        self._swept = SWEPT.under(settings.key_prefix)
        self._swept_idle = SWEPT_IDLE.under(settings.key_prefix)
        self._active = ACTIVE.under(settings.key_prefix)
        self._clock = clock
        self._worker: Any = None
        self._probed: float | None = None
        self._probing = False
        sweep_every = settings.job_lease / SWEEPS_PER_LEASE
        # A little less, so that a heartbeat exactly at the interval is not too early.
        self._sweep_every_ms = max(1, int(950 * sweep_every))
        self.beat_every = min(LONGEST_BEAT, max(1.0, sweep_every))
        """Seconds between two heartbeats of this worker."""
        self._since = time.time()

    def started(self, sender: Any = None, **_: Any) -> None:
        """The consumer is connected; ``sender`` is the consumer."""
        self._worker = sender.controller
        self.beat()

    def beat(self, **_: Any) -> None:
        """Registers this worker; requests a sweep and probes the pool if the last time is not recent."""
        self._probe_pool()
        who = {
            "name": self._name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(self._since),
            **self._load(),
        }
        try:
            self._redis.set(self._entry, json.dumps(who), ex=PRESENT_FOR)
            if self._redis.exists(self._active):
                recent, pause_ms = self._swept, self._sweep_every_ms
            else:
                recent, pause_ms = self._swept_idle, max(self._sweep_every_ms, int(IDLE_SWEEP * 1000))
            due = self._redis.set(recent, self._name, nx=True, px=pause_ms)
            if not due and self._redis.pttl(recent) == -1:  # changed manually: there would never be a sweep again
                self._redis.pexpire(recent, pause_ms)
        except _errors as error:
            _log.warning("the worker cannot be registered: %s", translated("register worker", error))
            return
        if due:
            self._ask_for_sweep()

    def _load(self) -> dict[str, int]:
        """How many steps it can run concurrently, and how many it runs; a probe occupies a slot but is not a step."""
        if self._worker is None:
            return {}
        slots, free = self._worker.semaphore.initial_value, self._worker.semaphore.value
        return {"slots": slots, "busy": max(0, slots - free - self._probing)}

    def _probe_pool(self) -> None:
        """One probe at a time, and none while every process runs a step: then the steps show the health."""
        now = self._clock()
        recent = self._probed is not None and now - self._probed < (PROBE_GIVEN_UP if self._probing else PROBE_EVERY)
        if self._worker is None or recent or self._worker.semaphore.value <= 0:
            return
        self._probed, self._probing = now, True
        # Like Celery for a step: the pool is not given more than it has processes.
        self._worker.semaphore.acquire(self._send_probe)

    def _send_probe(self) -> None:
        self._worker.pool.apply_async(
            probe, (), {}, callback=self._probe_ended, error_callback=self._probe_ended, timeout=PROBE_LIMIT
        )

    def _probe_ended(self, _: Any) -> None:
        self._probing = False

    def leave(self, **_: Any) -> None:
        """Unregisters this worker."""
        try:
            self._redis.delete(self._entry)
            self._redis.close()
        except _errors as error:
            _log.debug("the worker cannot be unregistered: %s", type(error).__name__)

    def _ask_for_sweep(self) -> None:
        from catalog_sync.worker.celery_app import UNSAMPLED, app

        try:
            app.tasks[SWEEP_TASK].apply_async(headers=UNSAMPLED, expires=PRESENT_FOR, retry=False)
        except Exception as error:  # noqa: BLE001  whatever the broker raises: the next heartbeat tries again
            _log.warning("a sweep could not be requested: %s", type(error).__name__)


def announce(settings: Settings, name: str) -> Presence:
    """Does all this from the first heartbeat of the worker in this process to its end."""
    presence = Presence(settings, name)
    signals.worker_ready.connect(presence.started, weak=False)
    signals.heartbeat_sent.connect(presence.beat, weak=False)
    signals.worker_shutdown.connect(presence.leave, weak=False)
    return presence
