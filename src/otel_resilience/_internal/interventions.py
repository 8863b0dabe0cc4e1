"""Process-wide interventions in calls: the off switch, and injected faults.

Calls check only :data:`active`; the details are looked at only if it is set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Final

from otel_resilience._internal.forks import ProcessLock

VARIABLE: Final = "OTEL_RESILIENCE_DISABLED"

Wrap = Callable[[Any, str, Callable[[], Any], bool], Callable[[], Any]]
"""Maps a policy, the operation's name, the operation and whether it is async to the operation that is run instead."""

_lock = ProcessLock()
_value = os.environ.get(VARIABLE, "").strip().lower()
if _value not in {"", "true", "false"}:
    # A warning, because logging is hardly ever configured when this module is imported.
    warnings.warn(f"{VARIABLE} must be true or false, not {_value!r}: nothing is switched off", stacklevel=2)
_depth = int(_value == "true")
"""How many blocks, plus the environment variable, have switched the protection off."""

off = _depth > 0
"""Calls are made once and unprotected."""
wrappers: tuple[Wrap, ...] = ()
"""The fault injectors, the first one innermost."""
active = off
"""Whether either of the two is set."""


def count_off(change: int) -> bool:
    """Switches the protection off (1) or undoes that (-1). Returns whether that changed anything."""
    global _depth, off  # one switch per process
    with _lock:
        _depth += change
        changed = off != (_depth > 0)
        off = _depth > 0
        _refresh()
    return changed


def add(wrapper: Wrap) -> None:
    """Lets ``wrapper`` wrap operations from now on."""
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
    global active  # one flag per process
    active = off or bool(wrappers)
