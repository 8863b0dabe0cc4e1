"""Waiting for a place: threads and tasks in one queue, and nothing lost when a waiter gives up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from otel_resilience.limits.semaphore import FairSemaphore

LONG = 60.0


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


async def until_async(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0)


def test_threads_and_tasks_of_several_loops_are_served_in_the_order_of_their_arrival() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.take()
    served: list[int] = []

    def in_thread(number: int) -> None:
        assert semaphore.wait(LONG)
        served.append(number)
        semaphore.give()

    async def in_task(number: int) -> None:
        assert await semaphore.wait_async(LONG)
        served.append(number)
        semaphore.give()

    threads = []
    for number in range(8):
        target = in_thread if number % 2 else lambda number: asyncio.run(in_task(number))
        threads.append(threading.Thread(target=target, args=(number,)))
        threads[-1].start()
        until(lambda expected=number + 1: semaphore.waiting == expected)  # type: ignore[misc]
    semaphore.give()
    for thread in threads:
        thread.join(LONG)

    assert served == list(range(8))
    assert (semaphore.in_use, semaphore.waiting) == (0, 0)


async def test_a_cancelled_task_leaves_no_place_behind() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.take()
    tasks = [asyncio.create_task(semaphore.wait_async(LONG)) for _ in range(3)]
    await until_async(lambda: semaphore.waiting == 3)
    tasks[0].cancel()
    semaphore.give()  # before the first has left
    tasks[1].cancel()
    await asyncio.wait(tasks)

    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert tasks[2].result()
    semaphore.give()
    assert (semaphore.in_use, semaphore.waiting) == (0, 0)


async def test_a_task_that_is_cancelled_with_its_place_gives_it_back() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.take()
    task = asyncio.create_task(semaphore.wait_async(LONG))
    await until_async(lambda: semaphore.waiting == 1)
    semaphore.give()
    assert semaphore.in_use == 1, "it is the task's"
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert semaphore.in_use == 0


def test_a_loop_that_was_closed_with_its_waiters_keeps_no_place() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.take()
    loop = asyncio.new_event_loop()
    waiting = semaphore.wait_async(LONG)
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    semaphore.give()

    assert semaphore.in_use == 0
    waiting.close()
    del task
    assert semaphore.in_use == 0


def test_a_waiter_that_gave_up_is_no_longer_in_the_queue() -> None:
    semaphore = FairSemaphore(1)
    assert semaphore.take()
    assert not semaphore.wait(0.001)
    assert not asyncio.run(semaphore.wait_async(0.001))
    semaphore.give()

    assert semaphore.take()


def test_a_child_starts_with_all_places_free() -> None:
    semaphore = FairSemaphore(2)
    semaphore.take()
    semaphore.renew_after_fork()
    semaphore.give()  # of the thread that forked while it had one

    assert semaphore.in_use == 0
