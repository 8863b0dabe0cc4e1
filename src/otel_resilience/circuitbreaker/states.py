"""States of a circuit breaker and the transitions between them."""

from __future__ import annotations

import dataclasses
from enum import Enum, StrEnum


class BreakerState(Enum):
    """The state of a breaker. The value is the attribute ``resilience.circuit_breaker.state``.

    Examples:
        >>> CircuitBreaker("supplier").state
        <BreakerState.CLOSED: 'closed'>
    """

    CLOSED = "closed"
    """Calls pass and are counted."""
    OPEN = "open"
    """Calls are rejected until the open time ends."""
    HALF_OPEN = "half_open"
    """A limited number of probes may pass; their results decide."""
    FORCED_OPEN = "forced_open"
    """Opened manually: rejects until it is closed or reset manually."""
    SHADOW = "shadow"
    """Everything passes; rejections are only reported."""


class TransitionReason(StrEnum):
    """Why a breaker changed its state; the attribute ``resilience.reason``.

    Examples:
        >>> breaker = CircuitBreaker("supplier")
        >>> breaker.force_open()
        >>> breaker.metrics().last_transition.reason
        <TransitionReason.MANUAL: 'manual'>
    """

    FAILURE_THRESHOLD = "failure_threshold"
    """The failures within the window reached ``failure_threshold``."""
    CONSECUTIVE_FAILURES = "consecutive_failures"
    """Too many failures in a row."""
    FAILURE_RATE = "failure_rate"
    """Too large a share of the calls in the window failed."""
    SLOW_CALL_RATE = "slow_call_rate"
    """Too large a share of the calls in the window was slow."""
    OPEN_TIME_ENDED = "open_time_ended"
    """Probes may pass."""
    PROBE_SUCCEEDED = "probe_succeeded"
    """Enough probes in a row succeeded."""
    PROBE_FAILED = "probe_failed"
    """A probe failed: the circuit is open for longer than before."""
    MANUAL = "manual"
    """By ``force_open``, ``close`` or ``reset``."""
    SHARED = "shared"
    """Changed by another user of the same shared state."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """One change of state.

    Examples:
        >>> breaker = CircuitBreaker("supplier")
        >>> breaker.force_open()
        >>> last = breaker.metrics().last_transition
        >>> f"{last.source.name} to {last.target.name}: {last.reason}"
        'CLOSED to FORCED_OPEN: manual'
    """

    source: BreakerState
    target: BreakerState
    reason: TransitionReason
    at: float
    """When it happened, in seconds on the breaker's clock."""
    error_type: str | None = None
    """The ``error.type`` of the failure that caused it."""
    failures: int = 0
    """Failures in the window at that moment."""
    calls: int = 0
    """Calls in the window at that moment."""
    open_for: float | None = None
    """Seconds until a probe may pass, if the breaker opened."""
    open_duration: float | None = None
    """Seconds from opening to closing, if the breaker closed."""
