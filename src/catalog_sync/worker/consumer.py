"""Celery's consumer with a pause before it connects again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import ClassVar, Final

from celery.worker.consumer import Consumer

FIRST_PAUSE: Final = 0.4
"""Seconds before the first new connection, doubled with each error that follows soon, up to:"""
LONGEST_PAUSE: Final = 3.0
"""Seconds."""
CALM_AFTER: Final = 10.0
"""Seconds without an error after which the pauses are short again."""


class Pauses:
    """How long to wait before the next connection: exponential with equal jitter, so that a fleet spreads.

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
    """Celery connects again at once if a connection could be made; a server that is up and refuses is asked less."""

    pauses: ClassVar = Pauses()
    sleep = staticmethod(time.sleep)

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Log it as Celery does, and wait."""
        super().on_connection_error_before_connected(exc)
        self.sleep(self.pauses.after_error())

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Log it as Celery does, and wait."""
        super().on_connection_error_after_connected(exc)
        self.sleep(self.pauses.after_error())
