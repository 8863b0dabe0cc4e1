"""Whether what a file or a store gave back can be what was stored: it may have been changed by hand, or be of another
version."""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

LARGEST: Final = 2**63
"""Numbers are smaller, also below zero."""
LAST_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999, since the epoch."""

_SERIES: Final = (list, tuple, deque)


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raises ``TypeError`` naming the first value that is not of the type with which ``kind`` annotates its name."""
    hints = _hints(kind)
    for name, value in values.items():
        if not fits(value, hints[name]):
            raise TypeError(f"{name} is not of its type")


def known_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that ``kind`` has: another version may have stored more. Raises ``TypeError`` where it is no
    mapping."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{type(values).__name__} is not a mapping")
    hints = _hints(kind)
    return {name: value for name, value in values.items() if name in hints}


def check_times(times: Iterable[float | None]) -> None:
    """Raises ``ValueError`` for a number that is no moment since the epoch; ``None`` is left alone."""
    for at in times:
        if at is not None and not 0 <= at <= LAST_TIME:
            raise ValueError(f"{at!r} is not a time")


def fits(value: object, kind: Any) -> bool:
    """Whether a value read from JSON is of an annotated type. A number is finite, a text can be encoded, and an
    enumeration is given by a member or by its value."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and abs(value) < LARGEST
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) < LARGEST
    if kind is str:
        return isinstance(value, str) and _is_encodable(value)
    if origin is tuple and inner[-1] is not Ellipsis:
        return isinstance(value, _SERIES) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in _SERIES:
        return isinstance(value, _SERIES) and all(fits(each, inner[0]) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return isinstance(value, kind) or any(value == each.value for each in kind)
    return isinstance(value, kind)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a pair of surrogates
        return False
    return True
