"""Checks of configuration values; every message names the parameter and the value."""

from __future__ import annotations

import math
from typing import TypeVar

T = TypeVar("T")


def number(name: str, value: object, *, minimum: float, exclusive: bool = False, maximum: float = math.inf) -> float:
    """``value`` as a float within bounds. Raises ``TypeError`` for what is no number (``bool`` is none), ``ValueError``
    for NaN, infinity and what lies outside."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if math.isnan(value) or value > maximum or value < minimum or (exclusive and value == minimum):
        least = "a number" if math.isinf(minimum) else f"at least {minimum:g}"
        above = f"greater than {minimum:g}" if exclusive else least
        bound = "" if math.isinf(maximum) else f" and at most {maximum:g}"
        raise ValueError(f"{name} must be {above}{bound}, not {value!r}")
    if math.isinf(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return float(value)


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """A duration in seconds."""
    return number(name, value, minimum=0, exclusive=not zero)


def count(name: str, value: object, *, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {value!r}")
    return value


def label(name: str, value: object) -> str:
    """A non-empty string for a span or a metric attribute."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a non-empty string, not {value!r}")
    return value


def instance(name: str, value: T, *kinds: type) -> T:
    """A value of one of these types. Raises ``TypeError``."""
    if not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be of type {expected}, not {value!r}")
    return value


def function(name: str, value: T) -> T:
    """Something to be called. Raises ``TypeError``."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    return value
