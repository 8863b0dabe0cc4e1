"""Backoff: how long to wait before a retry. Pure; the random number comes from the caller.

The ceiling of retry ``k`` (0 for the first) is ``min(max_delay, base × exponential_base ** k)``. Full, equal and
decorrelated jitter follow M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; full jitter gives
the fewest calls under contention and is the default.
"""

from __future__ import annotations

import math
from enum import StrEnum


class Jitter(StrEnum):
    """How the wait is distributed below its ceiling.

    Examples:
        >>> Jitter.of(True) is Jitter.FULL and Jitter.of("none") is Jitter.NONE
        True
    """

    FULL = "full"
    """Uniform in ``[0, ceiling]``."""
    EQUAL = "equal"
    """Uniform in ``[ceiling / 2, ceiling]``."""
    DECORRELATED = "decorrelated"
    """Uniform in ``[base, 3 × previous wait]``, capped at ``max_delay``; starts from the base."""
    NONE = "none"
    """The ceiling itself."""

    @classmethod
    def of(cls, value: Jitter | str | bool) -> Jitter:
        """Reads ``True`` as full and ``False`` as none. Raises ``ValueError`` for an unknown name."""
        if isinstance(value, bool):
            return cls.FULL if value else cls.NONE
        try:
            return cls(value)
        except ValueError:
            raise ValueError(f"jitter must be one of {', '.join(cls)} or a bool, not {value!r}") from None


def ceiling(base: float, exponent_base: float, retry: int, max_delay: float) -> float:
    """The maximum wait before retry ``retry`` (0 for the first), in seconds."""
    if base <= 0:
        return 0.0
    if exponent_base > 1.0 and retry * math.log(exponent_base) > math.log(max(max_delay / base, 1.0)):
        return max_delay
    try:
        return min(max_delay, base * exponent_base**retry)
    except OverflowError:
        return max_delay


def spread(jitter: Jitter, longest: float, base: float, previous: float, max_delay: float, fraction: float) -> float:
    """The wait in seconds for a random ``fraction`` in ``[0, 1)``.

    ``longest`` is the ceiling, ``previous`` the wait before the last retry (0 before the first), used only by
    decorrelated jitter.
    """
    if jitter is Jitter.FULL:
        return longest * fraction
    if jitter is Jitter.EQUAL:
        return longest / 2 + longest / 2 * fraction
    if jitter is Jitter.DECORRELATED:
        last = max(previous, base)
        return min(max_delay, base + (3 * last - base) * fraction)
    return longest
