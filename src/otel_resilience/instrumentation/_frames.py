"""Locates a block that another library protects: the function around it can only be found from its frame."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from types import FrameType
from typing import NamedTuple

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_OURS = __name__.partition(".")[0]


class Place(NamedTuple):
    """A function, or a block in one."""

    module: str
    operation: str
    function: object
    generator: bool
    """Whether the caller of that function runs while the block is open."""


def callers(frame: FrameType | None, skipped: Collection[str]) -> Iterator[FrameType]:
    """The frame and its callers, without those of this library and of the ``skipped`` packages."""
    while frame is not None:
        if package_of(frame) != _OURS and package_of(frame) not in skipped:
            yield frame
        frame = frame.f_back


def package_of(frame: FrameType) -> str:
    """The top-level package of the code running there."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def place_of(frame: FrameType, function: object = None) -> Place:
    """The block in that frame; or ``function``, which is called there."""
    name = frame.f_code.co_name
    return Place(
        str(getattr(function, "__module__", None) or frame.f_globals.get("__name__", "unknown")),
        "call" if name.startswith("<") else name,
        function,
        bool(frame.f_code.co_flags & _GENERATORS),
    )
