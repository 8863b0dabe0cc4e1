"""Dataclasses as JSON and back. What a file or a store returns may have been edited, or be from another version."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

LARGEST: Final = 2**63
"""Bound on the magnitude of stored numbers."""
LAST_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999, since the epoch."""

_PLAIN: Final = frozenset({str, int, bool, types.NoneType})
_SERIES: Final = (list, tuple, deque)


def dumped(value: Any) -> Any:
    """``value`` as JSON types, in new lists and dicts: an enumeration by its value, infinity as ``null``."""
    if type(value) in _PLAIN:  # by far the most frequent case
        return value
    if isinstance(value, float):
        return None if math.isinf(value) else value
    if isinstance(value, _SERIES):
        return [dumped(each) for each in value]
    if isinstance(value, Mapping):
        return {key: dumped(each) for key, each in value.items()}
    if isinstance(value, enum.Enum):
        return value.value
    return {field.name: dumped(getattr(value, field.name)) for field in dataclasses.fields(value)}


def fields_of(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``kind`` from what :func:`dumped` made of them. Unknown names are ignored: another version may have
    stored more. Raises ``TypeError`` naming the first field with a value of the wrong type."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{type(values).__name__} is not a mapping")
    hints = _hints(kind)
    return {name: _field(name, value, hints[name]) for name, value in values.items() if name in hints}


def _field(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(**fields_of(kind, value))
    try:
        return restored(value, kind)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not of its type") from error


def check_times(times: Iterable[float | None]) -> None:
    """Raises ``ValueError`` for a number outside the range of times since the epoch; ``None`` is accepted."""
    for at in times:
        if at is not None and not 0 <= at <= LAST_TIME:
            raise ValueError(f"{at!r} is not a time")


def restored(value: Any, kind: Any) -> Any:
    """A value read from JSON as the annotated type ``kind``. Raises ``TypeError`` or ``ValueError`` if it does not fit:
    numbers must be finite, strings encodable."""
    origin, inner = _parts(kind)
    if kind is Any:
        return value
    if origin is typing.Union or origin is types.UnionType:
        if value is None and types.NoneType in inner:
            return None
        return restored(value, next((each for each in inner[:-1] if fits(value, each)), inner[-1]))
    if origin in _SERIES and isinstance(value, _SERIES):
        several = origin is not tuple or inner[-1] is Ellipsis
        kinds = inner[:1] * len(value) if several else inner
        return origin(restored(each, its_kind) for each, its_kind in zip(value, kinds, strict=True))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {restored(key, inner[0]): restored(each, inner[1]) for key, each in value.items()}
    if not _is_one(value, kind):
        raise TypeError(f"{type(value).__name__} does not fit")
    return kind(value) if issubclass(kind, (float, enum.Enum)) else value


def fits(value: object, kind: Any) -> bool:
    """Whether a value read from JSON fits an annotated type."""
    try:
        restored(value, kind)
    except (TypeError, ValueError):
        return False
    return True


def is_small(number: float) -> bool:
    """Whether a number can be stored: finite, and of less than 64 bits."""
    return abs(number) < LARGEST


def _is_one(value: object, kind: Any) -> bool:
    """Whether it is of a type that is not a container."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is int or kind is float:
        return isinstance(value, (int, kind)) and is_small(value)
    if kind is str:
        return isinstance(value, str) and _is_encodable(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return isinstance(value, kind) or any(value == each.value for each in kind)
    return isinstance(kind, type) and isinstance(value, kind)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(kind), typing.get_args(kind)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate
        return False
    return True
