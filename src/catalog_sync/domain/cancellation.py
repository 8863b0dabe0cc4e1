"""Cancellation that always takes effect, even through a library that swallows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def heeding_cancellation(operation: Awaitable[T]) -> T:
    """Awaits a call of redis-py; raises ``CancelledError`` even if redis-py swallowed it.

    redis-py sends with ``asyncio.wait_for``, which before Python 3.12 discards a cancellation if the result or the
    error came at the same moment.
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
    """Awaits ``work`` to its end, even while cancelled; the cancellation is raised after it.

    For work that cannot be aborted half-way, and ends soon.
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
