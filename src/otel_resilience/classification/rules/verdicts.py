"""Verdicts that the rules of several clients share, so that a fault is judged alike whichever client reports it."""

from __future__ import annotations

from typing import Any, Final

from otel_resilience.classification import error_types
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity


def transient(error_type: str, breaker: BreakerEffect = BreakerEffect.FAILURE, **fields: Any) -> Classification:
    """Passes soon; counts against the dependency by default."""
    return Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_type, breaker, **fields)


def slow(error_type: str, breaker: BreakerEffect = BreakerEffect.FAILURE, **fields: Any) -> Classification:
    """Heals in seconds to minutes; counts against the dependency by default."""
    return Classification(ErrorClass.TRANSIENT_SLOW, Severity.HIGH, error_type, breaker, **fields)


def permanent(
    error_type: str,
    severity: Severity = Severity.HIGH,
    breaker: BreakerEffect = BreakerEffect.NEUTRAL,
    **fields: Any,
) -> Classification:
    """A repetition gives the same result; neutral by default."""
    return Classification(ErrorClass.PERMANENT, severity, error_type, breaker, **fields)


CONNECT_TIMEOUT: Final = transient(error_types.CONNECT_TIMEOUT, unsent=True)
READ_TIMEOUT: Final = transient(error_types.READ_TIMEOUT)
WRITE_TIMEOUT: Final = transient(error_types.WRITE_TIMEOUT)
ENDED: Final = transient(error_types.RESPONSE_ENDED)
KEEP_ALIVE_RACE: Final = transient(error_types.RESPONSE_ENDED, immediate=True)
GARBAGE: Final = transient(error_types.INVALID_RESPONSE)
CONFIRM_ONCE: Final = permanent(error_types.INVALID_RESPONSE, breaker=BreakerEffect.FAILURE, max_retries=1)
"""Gateways occasionally return something else: requested once more, then given up."""
TOO_MANY_REDIRECTS: Final = permanent(error_types.TOO_MANY_REDIRECTS)
PROXY: Final = transient(error_types.PROXY_ERROR, BreakerEffect.NEUTRAL, unsent=True)
PROXY_REFUSES: Final = permanent(error_types.PROXY_ERROR, unsent=True)

MISUSE: Final = permanent(error_types.OTHER)
"""A client that is used or configured wrongly."""
POOL: Final = Classification(ErrorClass.LOCAL, Severity.MEDIUM, error_types.POOL_EXHAUSTED, unsent=True)
"""No connection of our own pool was free in time."""

UNAVAILABLE: Final = transient(error_types.UNAVAILABLE)
"""The server says that it cannot serve now: it is starting, stopping or failing over."""
OVERLOADED: Final = slow(error_types.RESOURCE_EXHAUSTED)
"""The server is short of memory, connections or similar."""
SERVER_ERROR: Final = transient(error_types.SERVER_ERROR)
"""The server failed, as with HTTP's 500."""
BROKEN_SERVER: Final = permanent(error_types.SERVER_ERROR, breaker=BreakerEffect.FAILURE)
"""The server failed in a way that does not pass."""
WRITES_PAUSED: Final = slow(error_types.DISK_FULL, BreakerEffect.NEUTRAL, max_retries=0)
"""The server's disk is full. Reads still work, so the breaker ignores it; retrying a write is pointless."""
THROTTLED: Final = Classification(ErrorClass.THROTTLED, Severity.LOW, error_types.THROTTLED)

AUTHENTICATION: Final = permanent(error_types.AUTHENTICATION_ERROR, Severity.CRITICAL)
EXPIRED: Final = AUTHENTICATION.replace(max_retries=1)
"""Credentials that a client may have renewed by the next attempt."""
NOT_ALLOWED: Final = permanent(error_types.PERMISSION_DENIED, Severity.CRITICAL)

BAD_REQUEST: Final = permanent(error_types.INVALID_REQUEST, Severity.MEDIUM, BreakerEffect.SUCCESS)
"""The server answered properly that it cannot process the request."""
BAD_PROGRAM: Final = BAD_REQUEST.replace(severity=Severity.HIGH)
"""The same, if only a change of the program or of the server's schema helps."""
TOO_LARGE: Final = permanent(error_types.PAYLOAD_TOO_LARGE, Severity.MEDIUM, BreakerEffect.SUCCESS)
NOT_FOUND: Final = permanent(error_types.NOT_FOUND, Severity.LOW, BreakerEffect.SUCCESS)
EXISTS: Final = permanent(error_types.CONFLICT, Severity.LOW, BreakerEffect.SUCCESS)
CONFLICT: Final = transient(error_types.CONFLICT, BreakerEffect.SUCCESS, max_retries=2)
"""Someone else changed it meanwhile, as with HTTP's 409."""
CONSTRAINT: Final = permanent(error_types.CONSTRAINT_VIOLATION, Severity.MEDIUM, BreakerEffect.SUCCESS)
DEADLOCK: Final = transient(error_types.DEADLOCK, BreakerEffect.NEUTRAL)
SERIALIZATION: Final = transient(error_types.SERIALIZATION_FAILURE, BreakerEffect.NEUTRAL)
LOCKED: Final = transient(error_types.LOCK_TIMEOUT, BreakerEffect.NEUTRAL)
