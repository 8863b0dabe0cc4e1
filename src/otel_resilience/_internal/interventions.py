"""What changes calls from outside, process-wide: the off switch, and faults that are injected.

Calls look at :data:`active` alone; what it means is found out only where it is set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Final

from otel_resilience._internal.forks import ProcessLock

VARIABLE: Final = "OTEL_RESILIENCE_DISABLED"

Wrap = Callable[[Any, str, Callable[[], Any], bool], Callable[[], Any]]
"""From a policy, the operation's name, the operation and whether it is async to the operation that is run."""

_lock = ProcessLock()
_value = os.environ.get(VARIABLE, "").strip().lower()
if _value not in {"", "true", "false"}:
    # Not by a logger, which is hardly ever set up when this is imported.
    warnings.warn(f"{VARIABLE} must be true or false, not {_value!r}: nothing is switched off", stacklevel=2)
_depth = int(_value == "true")
"""How many blocks, and the variable, have switched the protection off."""

off = _depth > 0
"""Calls are made once and unprotected."""
wrappers: tuple[Wrap, ...] = ()
"""What injects faults, the first one innermost."""
active = off
"""Whether any of the two is set."""


def count_off(change: int) -> bool:
    """Switches the protection off (1) or undoes that (-1). Whether that changed anything."""
    global _depth, off  # one switch per process
    with _lock:
        _depth += change
        changed = off != (_depth > 0)
        off = _depth > 0
        _refresh()
    return changed


def add(wrapper: Wrap) -> None:
    """Lets ``wrapper`` change operations from now on."""
    global wrappers  # one list per process
    with _lock:
        wrappers = (*wrappers, wrapper)
        _refresh()


def remove(wrapper: Wrap) -> None:
    """Undoes :func:`add`."""
    global wrappers  # one list per process
    with _lock:
        wrappers = tuple(each for each in wrappers if each is not wrapper)
        _refresh()


def _refresh() -> None:
    global active  # as above
    active = off or bool(wrappers)
