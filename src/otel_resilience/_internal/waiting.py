"""Waiting with ``time.sleep``, which gevent or a test may replace after this library was imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_AT_IMPORT: Final = time.sleep


def wait(sleep: Callable[[float], object], seconds: float) -> None:
    """Waits with ``sleep``; if that is the ``time.sleep`` of import time, with the current one."""
    if sleep is _AT_IMPORT:
        sleep = time.sleep
    sleep(seconds)
