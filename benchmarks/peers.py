"""The peers for ``def`` functions: each maker protects an operation the way the library's own documentation does it.

Three attempts, ``ConnectionError`` is retryable, no wait between attempts, no limit of time that could matter here.
"""

from __future__ import annotations

import datetime
import fractions
from collections.abc import Callable
from typing import Any

import aiobreaker
import backoff
import backon
import circuitbreaker
import interlock
import nopanic
import opnieuw
import purgatory
import pybreaker
import pyresilience
import redress
import resilient_circuit
import retrying
import stamina
import tenacity
from google.api_core import retry as google_retry
from resilient_circuit.storage import InMemoryStorage

Function = Callable[[], Any]
Maker = Callable[[Function], Function]

ATTEMPTS = 3
HOUR = 3600.0


def tenacity_decorator(function: Function) -> Function:
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        retry=tenacity.retry_if_exception_type(ConnectionError),
        wait=tenacity.wait_none(),
        reraise=True,
    )(function)


def tenacity_block(function: Function) -> Function:
    def run() -> Any:
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            retry=tenacity.retry_if_exception_type(ConnectionError),
            wait=tenacity.wait_none(),
            reraise=True,
        ):
            with attempt:
                result = function()
        return result

    return run


_NO_WAIT: dict[str, Any] = {"timeout": None, "wait_initial": 0.0, "wait_max": 0.0, "wait_jitter": 0.0}


def stamina_decorator(function: Function) -> Function:
    return stamina.retry(on=ConnectionError, attempts=ATTEMPTS, **_NO_WAIT)(function)


def stamina_caller(function: Function) -> Function:
    caller = stamina.RetryingCaller(attempts=ATTEMPTS, **_NO_WAIT).on(ConnectionError)
    return lambda: caller(function)


def backoff_decorator(function: Function) -> Function:
    return backoff.on_exception(backoff.constant, ConnectionError, max_tries=ATTEMPTS, jitter=None, interval=0)(
        function
    )


def retrying_decorator(function: Function) -> Function:
    return retrying.retry(
        stop_max_attempt_number=ATTEMPTS, retry_on_exception=lambda error: isinstance(error, ConnectionError)
    )(function)


def opnieuw_decorator(function: Function) -> Function:
    return opnieuw.retry(
        retry_on_exceptions=ConnectionError, max_calls_total=ATTEMPTS, retry_window_after_first_call_in_seconds=60
    )(function)


def google_decorator(function: Function) -> Function:
    return google_retry.Retry(
        predicate=google_retry.if_exception_type(ConnectionError), initial=1e-9, maximum=1e-9, timeout=HOUR
    )(function)


def resilient_circuit_retry(function: Function) -> Function:
    return resilient_circuit.RetryWithBackoffPolicy(
        max_retries=ATTEMPTS - 1, should_handle=lambda error: isinstance(error, ConnectionError)
    )(function)


def nopanic_policy(
    *,
    budget: bool = False,
    breaker: bool = False,
    retry: bool = True,
    failure_rate: float = 0.5,
    on: type[Exception] = ConnectionError,
) -> Maker:
    """nopanic's retry, breaker or both, the breaker inside the retry."""

    def make(function: Function) -> Function:
        if breaker:
            function = nopanic.circuit_breaker(failure_threshold=failure_rate, reset_timeout=HOUR)(function)
        if not retry:
            return function
        bucket = nopanic.RetryBudget(ratio=1.0) if budget else None
        return nopanic.retry(attempts=ATTEMPTS, on=on, backoff=0, budget=bucket)(function)

    return make


def pyresilience_policy(*, retry: bool = False, breaker: bool = False, window: int = 0) -> Maker:
    """pyresilience's one decorator with the parts that are wanted."""
    parts: dict[str, Any] = {}
    if retry:
        parts["retry"] = pyresilience.RetryConfig(
            max_attempts=ATTEMPTS, delay=0.0, jitter=False, retry_on=(ConnectionError,)
        )
    if breaker:
        parts["circuit_breaker"] = pyresilience.CircuitBreakerConfig(recovery_timeout=HOUR, sliding_window_size=window)
    return pyresilience.resilient(**parts)


