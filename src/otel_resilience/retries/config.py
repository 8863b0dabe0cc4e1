"""How often to retry, and the wait before each retry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from otel_resilience._internal import validation as check
from otel_resilience.classification.model import Classification, ErrorClass
from otel_resilience.retries.backoff import Jitter, ceiling, spread

_TRANSIENT: Final = ErrorClass.TRANSIENT  # reading a member from its enumeration takes ten times as long
_THROTTLED: Final = ErrorClass.THROTTLED
_SLOW: Final = ErrorClass.TRANSIENT_SLOW
LONGEST_DELAY: Final = float(2**31)
"""Seconds. Longer waits are capped to this; ``time.sleep`` rejects more than some 292 years."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryConfig:
    """How retries are made. Durations in seconds, at least 0.

    The wait before retry ``k`` (0 for the first) is at most ``min(max_delay, base_delay * exponential_base**k)``;
    ``jitter`` spreads it below that. Defaults: three attempts, full jitter, 50 ms for transient errors and 1 s for
    throttling, at most 20 s (AWS SDK retries of 2026). Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> config = RetryConfig(max_attempts=5, base_delay=0.2, jitter="none")
        >>> transient = classify(ConnectionResetError())
        >>> [config.delay(transient, retry, 0.0, lambda: 0.5) for retry in range(4)]
        [0.2, 0.4, 0.8, 1.6]
        >>> RetryConfig(base_delay=30)
        Traceback (most recent call last):
            ...
        ValueError: base_delay must be at most max_delay (20), not 30
    """

    max_attempts: int = 3
    """Total attempts, including the first; at least 1."""
    base_delay: float = 0.05
    """Ceiling in seconds of the wait before the first retry of a transient error."""
    max_delay: float = 20.0
    """Ceiling in seconds of every wait that we choose. A server's hint may be longer."""
    exponential_base: float = 2.0
    """The ceiling grows by this factor from retry to retry; at least 1."""
    jitter: Jitter | str | bool = Jitter.FULL
    """``full`` (or ``True``), ``equal``, ``decorrelated``, ``none`` (or ``False``)."""
    throttle_base_delay: float = 1.0
    """Ceiling in seconds before the first retry if the dependency asked to slow down without naming a time."""
    slow_base_delay: float = 5.0
    """Minimum wait in seconds after an error that heals slowly."""
    max_retry_after: float = 300.0
    """A server's hint of more seconds than this ends the call immediately, even without a deadline."""
    shadow: bool = False
    """Report the first retry that a call would have made (``resilience.retry.shadowed``), but make none."""

    def __post_init__(self) -> None:
        check.count("max_attempts", self.max_attempts)
        for name in ("base_delay", "max_delay", "throttle_base_delay", "slow_base_delay", "max_retry_after"):
            check.seconds(name, getattr(self, name), zero=True)
        if not isinstance(self.shadow, bool):
            raise TypeError(f"shadow must be True or False, not {self.shadow!r}")
        check.number("exponential_base", self.exponential_base, minimum=1)
        object.__setattr__(self, "jitter", Jitter.of(self.jitter))
        if self.base_delay > self.max_delay:
            raise ValueError(f"base_delay must be at most max_delay ({self.max_delay:g}), not {self.base_delay!r}")

    def delay(self, verdict: Classification, retry: int, previous: float, rng: Callable[[], float]) -> float:
        """Seconds to wait before retry ``retry`` (0 for the first).

        ``previous`` is the wait before; ``rng`` gives a random number in ``[0, 1)``. A server's hint is a lower bound.
        Never more than :data:`LONGEST_DELAY`.
        """
        kind = verdict.error_class
        hint = verdict.retry_after
        base = self.base_delay
        if kind is not _TRANSIENT:
            if kind is _THROTTLED:
                base = self.throttle_base_delay
            elif kind is _SLOW:
                base = self.slow_base_delay
        if not base:
            return 0.0 if hint is None else min(hint, LONGEST_DELAY)
        longest = ceiling(base, self.exponential_base, retry, self.max_delay)
        jitter: Jitter = self.jitter  # type: ignore[assignment]  # __post_init__ made it a Jitter
        chosen = spread(jitter, longest, base, previous, self.max_delay, rng())
        if kind is _SLOW:
            chosen = max(chosen, min(self.slow_base_delay, self.max_delay))
        return min(chosen if hint is None else max(chosen, hint), LONGEST_DELAY)
