"""What type checkers see of ``execute``: checked by mypy with the rest of the tests, and run as well."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, assert_type

import pytest

from otel_resilience import CircuitBreaker, Policy, RetryService

policy = Policy("supplier")
breaker = CircuitBreaker("supplier")
service = RetryService("supplier")


def rows(page: int, *, size: int = 10) -> list[int]:
    return [page] * size


async def rows_async(page: int, size: int = 2) -> list[int]:
    return [page] * size


async def one() -> int:
    return 1


def test_of_def() -> None:
    assert_type(policy.execute(rows, 1, name="rows"), list[int])
    assert_type(policy.execute(lambda: rows(1)), list[int])
    assert_type(policy.execute(functools.partial(rows, 1, size=3), retry_result=lambda value: not value), list[int])
    assert_type(breaker.execute(lambda: 1), int)
    assert_type(service.execute_with_retry(lambda: 1), int)


@pytest.mark.fault("L22")
async def test_of_async_def() -> None:
    assert await assert_type(policy.execute(rows_async, 1, name="rows"), Coroutine[Any, Any, list[int]]) == [1, 1]
    task = asyncio.create_task(policy.execute(rows_async, 2))
    assert_type(task, asyncio.Task[list[int]])
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(policy.execute(one)),
            group.create_task(breaker.execute(one)),
            group.create_task(service.execute_with_retry(one)),
        ]
    assert_type(tasks, list[asyncio.Task[int]])
    assert [each.result() for each in tasks] == [1, 1, 1]
    assert await task == [2, 2]


def test_of_run() -> None:
    assert_type(asyncio.run(policy.execute(one)), int)


def test_of_blocks() -> None:
    for attempt in policy.attempts(name="rows"):
        with attempt:
            assert_type(attempt.number, int)


@policy
def decorated(page: int) -> str:
    return str(page)


@policy
async def decorated_async(page: int) -> str:
    return str(page)


async def test_of_decorated_functions() -> None:
    assert_type(decorated(1), str)
    assert_type(await asyncio.create_task(decorated_async(1)), str)