def redress_retry(function: Function) -> Function:
    retry = redress.Retry(
        classifier=redress.default_classifier, strategy=lambda _: 0.0, max_attempts=ATTEMPTS, deadline_s=HOUR
    )
    policy = redress.Policy(retry=retry)
    return lambda: policy.call(function)


def redress_breaker(function: Function) -> Function:
    policy = redress.Policy(circuit_breaker=redress.CircuitBreaker(recovery_timeout_s=HOUR))
    return lambda: policy.call(function)


def backon_decorator(function: Function) -> Function:
    protect = backon.on_exception(backon.constant, ConnectionError, max_tries=ATTEMPTS, jitter=None, interval=0)
    return protect(function)


def backon_breaker(function: Function) -> Function:
    breaker = backon.CircuitBreaker(recovery_timeout=HOUR)
    return lambda: breaker.call(function)


def pybreaker_breaker(function: Function) -> Function:
    return pybreaker.CircuitBreaker(fail_max=5, reset_timeout=HOUR)(function)


def aiobreaker_breaker(function: Function) -> Function:
    return aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=datetime.timedelta(hours=1))(function)


def circuitbreaker_breaker(function: Function) -> Function:
    return circuitbreaker.CircuitBreaker(failure_threshold=5, recovery_timeout=HOUR)(function)


def purgatory_breaker(function: Function) -> Function:
    return purgatory.SyncCircuitBreakerFactory(default_threshold=5, default_ttl=HOUR)("supplier")(function)


def resilient_circuit_breaker(function: Function) -> Function:
    return resilient_circuit.CircuitProtectorPolicy(
        storage=InMemoryStorage(), cooldown=datetime.timedelta(hours=1), failure_limit=fractions.Fraction(3, 4)
    )(function)


def interlock_breaker(function: Function) -> Function:
    config = interlock.Config(wait_duration_in_open=HOUR)
    return interlock.CircuitBreaker(name="supplier", config=config)(function)


RETRY: dict[str, Maker] = {
    "tenacity @retry": tenacity_decorator,
    "tenacity for/with block": tenacity_block,
    "stamina @retry": stamina_decorator,
    "stamina RetryingCaller": stamina_caller,
    "backoff.on_exception": backoff_decorator,
    "retrying": retrying_decorator,
    "opnieuw": opnieuw_decorator,
    "google-api-core Retry": google_decorator,
    "resilient-circuit": resilient_circuit_retry,
    "nopanic": nopanic_policy(),
    "pyresilience": pyresilience_policy(retry=True),
    "redress Policy.call": redress_retry,
    "backon.on_exception": backon_decorator,
}
BREAKER: dict[str, Maker] = {
    "redress Policy.call": redress_breaker,
    "backon .call": backon_breaker,
    "pybreaker": pybreaker_breaker,
    "aiobreaker": aiobreaker_breaker,
    "circuitbreaker": circuitbreaker_breaker,
    "purgatory": purgatory_breaker,
    "resilient-circuit": resilient_circuit_breaker,
    "interlock": interlock_breaker,
    "nopanic": nopanic_policy(breaker=True, retry=False),
    "pyresilience": pyresilience_policy(breaker=True),
    "pyresilience window=100": pyresilience_policy(breaker=True, window=100),
}
BOTH: dict[str, Maker] = {
    "nopanic retry+breaker": nopanic_policy(breaker=True),
    "nopanic retry+budget+breaker": nopanic_policy(breaker=True, budget=True),
    "pyresilience retry+breaker": pyresilience_policy(retry=True, breaker=True),
    "tenacity+pybreaker": lambda function: tenacity_decorator(pybreaker_breaker(function)),
    "stamina+circuitbreaker": lambda function: stamina_decorator(circuitbreaker_breaker(function)),
}
