"""A lease renewed in the background: how its loss ends the body, and which failures it survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catalog_sync.store.lease import LeaseHeartbeat


class LossError(Exception):
    """The lease is lost."""


def lost_when(event: asyncio.Event, loss: Exception | None) -> Callable[[], Awaitable[Exception | None]]:
    async def keep() -> Exception | None:
        await event.wait()
        return loss

    return keep


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_loss_cancels_the_body_and_is_raised_instead() -> None:
    event, loss = asyncio.Event(), LossError("gone")
    reached = False

    async def work() -> None:
        nonlocal reached
        async with LeaseHeartbeat(lost_when(event, loss), name="lease"):
            event.set()
            await asyncio.sleep(60)
            reached = True

    with pytest.raises(LossError) as raised:
        await work()
    assert raised.value is loss
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert not reached
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be cancelled


async def test_a_defect_of_the_renewal_counts_as_a_loss() -> None:
    async def keep() -> None:
        raise LookupError("defect")

    with pytest.raises(LookupError, match="defect"):
        async with LeaseHeartbeat(keep, name="lease"):
            await asyncio.sleep(60)


async def test_renewal_may_end_without_a_loss() -> None:
    event = asyncio.Event()
    async with LeaseHeartbeat(lost_when(event, None), name="lease"):
        event.set()
        await settle()


async def test_a_body_that_has_ended_stays_as_it_ended() -> None:
    event = asyncio.Event()
    async with LeaseHeartbeat(lost_when(event, LossError()), name="lease") as heartbeat:
        event.set()
        while heartbeat._loss is None:  # the cancellation is on its way, and reaches no body
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                break
    await asyncio.sleep(0)


async def test_an_error_of_the_body_passes_and_ends_the_renewal() -> None:
    stopped = False

    async def keep() -> None:
        nonlocal stopped
        try:
            await asyncio.sleep(60)
        finally:
            stopped = True

    async def work() -> None:
        async with LeaseHeartbeat(keep, name="lease"):
            await settle()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert stopped


@pytest.mark.parametrize("lost", ["not", "at once", "before"])
async def test_a_cancellation_from_outside_always_passes(lost: str) -> None:
    event, entered = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with LeaseHeartbeat(lost_when(event, LossError()), name="lease"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await entered.wait()
    if lost != "not":
        event.set()
    if lost == "before":
        await asyncio.sleep(0)
        assert task.cancelling() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
