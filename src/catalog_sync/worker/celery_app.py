"""The Celery application and its tasks: thin, so that a process that only sends messages loads little."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from celery import Celery

from catalog_sync.worker.celery_settings import celery_settings
from catalog_sync.worker.sender import DUE_TASK, FETCH_TASK, PLAN_TASK, PUBLISH_TASK, SWEEP_TASK

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

UNSAMPLED: Final = {"traceparent": f"00-{'5' * 32}-{'5' * 16}-00"}
"""Headers of messages that nobody asked for: looking after jobs every few seconds makes no traces."""

CELERY_VARIABLES: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
    "CELERY_CONFIG_MODULE",
)
"""Variables that Celery reads itself."""

_log = logging.getLogger(__name__)

app: Final = Celery("catalog-worker", set_as_current=True)


def configure(settings: Settings) -> Celery:
    """Gives the application its settings. Once per process, before anything is sent or run.

    Celery lets variables of its own in the environment win over what an application sets; here they do not count, and a
    line in the log says so. Raises ``ConfigurationError`` where there is no ``REDIS_URL``.
    """
    for name in CELERY_VARIABLES:
        if os.environ.pop(name, None):
            _log.warning("%s is ignored: the broker is the Redis of REDIS_URL", name)
    app.conf.update(celery_settings(settings))
    return app


@app.task(name=PLAN_TASK)
def plan(job_id: str) -> None:
    """The first step of a sync: the lock and the list of groups."""
    from catalog_sync.worker.process import current  # workers alone load it

    current().run(lambda worker: worker.plan(job_id))


@app.task(name=FETCH_TASK)
def fetch(job_id: str, number: int) -> None:
    """Fetch one scope of a sync and stage it."""
    from catalog_sync.worker.process import current  # workers alone load it

    current().run(lambda worker: worker.fetch(job_id, number))


@app.task(name=PUBLISH_TASK)
def publish(job_id: str) -> None:
    """The last step of a sync: merge, guard, publish, report."""
    from catalog_sync.worker.process import current  # workers alone load it

    current().run(lambda worker: worker.publish(job_id))


@app.task(name=SWEEP_TASK)
def sweep() -> None:
    """Send lost steps again, end abandoned jobs."""
    from catalog_sync.worker.process import current  # workers alone load it

    current().run(lambda worker: worker.sweep())


@app.task(name=DUE_TASK)
def due() -> None:
    """Ask for a full sync where one is due."""
    from catalog_sync.worker.process import current  # workers alone load it

    current().run(lambda worker: worker.ask_if_due())
