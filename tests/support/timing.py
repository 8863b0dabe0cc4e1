"""Measured time on a machine that may be busy.

Load only makes things slower. So a bound far away from the limit under test is asserted directly; a narrow one applies
to the fastest of a few tries, since what is slow by itself is slow in each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIES = 5


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Asserts that the block ends within ``seconds``."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"it took {took:.3f} s"


def seconds_of(act: Callable[[], object]) -> float:
    """The duration of a call."""
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
