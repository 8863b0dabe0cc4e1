"""The token bucket of a retry budget: its configuration and its pure rules."""

from __future__ import annotations

import dataclasses
from typing import Self

from otel_resilience._internal import validation as check
from otel_resilience.classification.model import ErrorClass


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """Sizes of the bucket, in tokens: capacity and costs greater than 0, none larger than the capacity. Raises
    ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> config = RetryBudgetConfig(capacity=50)
        >>> config.price(retries=2)  # the most that one call of three attempts can take
        20.0
        >>> RetryBudgetConfig(capacity=0)
        Traceback (most recent call last):
            ...
        ValueError: capacity must be greater than 0, not 0
    """

    capacity: float = 100.0
    """Tokens in a full bucket; it starts full."""
    transient_cost: float = 10.0
    """Price of one retry after a transient error."""
    throttle_cost: float = 4.0
    """Price of one retry after the dependency asked us to wait."""
    success_credit: float = 1.0
    """Tokens added by a call that succeeds on its first attempt."""
    refill_rate: float = 0.2
    """Tokens per second that accrue while the process runs."""

    def __post_init__(self) -> None:
        check.number("capacity", self.capacity, minimum=0, exclusive=True)
        for name in ("transient_cost", "throttle_cost", "success_credit", "refill_rate"):
            exclusive = name.endswith("cost")
            value = check.number(name, getattr(self, name), minimum=0, exclusive=exclusive)
            if value > self.capacity:
                least = "greater than 0" if exclusive else "at least 0"
                raise ValueError(f"{name} must be {least} and at most {self.capacity:g}, the capacity, not {value:g}")

    def cost(self, error_class: ErrorClass) -> float:
        """The price of a retry after an error of this class."""
        return self.throttle_cost if error_class is ErrorClass.THROTTLED else self.transient_cost

    def price(self, retries: int) -> float:
        """The most that this many retries can cost."""
        return retries * max(self.transient_cost, self.throttle_cost)


class TokenBucket:
    """The bucket itself: pure, the time is passed in, not safe for threads."""

    __slots__ = ("_capacity", "_rate", "_refilled_at", "tokens")

    def __init__(self, config: RetryBudgetConfig, now: float) -> None:
        self._capacity = config.capacity
        self._rate = config.refill_rate
        self._refilled_at = now
        self.tokens = config.capacity

    @classmethod
    def load(cls, config: RetryBudgetConfig, tokens: float, refilled_at: float) -> Self:
        """A bucket that held ``tokens`` at ``refilled_at``."""
        bucket = cls(config, refilled_at)
        bucket.tokens = tokens
        return bucket

    def refill(self, now: float) -> None:
        """Adds the tokens accrued since the last access. A clock that steps back adds nothing."""
        elapsed = now - self._refilled_at
        if elapsed > 0:
            self._refilled_at = now
            held = self.tokens + elapsed * self._rate
            self.tokens = held if held < self._capacity else self._capacity

    def take(self, cost: float, now: float) -> bool:
        """Takes ``cost`` tokens, or nothing if there are not enough."""
        elapsed = now - self._refilled_at
        held = self.tokens
        if elapsed > 0:
            self._refilled_at = now
            held += elapsed * self._rate
            held = held if held < self._capacity else self._capacity
        paid = held >= cost
        self.tokens = held - cost if paid else held
        return paid

    def set(self, tokens: float, now: float) -> bool:
        """Takes over a balance from elsewhere. ``True`` if the bucket is full."""
        self._refilled_at = now
        self.tokens = min(max(tokens, 0.0), self._capacity)
        return self.tokens >= self._capacity

    def enlarge(self, capacity: float) -> None:
        """Raises the capacity; the added part is full."""
        self.tokens += capacity - self._capacity
        self._capacity = capacity

    def give(self, tokens: float) -> bool:
        """Returns tokens, up to the capacity. ``True`` if the bucket is full."""
        held = self.tokens + tokens
        full = held >= self._capacity
        self.tokens = self._capacity if full else held
        return full
