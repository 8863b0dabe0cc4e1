"""Limits on how often, and how many times concurrently, a dependency is called."""

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
    """Maximum seconds that an attempt waits for its permit; 0: not at all. ``None``: as long as its deadline allows."""
    margin: float = 0.01
    """Share of ``per`` by which the window is extended, at least 0: a later request may overtake an earlier one."""
    shadow: bool = False
    """Only count (``resilience.limit.shadow_exceeded``) attempts beyond the limit, and let them pass."""

    def __post_init__(self) -> None:
        check.count("limit", self.limit)
        check.seconds("per", self.per)
        check.number("margin", self.margin, minimum=0)
        _check_common(self)

    @property
    def window(self) -> float:
        """Length of the window in seconds, including the margin."""
        return self.per * (1 + self.margin)


@dataclasses.dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most ``limit`` concurrent calls. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> Policy("supplier", max_concurrency=ConcurrencyLimit(16, max_wait=0.5)).concurrency_limiter
        <ConcurrencyLimiter supplier 0 of 16>
    """

    limit: int
    """Calls, at least 1; a call counts as one with all its attempts and the waits between them."""
    _: dataclasses.KW_ONLY
    max_wait: float | None = None
    """Maximum seconds that a call waits for its slot; 0: not at all. ``None``: as long as its deadline allows."""
    shadow: bool = False
    """Only count (``resilience.limit.shadow_exceeded``) calls beyond the limit, and let them pass."""

    def __post_init__(self) -> None:
        check.count("limit", self.limit)
        _check_common(self)


def _check_common(config: RateLimit | ConcurrencyLimit) -> None:
    if config.max_wait is not None:
        check.seconds("max_wait", config.max_wait, zero=True)
    check.instance("shadow", config.shadow, bool)


def longest_wait(max_wait: float | None, within: float | None) -> float:
    """Seconds: the shorter of both; ``within`` defaults to what the enclosing deadlines leave."""
    limits = (max_wait, remaining() if within is None else within)
    return min((limit for limit in limits if limit is not None), default=math.inf)
