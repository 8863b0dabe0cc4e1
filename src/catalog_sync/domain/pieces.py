"""Long work on the event loop, done in pieces: other tasks run between two of them.

A request with its rate limit permit, a health check and the renewal of a lock wait for one piece at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")

PIECE: Final = 100
"""Bundles that are encoded, decoded or checked in one piece: about a millisecond."""


async def in_pieces(items: Iterable[T], size: int = PIECE) -> AsyncIterator[list[T]]:
    """``items`` in lists of at most ``size``; other tasks run before each list but the first.

    ``items`` is iterated meanwhile, so it must not change.
    """
    iterator = iter(items)
    piece = list(islice(iterator, size))
    while piece:
        yield piece
        piece = list(islice(iterator, size))
        if piece:
            await let_others_run()


async def let_others_run() -> None:
    """Lets the event loop run everything that is ready, once."""
    await asyncio.sleep(0)
