"""A cancellation always passes, also through a library that swallows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def heeding_cancellation(operation: Awaitable[T]) -> T:
    """Await a call of redis-py; raise ``CancelledError`` also if redis-py swallowed it.

    redis-py sends with ``asyncio.wait_for``, which before Python 3.12 answers a cancellation with the result or the
    error that came at the same moment.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        result = await operation
    except Exception as error:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def finished(work: Awaitable[None]) -> None:
    """Await ``work`` to its end, also while cancelled; the cancellation passes after it.

    For what cannot be called back half way, and ends soon.
    """
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            interrupted = error
    task.result()
    if interrupted is not None:
        raise interrupted
