"""Waits before retries and for limits, and their consequences on an event loop."""

from __future__ import annotations

import asyncio
import functools
import math
from typing import TYPE_CHECKING

from otel_resilience._internal.operations import running_loop
from otel_resilience._internal.waiting import wait
from otel_resilience.errors import LimitError

if TYPE_CHECKING:
    from otel_resilience.limits.concurrency import ConcurrencyLimiter
    from otel_resilience.policy.call import Call


def _wait(delay: float, call: Call, what: str) -> None:
    if running_loop() is not None:
        warn_of_loop(call, f"the waits {what} block the loop for")
    wait(call.policy.sleep, delay)


def wait_for_turn(delay: float, call: Call) -> None:
    """Waits in the caller's thread for ``delay`` seconds, then for the call's slot, once, and for the attempt's permit.

    Raises :class:`~otel_resilience.LimitError` if they are not available in time. It does not wait while the circuit is
    open; the attempt checks the circuit again after the waits.
    """
    if delay > 0:
        _wait(delay, call, "before retries")
    slots, rate = call.policy.concurrency_limiter, call.policy.rate_limiter
    try:
        if slots is not None and call.slots is None:
            if not slots.take():
                call.check_circuit()
                in_loop = running_loop() is not None
                if in_loop:
                    warn_of_loop(call, "the waits for a slot block the loop for")
                slots.acquire(within=_slot_within(call, slots, in_loop=in_loop))
            call.slots = slots
        if rate is not None and call.paid_for <= call.attempts:
            if not rate.take(call.options.permits):
                call.check_circuit()
                sleep = functools.partial(_wait, call=call, what="for the rate limit")
                rate.acquire(call.options.permits, within=call.time_left(), sleep=sleep)
            call.paid_for = call.attempts + 1
            call.paid_at = call.policy.clock()
    except LimitError as rejection:
        call.refuse(rejection, "rate_limited")


async def wait_for_turn_async(delay: float, call: Call) -> None:
    """Like :func:`wait_for_turn`, for an ``async def``."""
    if delay > 0:
        await call.policy.async_sleep(delay)
    slots, rate = call.policy.concurrency_limiter, call.policy.rate_limiter
    try:
        if slots is not None and call.slots is None:
            if not slots.take():
                call.check_circuit()
                await slots.acquire_async(within=_slot_within(call, slots, in_loop=False))
            call.slots = slots
        if rate is not None and call.paid_for <= call.attempts:
            if not rate.take(call.options.permits):
                call.check_circuit()
                await rate.acquire_async(call.options.permits, within=call.time_left(), sleep=call.policy.async_sleep)
            call.paid_for = call.attempts + 1
            call.paid_at = call.policy.clock()
    except LimitError as rejection:
        call.refuse(rejection, "rate_limited")


def _slot_within(call: Call, slots: ConcurrencyLimiter, *, in_loop: bool) -> float:
    """Seconds to wait for a slot: 0 without any limit, if the wait itself may be what keeps all slots taken."""
    left = call.time_left()
    if left == math.inf and slots.config.max_wait is None and (in_loop or call.is_inside(slots)):
        return 0.0
    return left


def can_wait_async(call: Call) -> bool:
    """Whether ``async_sleep`` works here; logs once if it does not."""
    policy = call.policy
    if policy.async_sleep is not asyncio.sleep or running_loop() is not None:
        return True
    policy.warn_once(
        "async_sleep",
        f"{call.operation}: asyncio.sleep cannot wait outside asyncio, so the error was not retried; "
        "set async_sleep to that of the running framework, such as trio.sleep",
    )
    return False


def check_can_cut(call: Call) -> asyncio.AbstractEventLoop:
    """The loop that can cut off an ``async def``. Raises ``RuntimeError`` if there is none."""
    loop = running_loop()
    if loop is None:
        raise RuntimeError(f"no running asyncio event loop: without one, {call.operation} cannot be cut")
    return loop


def check_block_can_be_cut(call: Call) -> None:
    """Raises ``RuntimeError`` outside a task, as in a callback of the loop, before anything is reserved."""
    if asyncio.current_task(check_can_cut(call)) is None:
        raise RuntimeError(f"a time limit can cut {call.operation} only in a task of asyncio")


def warn_of_loop(call: Call, what: str) -> None:
    """Logs once what a ``def`` does, or does not get, within an event loop."""
    call.policy.warn_once(
        what,
        f"{call.operation}: within a running event loop {what} a def operation; "
        "make it an async def, or call it with asyncio.to_thread",
    )
