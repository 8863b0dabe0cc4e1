"""The peers for ``async def`` functions, set up as in :mod:`benchmarks.peers`."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator

import aiobreaker
import aioresilience
import backon
import hyx.circuitbreaker
import hyx.retry
import opnieuw
import purgatory
import redress
from google.api_core import retry as google_retry
from google.api_core import retry_async as google_retry_async

from benchmarks import peers
from benchmarks.peers import ATTEMPTS, HOUR, Function, Maker


def opnieuw_decorator(function: Function) -> Function:
    return opnieuw.retry_async(
        retry_on_exceptions=ConnectionError, max_calls_total=ATTEMPTS, retry_window_after_first_call_in_seconds=60
    )(function)


def google_decorator(function: Function) -> Function:
    return google_retry_async.AsyncRetry(
        predicate=google_retry.if_exception_type(ConnectionError), initial=1e-9, maximum=1e-9, timeout=HOUR
    )(function)


def hyx_retry(function: Function) -> Function:
    waits: Iterator[float] = itertools.repeat(0.0)
    return hyx.retry.retry(on=ConnectionError, attempts=ATTEMPTS, backoff=waits)(function)


def redress_retry(function: Function) -> Function:
    retry = redress.AsyncRetry(
        classifier=redress.default_classifier, strategy=lambda _: 0.0, max_attempts=ATTEMPTS, deadline_s=HOUR
    )
    policy = redress.AsyncPolicy(retry=retry)
    return lambda: policy.call(function)


def aiobreaker_breaker(function: Function) -> Function:
    breaker = aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=datetime.timedelta(hours=1))
    return lambda: breaker.call_async(function)


def backon_breaker(function: Function) -> Function:
    breaker = backon.CircuitBreaker(recovery_timeout=HOUR)
    return lambda: breaker.async_call(function)


def purgatory_breaker(function: Function) -> Function:
    return purgatory.AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=HOUR)("supplier")(function)


def hyx_breaker(function: Function) -> Function:
    return hyx.circuitbreaker.consecutive_breaker(recovery_time_secs=HOUR)(function)


def aioresilience_breaker(function: Function) -> Function:
    breaker = aioresilience.CircuitBreaker("supplier", aioresilience.CircuitConfig(recovery_timeout=HOUR))
    return lambda: breaker.call(function)


def _tenacity_and_aiobreaker(function: Function) -> Function:
    guarded = aiobreaker_breaker(function)

    async def call() -> object:
        return await guarded()

    return peers.tenacity_decorator(call)


RETRY: dict[str, Maker] = {
    "tenacity @retry": peers.tenacity_decorator,
    "stamina @retry": peers.stamina_decorator,
    "backoff.on_exception": peers.backoff_decorator,
    "opnieuw": opnieuw_decorator,
    "google-api-core AsyncRetry": google_decorator,
    "hyx": hyx_retry,
    "resilient-circuit": peers.resilient_circuit_retry,
    "nopanic": peers.nopanic_policy(),
    "pyresilience": peers.pyresilience_policy(retry=True),
    "redress AsyncPolicy.call": redress_retry,
    "backon.on_exception": peers.backon_decorator,
}
BREAKER: dict[str, Maker] = {
    "backon .async_call": backon_breaker,
    "aiobreaker": aiobreaker_breaker,
    "circuitbreaker": peers.circuitbreaker_breaker,
    "purgatory": purgatory_breaker,
    "hyx consecutive_breaker": hyx_breaker,
    "interlock": peers.interlock_breaker,
    "nopanic": peers.nopanic_policy(breaker=True, retry=False),
    "pyresilience": peers.pyresilience_policy(breaker=True),
    "aioresilience .call": aioresilience_breaker,
}
BOTH: dict[str, Maker] = {
    "nopanic retry+breaker": peers.nopanic_policy(breaker=True),
    "nopanic retry+budget+breaker": peers.nopanic_policy(breaker=True, budget=True),
    "pyresilience retry+breaker": peers.pyresilience_policy(retry=True, breaker=True),
    "tenacity+aiobreaker": _tenacity_and_aiobreaker,
}
