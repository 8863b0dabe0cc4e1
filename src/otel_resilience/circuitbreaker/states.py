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
    """A limited number of probes may pass; they decide."""
    FORCED_OPEN = "forced_open"
    """Opened manually: rejects until it is closed or reset manually."""
    SHADOW = "shadow"
    """Everything passes; what would have been rejected is only reported."""


class TransitionReason(StrEnum):
    """Why a breaker changed its state; the attribute ``resilience.reason``.

    Examples:
        >>> breaker = CircuitBreaker("supplier")
        >>> breaker.force_open()
        >>> breaker.metrics().last_transition.reason
        <TransitionReason.MANUAL: 'manual'>
    """

    FAILURE_THRESHOLD = "failure_threshold"
    """As many failures within the window as ``failure_threshold`` allows."""
    CONSECUTIVE_FAILURES = "consecutive_failures"
    """That many failures in a row."""
    FAILURE_RATE = "failure_rate"
    """That share of the calls in the window failed."""
    SLOW_CALL_RATE = "slow_call_rate"
    """That share of the calls in the window was slow."""
    OPEN_TIME_ENDED = "open_time_ended"
    """Probes may pass."""
    PROBE_SUCCEEDED = "probe_succeeded"
    """As many probes in a row as the configuration asks for."""
    PROBE_FAILED = "probe_failed"
    """One failed: the circuit is open for longer than before."""
    MANUAL = "manual"
    """By ``force_open``, ``close`` or ``reset``."""
    SHARED = "shared"
    """Another user of the same shared state changed it."""


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
    """On the clock of the breaker, seconds."""
    error_type: str | None = None
    """The ``error.type`` of the failure that caused it."""
    failures: int = 0
    """Failures in the window at that moment."""
    calls: int = 0
    """Calls in the window at that moment."""
    open_for: float | None = None
    """Seconds until a probe may pass, if it opened."""
    open_duration: float | None = None
    """Seconds from opening to closing, if it closed."""
