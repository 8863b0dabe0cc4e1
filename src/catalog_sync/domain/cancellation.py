"""A cancellation always passes, also through a library that swallows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def heeding_cancellation(operation: Awaitable[T]) -> T:
    """Await a call of redis-py; raise ``CancelledError`` also where redis-py swallowed it.

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
