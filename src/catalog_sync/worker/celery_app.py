"""The Celery application and its tasks, kept small so that a process that only sends messages loads little."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from celery import Celery

from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.worker.celery_settings import (
    DUE_TASK,
    FETCH_TASK,
    PLAN_TASK,
    PUBLISH_TASK,
    SWEEP_TASK,
    celery_settings,
)

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from catalog_sync.worker.steps import Worker

UNSAMPLED: Final = {"traceparent": f"00-{'5' * 32}-{'5' * 16}-00"}
"""Headers of messages that no request caused: housekeeping every few seconds creates no traces."""

CELERY_PREFIX: Final = "CELERY_"
"""Prefix of the variables that Celery reads itself."""

_log = logging.getLogger(__name__)

RunStep = Callable[[Callable[["Worker"], Awaitable[None]]], None]
"""Runs one step to its end."""

_run_step: RunStep | None = None

# The loader by name: CELERY_LOADER is read before anything can be ignored.
app: Final = Celery("catalog-worker", loader="app", set_as_current=True)


def configure(settings: Settings) -> Celery:
    """Configures the application. Call it once per process, before anything is sent or run.

    Celery lets its own environment variables override what an application sets; here they are ignored, which is logged.
    Raises ``ConfigurationError`` if there is no ``REDIS_URL``.
    """
    for name in sorted(name for name in os.environ if name.startswith(CELERY_PREFIX)):
        if os.environ.pop(name):
            _log.warning("%s is ignored: the broker is the Redis of REDIS_URL, the rest is set here", name)
    app.conf.update(celery_settings(settings))
    return app


def run_steps_with(run_step: RunStep) -> None:
    """Sets how this process runs steps. For the processes of a worker's pool; others only send."""
    global _run_step  # one pool per process
    _run_step = run_step


def _run(step: Callable[[Worker], Awaitable[None]]) -> None:
    if _run_step is None:
        raise RuntimeError("this is not a process of a worker pool")
    _run_step(step)


@app.task(name=PLAN_TASK)
def plan(job_id: str) -> None:
    """The first step of a sync: the lock and the list of groups."""
    _run(lambda worker: worker.do(job_id, PLAN))


@app.task(name=FETCH_TASK)
def fetch(job_id: str, number: int) -> None:
    """Fetch one scope of a sync and stage it."""
    _run(lambda worker: worker.do(job_id, step_of(number)))


@app.task(name=PUBLISH_TASK)
def publish(job_id: str) -> None:
    """The last step of a sync: merge, guard, publish, report."""
    _run(lambda worker: worker.do(job_id, PUBLISH))


@app.task(name=SWEEP_TASK)
def sweep() -> None:
    """Sends lost steps again, ends abandoned jobs."""
    _run(lambda worker: worker.sweep())


@app.task(name=DUE_TASK)
def due() -> None:
    """Requests a full sync if one is due."""
    _run(lambda worker: worker.ask_if_due())
