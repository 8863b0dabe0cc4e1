"""Cutting an attempt short when its time limit passes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from otel_resilience._call import Call
from otel_resilience.correlation import correlation_id

T = TypeVar("T")


def run_limited(operation: Callable[[], T], limit: float, call: Call) -> T:
    """Runs a ``def`` operation for at most ``limit`` seconds, in a thread that is left behind when they pass."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented for such use, and does not raise
        return operation()
    correlation_id()  # made here where there is none, so that all attempts and their error share it
    context = contextvars.copy_context()
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            results.append(context.run(operation))
        except BaseException as error:  # noqa: BLE001  # handed to the caller's thread
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=work, name=f"attempt {call.policy.dependency}", daemon=True).start()
    if not ended.wait(min(limit, threading.TIMEOUT_MAX)):
        raise call.time_limit_error(limit)
    if errors:
        raise errors.pop()
    return results.pop()


async def run_limited_async(operation: Callable[[], Awaitable[T]] | Awaitable[T], limit: float, call: Call) -> T:
    """Awaits an operation for at most ``limit`` seconds, then cancels it."""
    try:
        async with asyncio.timeout(limit) as scope:
            return await (operation() if callable(operation) else operation)
    except TimeoutError as error:
        if scope.expired():
            raise call.time_limit_error(limit) from error
        raise
