"""Measured time on a machine that may be busy.

Load only ever adds to what something takes. So a bound that stands apart from the limit under test by a wide margin is
asserted at once; a narrow one is kept by the quickest of a few tries, for what is slow by itself is slow in each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIES = 5


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """The block ends within that many seconds."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"it took {took:.3f} s"


def seconds_of(act: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def quickest(measure: Callable[[], float], good: float, tries: int = TRIES) -> float:
    """The minimum that ``measure`` returns in a few tries; stops once it is no more than ``good``."""
    least = measure()
    for _ in range(tries - 1):
        if least <= good:
            break
        least = min(least, measure())
    return least
