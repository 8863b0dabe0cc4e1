"""Messages that no task can handle: Celery would only log and drop them; here they are set aside and counted."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import redis
from celery import signals

from catalog_sync.domain.times import utc_now
from catalog_sync.jobs import scripts
from catalog_sync.jobs.keys import DEAD, DEAD_COUNT
from catalog_sync.jobs.ledger import KEPT_LETTERS
from catalog_sync.jobs.records import dead_letter
from catalog_sync.store.client import connect_blocking
from catalog_sync.worker.transport import GuardedChannel
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

MAX_TEXT: Final = 300

_log = logging.getLogger(__name__)


class DeadLetters:
    """Sets messages aside. Lives in the parent process of a worker, where messages arrive."""

    def __init__(self, client: redis.Redis, *, prefix: str = "") -> None:
        self._redis = client
        self._keys = (DEAD.under(prefix), DEAD_COUNT.under(prefix))

    def unknown(self, message: Any = None, name: str | None = None, exc: BaseException | None = None, **_: Any) -> None:
        """A message for a task that does not exist."""
        self._add("unknown task", name, message, exc)

    def rejected(self, message: Any = None, exc: BaseException | None = None, **_: Any) -> None:
        """A message that is not valid."""
        self._add("unreadable message", None, message, exc)

    def unreadable(self, entry: bytes, error: Exception) -> None:
        """An entry of the queue that is not a message."""
        self._add("unreadable entry", None, entry, error)

    def _add(self, reason: str, task: str | None, message: Any, error: BaseException | None) -> None:
        body = getattr(message, "body", message)
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
        step = None if task is None else redact(task)[:MAX_TEXT]
        why = reason if error is None else f"{reason}: {redact(str(error))[:MAX_TEXT]}"
        letter = {**dead_letter(utc_now(), why, step=step), "body": redact(text)[:MAX_TEXT]}
        _log.error("a message is a dead letter: %s", reason)
        try:
            self._redis.eval(scripts.ADD_DEAD_LETTER, 2, *self._keys, json.dumps(letter), KEPT_LETTERS)
        except (redis.RedisError, OSError) as failure:
            _log.error("a dead letter could not be stored: %s", type(failure).__name__)


def watch(settings: Settings) -> DeadLetters:
    """From now on sets aside what the worker in this process cannot handle."""
    letters = DeadLetters(connect_blocking(settings.redis_url or ""), prefix=settings.key_prefix)
    GuardedChannel.unreadable = staticmethod(letters.unreadable)
    signals.task_unknown.connect(letters.unknown, weak=False)
    signals.task_rejected.connect(letters.rejected, weak=False)
    return letters
