"""The parameters of a policy from environment variables such as ``RESILIENCE_SUPPLIER_MAX_ATTEMPTS``."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.limits.config import ConcurrencyLimit, RateLimit
from otel_resilience.retries.backoff import Jitter
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.retries.config import RetryConfig

T = TypeVar("T")

PREFIX: Final = "RESILIENCE_"
_log = logging.getLogger("otel_resilience")

Reader = Callable[[str, str], Any]
"""Maps the name and the text of a variable to its value. Raises ``TypeError`` or ``ValueError`` naming both."""


def _whole(name: str, text: str) -> int:
    try:
        value: object = int(text)
    except ValueError:
        value = text
    return check.count(name, value)


def _number(minimum: float, *, exclusive: bool = False, maximum: float = float("inf")) -> Reader:
    def read(name: str, text: str) -> float:
        try:
            value: object = float(text)
        except ValueError:
            value = text
        return check.number(name, value, minimum=minimum, exclusive=exclusive, maximum=maximum)

    return read


def _flag(name: str, text: str) -> bool:
    flags = {"true": True, "false": False}
    if text.lower() not in flags:
        raise ValueError(f"{name} must be true or false, not {text!r}")
    return flags[text.lower()]


def _jitter(name: str, text: str) -> Jitter:
    if text.lower() in ("true", "false"):
        return Jitter.of(_flag(name, text))
    if text.lower() not in set(Jitter):
        raise ValueError(f"{name} must be one of {', '.join(Jitter)}, true or false, not {text!r}")
    return Jitter(text.lower())


def _or_none(read: Reader) -> Reader:
    def optional(name: str, text: str) -> Any:
        if text.lower() == "none":
            return None
        try:
            return read(name, text)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}; none switches it off") from error

    return optional


_POSITIVE: Final = _number(0, exclusive=True)
_NOT_NEGATIVE: Final = _number(0)
_SHARE: Final = _number(0, exclusive=True, maximum=1)


PARTS: Final[dict[str, type[Any]]] = {
    "retry": RetryConfig,
    "breaker": CircuitBreakerConfig,
    "budget": RetryBudgetConfig,
    "max_concurrency": ConcurrencyLimit,
    "rate_limit": RateLimit,
}
"""Parameters of :class:`~otel_resilience.Policy` that are objects set by several variables."""
_RETRY, _BREAKER, _BUDGET, _CONCURRENCY, _RATE = PARTS

VARIABLES: Final[dict[str, tuple[str | None, str, Reader]]] = {
    "MAX_ATTEMPTS": (_RETRY, "max_attempts", _whole),
    "BASE_DELAY_S": (_RETRY, "base_delay", _NOT_NEGATIVE),
    "MAX_DELAY_S": (_RETRY, "max_delay", _NOT_NEGATIVE),
    "EXPONENTIAL_BASE": (_RETRY, "exponential_base", _number(1)),
    "JITTER": (_RETRY, "jitter", _jitter),
    "THROTTLE_BASE_DELAY_S": (_RETRY, "throttle_base_delay", _NOT_NEGATIVE),
    "SLOW_BASE_DELAY_S": (_RETRY, "slow_base_delay", _NOT_NEGATIVE),
    "MAX_RETRY_AFTER_S": (_RETRY, "max_retry_after", _NOT_NEGATIVE),
    "RETRY_SHADOW": (_RETRY, "shadow", _flag),
    "BUDGET_CAPACITY": (_BUDGET, "capacity", _POSITIVE),
    "BUDGET_REFILL_PER_S": (_BUDGET, "refill_rate", _NOT_NEGATIVE),
    "FAILURE_THRESHOLD": (_BREAKER, "failure_threshold", _or_none(_whole)),
    "MONITORING_PERIOD_S": (_BREAKER, "monitoring_period", _POSITIVE),
    "FAILURE_RATE": (_BREAKER, "failure_rate", _or_none(_SHARE)),
    "MINIMUM_CALLS": (_BREAKER, "minimum_calls", _whole),
    "CONSECUTIVE_FAILURES": (_BREAKER, "consecutive_failures", _or_none(_whole)),
    "SLOW_CALL_DURATION_S": (_BREAKER, "slow_call_duration", _or_none(_POSITIVE)),
    "SLOW_CALL_RATE": (_BREAKER, "slow_call_rate", _SHARE),
    "RESET_TIMEOUT_S": (_BREAKER, "reset_timeout", _POSITIVE),
    "MAX_RESET_TIMEOUT_S": (_BREAKER, "max_reset_timeout", _or_none(_POSITIVE)),
    "HALF_OPEN_MAX_CALLS": (_BREAKER, "half_open_max_calls", _whole),
    "PROBE_LEASE_S": (_BREAKER, "probe_lease", _or_none(_POSITIVE)),
    "BREAKER_SHADOW": (_BREAKER, "shadow", _flag),
    "MAX_CONCURRENCY": (_CONCURRENCY, "limit", _whole),
    "MAX_CONCURRENCY_WAIT_S": (_CONCURRENCY, "max_wait", _or_none(_NOT_NEGATIVE)),
    "MAX_CONCURRENCY_SHADOW": (_CONCURRENCY, "shadow", _flag),
    "RATE_LIMIT": (_RATE, "limit", _whole),
    "RATE_PER_S": (_RATE, "per", _POSITIVE),
    "RATE_MAX_WAIT_S": (_RATE, "max_wait", _or_none(_NOT_NEGATIVE)),
    "RATE_SHADOW": (_RATE, "shadow", _flag),
    "HEDGE_AFTER_S": (None, "hedge_after", _or_none(_POSITIVE)),
    "DEADLINE_S": (None, "deadline", _or_none(_POSITIVE)),
    "ATTEMPT_TIMEOUT_S": (None, "attempt_timeout", _or_none(_POSITIVE)),
    "MAX_ATTEMPT_THREADS": (None, "max_attempt_threads", _whole),
    "IDEMPOTENT": (None, "idempotent", _or_none(_flag)),
}
"""By the suffix of each variable: the part of the policy that it belongs to, the parameter there, and its reader."""


def policy_from(
    make: Callable[..., T], dependency: str, environ: Mapping[str, str] | None, defaults: Mapping[str, Any]
) -> T:
    """What ``make`` returns for ``defaults`` updated from the variables of ``dependency``.

    Raises one ``ValueError`` that names every invalid variable.
    """
    variables = _Variables(dependency, os.environ if environ is None else environ)
    arguments = {**defaults, **variables.arguments(defaults)}
    variables.raise_problems()
    try:
        return make(dependency, **arguments)
    except ValueError as error:
        if not variables.texts:
            raise
        variables.add_problem(str(error), *variables.texts)
        variables.raise_problems(error)
        raise


class _Variables:
    """The variables of one dependency, and the problems found in them."""

    def __init__(self, dependency: str, environ: Mapping[str, str]) -> None:
        name = re.sub(r"[^A-Z0-9]", "_", check.label("dependency", dependency).upper())
        self._dependency = dependency
        self._prefix = f"{PREFIX}{name}_"
        self._problems: list[str] = []
        self._values: dict[str | None, dict[str, Any]] = {}
        self.texts: dict[str | None, list[str]] = {}
        """The variables found in the environment, by the part that they belong to."""
        for variable in sorted(environ):
            text = environ[variable].strip()
            if variable.startswith(self._prefix) and text:
                self._read(variable, text)

    def _read(self, variable: str, text: str) -> None:
        ending = variable.removeprefix(self._prefix)
        if ending not in VARIABLES:
            self._report_unknown(variable, ending)
            return
        part, parameter, read = VARIABLES[ending]
        self.texts.setdefault(part, []).append(f"{variable}={text}")
        try:
            self._values.setdefault(part, {})[parameter] = read(variable, text)
        except (TypeError, ValueError) as error:
            self._problems.append(str(error))

    def _report_unknown(self, variable: str, ending: str) -> None:
        longer = [known for known in VARIABLES if ending.endswith(f"_{known}")]
        if longer:
            rest = ending.removesuffix(f"_{max(longer, key=len)}").lower()
            _log.info("%s is taken for one of another dependency, %s_%s", variable, self._dependency, rest)
            return
        nearest = difflib.get_close_matches(ending, VARIABLES, 1, cutoff=0)[0]
        self._problems.append(f"{variable} is not known; the nearest is {self._prefix}{nearest}")

    def arguments(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a policy that the variables set."""
        arguments = self._values.pop(None, {})
        for part, values in self._values.items():
            if part is not None and len(values) == len(self.texts[part]):
                arguments[part] = self._made(part, values, defaults.get(part))
        return arguments

    def _made(self, part: str, values: dict[str, Any], default: Any) -> Any:
        try:
            if isinstance(default, int | None):
                return PARTS[part](
                    **({} if default is None or isinstance(default, bool) else {"limit": default}) | values
                )
            if type(default) is PARTS[part]:
                return dataclasses.replace(default, **values)
            problem = f"{part} is given as a {type(default).__name__}, which variables cannot change"
        except (TypeError, ValueError) as error:
            problem = str(error)
        self.add_problem(problem, part)
        return None

    def add_problem(self, problem: str, *parts: str | None) -> None:
        """Adds a problem that the variables of these parts cause together."""
        texts = ", ".join(text for part in parts for text in self.texts[part])
        self._problems.append(f"{texts}: {problem}")

    def raise_problems(self, cause: BaseException | None = None) -> None:
        """Raises one ``ValueError`` that lists all problems, if there are any."""
        if self._problems:
            lines = "".join(f"\n- {problem}" for problem in self._problems)
            raise ValueError(
                f"the policy of {self._dependency!r} cannot be made from the environment:{lines}"
            ) from cause
