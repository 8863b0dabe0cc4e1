"""Groups K and L: calls with time limits, and many threads that call through one policy.

Nothing fails here and no limit passes. The peer of a ``def`` has no deadline; that of an ``async def`` has what comes
nearest, two ``asyncio.timeout``: one around all attempts, one around each.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import peers
from benchmarks.groups import OURS
from benchmarks.measure import Case, InvalidCaseError, Operation
from benchmarks.peers import ATTEMPTS
from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig

K = "K. Time limits, success"
L = "L. 32 threads through one policy, success"
DEADLINE, ATTEMPT_TIMEOUT = 30.0, 10.0
THREADS = 32
PEER = "nopanic retry+breaker"
IN_TIMEOUTS = f"{PEER} in two asyncio.timeout"
BY_DEADLINE = "decorator, retry+budget+breaker+deadline"
README = "README's example, retry+budget+breaker+deadline+attempt_timeout, async"
IN_THREAD = "decorator, retry+budget+breaker+deadline+attempt_timeout"


def _policy(deadline: float | None = None, attempt_timeout: float | None = None) -> Policy:
    return Policy(
        "supplier",
        retry=RetryConfig(max_attempts=ATTEMPTS),
        breaker=CircuitBreakerConfig(),
        deadline=deadline,
        attempt_timeout=attempt_timeout,
    )


def in_timeouts(function: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """The peer, each attempt and the whole call within a time limit."""

    async def attempt() -> Any:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            return await function()

    protected = peers.nopanic_policy(breaker=True)(attempt)

    async def run() -> Any:
        async with asyncio.timeout(DEADLINE):
            return await protected()

    return run


def cases() -> list[Case]:
    """The rows of group K."""
    found = []

    def add(name: str, protect: Callable[..., Any], *, asynchronous: bool = False, elapsed: bool = False) -> None:
        operation = Operation(asynchronous=asynchronous)
        call = protect(operation.function)
        found.append(Case(K, name, call, operation, asynchronous=asynchronous, elapsed=elapsed))

    add(PEER, peers.nopanic_policy(breaker=True))
    add(f"{OURS}decorator, retry+budget+breaker", _policy())
    add(OURS + BY_DEADLINE, _policy(deadline=DEADLINE))
    add(OURS + IN_THREAD, _policy(deadline=DEADLINE, attempt_timeout=ATTEMPT_TIMEOUT), elapsed=True)
    add(IN_TIMEOUTS, in_timeouts, asynchronous=True)
    add(OURS + README, _policy(deadline=DEADLINE, attempt_timeout=ATTEMPT_TIMEOUT), asynchronous=True)
    _check_that_threads_are_reused()
    return found


def _check_that_threads_are_reused() -> None:
    protected = _policy(attempt_timeout=ATTEMPT_TIMEOUT)(threading.get_ident)
    threads = {protected() for _ in range(100)}
    if len(threads) != 1 or threading.get_ident() in threads:
        raise InvalidCaseError(f"100 attempts ran in {len(threads)} threads")


def thread_cases() -> list[Case]:
    """The rows of group L: each call of a case starts all threads, which make :data:`CALLS` calls each."""
    found = []
    makers: dict[str, Callable[..., Any]] = {
        PEER: peers.nopanic_policy(breaker=True),
        f"{OURS}decorator, retry+budget+breaker": _policy(),
    }
    for name, protect in makers.items():
        operation = Operation()
        found.append(Case(L, name, _by_all(protect(operation.function)), operation, elapsed=True))
    return found


CALLS = 500
"""Calls of each thread."""


def _by_all(call: Callable[[], int]) -> Callable[[], int]:
    def work(start: threading.Barrier, answers: list[int]) -> None:
        start.wait()
        answer = 0
        for _ in range(CALLS):
            answer = call()
        answers.append(answer)

    def run() -> int:
        start, answers = threading.Barrier(THREADS), list[int]()
        threads = [threading.Thread(target=work, args=(start, answers)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(answers) != THREADS or len(set(answers)) != 1:
            raise InvalidCaseError(f"{len(answers)} of {THREADS} threads came to an end: {set(answers)}")
        return answers[0]

    return run
