"""Waits before retries, and what an event loop means for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_resilience.policy.call import Call

running_loop = asyncio._get_running_loop  # noqa: SLF001  # documented for such use, and does not raise


def wait(delay: float, call: Call) -> None:
    """Waits in the thread of the caller."""
    if running_loop() is not None:
        warn_of_loop(call, "the waits before retries block the loop for")
    call.policy.sleep(delay)


def can_wait_async(call: Call) -> bool:
    """Whether ``async_sleep`` works here; says once where it does not."""
    policy = call.policy
    if policy.async_sleep is not asyncio.sleep or running_loop() is not None:
        return True
    policy.warn_once(
        "async_sleep",
        f"{call.operation}: asyncio.sleep cannot wait outside asyncio, so the error was not retried; "
        "set async_sleep to that of the running framework, such as trio.sleep",
    )
    return False


def check_can_cut(call: Call) -> None:
    """Raises ``RuntimeError`` where nothing can cut an ``async def``."""
    if running_loop() is None:
        raise RuntimeError(f"no running event loop of asyncio, which alone can cut {call.operation}")


def warn_of_loop(call: Call, what: str) -> None:
    """Says once what a ``def`` does, or does not get, within an event loop."""
    call.policy.warn_once(
        what,
        f"{call.operation}: within a running event loop {what} a def operation; "
        "make it an async def, or call it with asyncio.to_thread",
    )
