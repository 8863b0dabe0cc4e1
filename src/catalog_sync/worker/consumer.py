"""Celery's consumer with a pause before it reconnects."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import ClassVar, Final

from celery.worker.consumer import Consumer

FIRST_PAUSE: Final = 0.4
"""Seconds before the first reconnection, doubled with each error in quick succession, up to :data:`LONGEST_PAUSE`."""
LONGEST_PAUSE: Final = 3.0
"""Maximum of those pauses in seconds."""
CALM_AFTER: Final = 10.0
"""Seconds without an error after which the pauses are short again."""


class Pauses:
    """How long to wait before the next connection: exponential with equal jitter, so that many workers spread out.

    ``clock`` is monotonic, in seconds; ``draw`` gives numbers from 0 to 1.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._draw = draw
        self._last: float | None = None
        self._longest = FIRST_PAUSE

    def after_error(self) -> float:
        """Seconds to wait after an error now."""
        now = self._clock()
        calm = self._last is None or now - self._last > CALM_AFTER
        self._longest = FIRST_PAUSE if calm else min(2 * self._longest, LONGEST_PAUSE)
        self._last = now
        return self._longest * (1 + self._draw()) / 2


class SteadyConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery reconnects immediately if a connection can be made; this spares a server that is up but refuses."""

    pauses: ClassVar = Pauses()
    sleep = staticmethod(time.sleep)

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Logs it like Celery, and waits."""
        super().on_connection_error_before_connected(exc)
        self.sleep(self.pauses.after_error())

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Logs it like Celery, and waits."""
        super().on_connection_error_after_connected(exc)
        self.sleep(self.pauses.after_error())
