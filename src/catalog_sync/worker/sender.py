"""Messages to the workers, one per step, sent through Celery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context

from catalog_sync.jobs.records import PLAN, PUBLISH, number_of
from catalog_sync.observability.sdk import extract_context, inject_context
from catalog_sync.worker.celery_app import app
from catalog_sync.worker.celery_settings import FETCH_TASK, PLAN_TASK, PUBLISH_TASK, QUEUE_KEY

if TYPE_CHECKING:
    from catalog_sync.jobs.ledger import JobLedger

_TASKS: Final = {PLAN: PLAN_TASK, PUBLISH: PUBLISH_TASK}
_LEAST: Final = {PUBLISH: 2.0}
"""Minimum seconds between two messages: several ending steps may request the last one."""

_log = logging.getLogger(__name__)


class CelerySender:
    """Sends the steps of jobs. A message that cannot be sent is not an error: the sweep sends it later."""

    def __init__(self, ledger: JobLedger) -> None:
        self._ledger = ledger

    async def send(self, job_id: str, step: str, carrier: Mapping[str, str] | None = None, *, every: float = 0) -> None:
        if not await self._ledger.to_send(job_id, step, at_most_every=max(every, _LEAST.get(step, 0))):
            return
        number = number_of(step)
        task = _TASKS.get(step, FETCH_TASK)
        args = [job_id] if number is None else [job_id, number]
        token = None if carrier is None else otel_context.attach(extract_context(carrier))
        try:
            await asyncio.to_thread(_apply, task, args, inject_context())
        except Exception as error:  # noqa: BLE001  whatever the broker raises: the ledger knows the step, the sweep sends it
            _log.warning(
                "%s of job %s could not be sent (%s); it will be sent again", step, job_id, type(error).__name__
            )
        finally:
            if token is not None:
                otel_context.detach(token)

    async def waiting(self) -> int:
        return int(await self._ledger.redis.command("read queue length", "LLEN", QUEUE_KEY))


def _apply(task: str, args: Sequence[object], headers: dict[str, str]) -> None:
    # The task is registered in this process as well: the official instrumentation does not end the span of a message
    # whose task it cannot find. Without spans the headers contain what it would otherwise overwrite them with.
    app.tasks[task].apply_async(args, headers=headers)
