"""Checks of configuration values; every message names the parameter and the value."""

from __future__ import annotations

import math
import re
import sys
from types import NoneType
from typing import Final

from otel_resilience._internal.operations import is_coroutine_function

_USER_INFORMATION: Final = re.compile(r"(?<=://)[^/\s?#]*@")


def shown(value: object) -> str:
    """The value as messages show it. A URL in the wrong place is reduced to its scheme: it may contain a password."""
    text = repr(value)
    scheme, mark, _ = text.partition("://")
    return f"{scheme}{mark}***" if mark else text


def number(name: str, value: object, *, minimum: float, exclusive: bool = False, maximum: float = math.inf) -> float:
    """``value`` as a float within bounds. Raises ``TypeError`` if it is not a number (a ``bool`` is not),
    ``ValueError`` if it is NaN, infinite or out of bounds."""
    if type(value) is float and minimum < value < maximum:  # by far the most frequent case
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    try:
        amount = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be finite, and no integer that is too large for a float") from error
    if math.isnan(amount) or amount > maximum or amount < minimum or (exclusive and amount == minimum):
        least = "a number" if math.isinf(minimum) else f"at least {minimum:g}"
        above = f"greater than {minimum:g}" if exclusive else least
        bound = "" if math.isinf(maximum) else f" and at most {maximum:g}"
        raise ValueError(f"{name} must be {above}{bound}, not {shown(value)}")
    if math.isinf(amount):
        raise ValueError(f"{name} must be finite, not {shown(value)}")
    return amount


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """A duration in seconds."""
    return number(name, value, minimum=0, exclusive=not zero)


def count(name: str, value: object, *, minimum: int = 1) -> int:
    """A whole number of at least ``minimum`` and at most ``sys.maxsize``, which means "no limit"."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {shown(value)}")
    if value > sys.maxsize:
        raise ValueError(f"{name} must be at most {sys.maxsize}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {shown(value)}")
    return value


def label(name: str, value: object) -> str:
    """A non-empty string for a span or metric attribute. An enumeration member gives its value, a URL loses its user
    and password."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a non-empty string, not {shown(value)}")
    if "://" in value:
        value = _USER_INFORMATION.sub("***@", value)
    return value if type(value) is str else str.__str__(value)  # not "Class.MEMBER" for an enumeration


def optional_flag(name: str, value: object) -> bool | None:
    """``True``, ``False``, or ``None`` if unspecified; no other value that is merely truthy or falsy."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, not {shown(value)}")
    return value


def optional_label(name: str, value: object) -> str | None:
    """Like :func:`label`, or ``None``."""
    return None if value is None else label(name, value)


def instance(name: str, value: object, *kinds: type) -> None:
    """Raises ``TypeError`` if ``value`` is an instance of none of these types."""
    if not isinstance(value, kinds):
        expected = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be {_article(expected)} {expected}, not {shown(value)}")


def function(name: str, value: object) -> None:
    """Raises ``TypeError`` if ``value`` cannot be called, or is a class."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a function, not {shown(value)}")


def def_function(name: str, value: object) -> None:
    """Like :func:`function`, and refuses an ``async def``."""
    function(name, value)
    if is_coroutine_function(value):
        raise TypeError(f"{name} must be a def function, not {shown(value)}")


def text(name: str, value: object) -> str:
    """A string, possibly empty. Raises ``TypeError``."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {shown(value)}")
    return value


def secret_text(name: str, value: object) -> str:
    """Like :func:`text`, for values that no message may show."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {_article(type(value).__name__)} {type(value).__name__}")
    return value


def optional_text(name: str, value: object) -> str | None:
    """Like :func:`text`, or ``None``."""
    return None if value is None else text(name, value)


def series(name: str, value: object, kind: type) -> None:
    """Raises ``TypeError`` unless ``value`` is a tuple, list or set of instances of ``kind``."""
    if not isinstance(value, (tuple, list, set, frozenset)) or not all(isinstance(each, kind) for each in value):
        raise TypeError(f"{name} must hold {kind.__name__} alone, not be {shown(value)}")


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOUaeiou" else "a"
