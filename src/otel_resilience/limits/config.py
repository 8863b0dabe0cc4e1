"""How often, and how many at a time, a dependency is called."""

from __future__ import annotations

import dataclasses
import math

from otel_resilience._internal import validation as check
from otel_resilience._internal.nesting import remaining


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``limit`` attempts in any ``per`` seconds. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> Policy("supplier", rate_limit=RateLimit(10, per=1.0)).rate_limiter
        <RateLimiter supplier 10 per 1 s>
        >>> RateLimit(0)
        Traceback (most recent call last):
            ...
        ValueError: limit must be at least 1, not 0
    """

    limit: int
    """Attempts, at least 1."""
    per: float = 1.0
    """Seconds, greater than 0; for one attempt in ten seconds: ``RateLimit(1, per=10)``."""
    _: dataclasses.KW_ONLY
    max_wait: float | None = None
    """Seconds that an attempt waits for its permit at most, 0: not at all. ``None``: as long as its deadline allows."""
    margin: float = 0.01
    """The window is longer than ``per`` by this share, at least 0: a later request may reach the server faster than an
    earlier one."""
    shadow: bool = False
    """Only counts (``resilience.limit.shadow_exceeded``) what is beyond the limit, and lets it pass."""

    def __post_init__(self) -> None:
        check.count("limit", self.limit)
        check.seconds("per", self.per)
        check.number("margin", self.margin, minimum=0)
        _check_common(self)

    @property
    def window(self) -> float:
        """Seconds, with the margin."""
        return self.per * (1 + self.margin)


@dataclasses.dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most ``limit`` calls at a time. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> Policy("supplier", max_concurrency=ConcurrencyLimit(16, max_wait=0.5)).concurrency_limiter
        <ConcurrencyLimiter supplier 0 of 16>
    """

    limit: int
    """Calls, at least 1; the attempts of a call and the waits between them are one call."""
    _: dataclasses.KW_ONLY
    max_wait: float | None = None
    """Seconds that a call waits for its slot at most, 0: not at all. ``None``: as long as its deadline allows."""
    shadow: bool = False
    """Only counts (``resilience.limit.shadow_exceeded``) what is beyond the limit, and lets it pass."""

    def __post_init__(self) -> None:
        check.count("limit", self.limit)
        _check_common(self)


def _check_common(config: RateLimit | ConcurrencyLimit) -> None:
    if config.max_wait is not None:
        check.seconds("max_wait", config.max_wait, zero=True)
    check.instance("shadow", config.shadow, bool)


def longest_wait(max_wait: float | None, within: float | None) -> float:
    """Seconds: the shorter of both; ``within`` is by default what the deadlines round this code leave."""
    limits = (max_wait, remaining() if within is None else within)
    return min((limit for limit in limits if limit is not None), default=math.inf)
