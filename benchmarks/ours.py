"""This library in the same situations as its peers, and the hand-written equivalent."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers import ATTEMPTS, HOUR, Function, Maker
from otel_resilience import CircuitBreaker, CircuitBreakerConfig, Policy, RetryConfig, retry

RETRY = RetryConfig(max_attempts=ATTEMPTS, base_delay=0)
_BREAKER = CircuitBreakerConfig(reset_timeout=HOUR, max_reset_timeout=HOUR)
# Every other call of the one-retry groups fails: half of all calls, which is where the default rate would open it.
_PATIENT_BREAKER = CircuitBreakerConfig(failure_rate=1.0, reset_timeout=HOUR, max_reset_timeout=HOUR)


def policy(*, retry: bool = True, breaker: bool = True, budget: bool = True, patient: bool = False) -> Policy:
    """A policy with the wanted parts."""
    config = (_PATIENT_BREAKER if patient else _BREAKER) if breaker else None
    return Policy("supplier", retry=RETRY if retry else None, breaker=config, budget=None if budget else False)


def decorated(**parts: bool) -> Maker:
    """The policy as a decorator."""
    return lambda function: policy(**parts)(function)


def executed(**parts: bool) -> Maker:
    """``Policy.execute``; what it returns is awaited by the caller where the operation is async."""

    def make(function: Function) -> Function:
        chosen = policy(**parts)
        return lambda: chosen.execute(function)

    return make


def breaker_alone(function: Function) -> Function:
    """``CircuitBreaker.execute`` without a policy."""
    breaker = CircuitBreaker("supplier", _BREAKER)
    return lambda: breaker.execute(function)


def retry_on_types(function: Function) -> Function:
    """The decorator with explicit exception types."""
    return retry(RETRY, on=ConnectionError, dependency="supplier")(function)


SUCCESS: dict[str, Maker] = {
    "decorator, retry+budget+breaker": decorated(),
    "decorator, retry+breaker": decorated(budget=False),
    "Policy.execute, retry+budget+breaker": executed(),
    "Policy.execute, retry+breaker": executed(budget=False),
    "decorator, retry+budget": decorated(breaker=False),
    "decorator, retry": decorated(breaker=False, budget=False),
    "decorator, breaker": decorated(retry=False),
    "CircuitBreaker.execute": breaker_alone,
}
ONE_RETRY: dict[str, Maker] = {
    "decorator, retry": decorated(breaker=False, budget=False),
    "decorator, retry+budget": decorated(breaker=False),
    "decorator, retry+breaker": decorated(budget=False, patient=True),
    "decorator, retry+budget+breaker": decorated(patient=True),
    "@retry(on=ConnectionError), budget": retry_on_types,
}
REJECTED: dict[str, Maker] = {
    "CircuitBreaker.execute": breaker_alone,
    "decorator, breaker": decorated(retry=False),
    "decorator, retry+budget+breaker": decorated(),
}


def hand_written(function: Function) -> Function:
    """A retry loop without anything."""

    def run() -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return function()
            except ConnectionError:
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    return run


def hand_written_async(function: Function) -> Function:
    """A retry loop without anything but the customary ``asyncio.sleep``."""

    async def run() -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return await function()
            except ConnectionError:
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0)
        return None

    return run


def bare_retry(function: Function) -> Function:
    """The minimum cost of one failure and a second call."""

    def run() -> Any:
        try:
            return function()
        except ConnectionError:
            return function()

    return run


def bare_retry_async(function: Function) -> Function:
    """The minimum cost of one failure and a second call."""

    async def run() -> Any:
        try:
            return await function()
        except ConnectionError:
            return await function()

    return run
