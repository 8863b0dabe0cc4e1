"""``time.sleep``, which may be replaced after this library was imported: by gevent, or by a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_AT_IMPORT: Final = time.sleep


def wait(sleep: Callable[[float], object], seconds: float) -> None:
    """Waits by ``sleep``; where that is the default of a parameter, by what ``time.sleep`` is now."""
    if sleep is _AT_IMPORT:
        sleep = time.sleep
    sleep(seconds)
