"""The closed vocabulary of ``error.type``.

A value is an HTTP status code as a string, ``redis_`` plus the lower-case prefix of a Redis reply, or one of the names
below. An answer of a database, a broker or an RPC server has one name whatever the client; its own code (SQLSTATE, gRPC
status, AWS error code) is not shown. The connection names follow .NET's ``HttpRequestError`` in snake_case; ``_OTHER``
is OpenTelemetry's own name for "something else" (semantic conventions, ``error.type``).
"""

from __future__ import annotations

from typing import Final

NAME_RESOLUTION_ERROR: Final = "name_resolution_error"
CONNECTION_ERROR: Final = "connection_error"
SECURE_CONNECTION_ERROR: Final = "secure_connection_error"
PROXY_ERROR: Final = "proxy_error"

CONNECT_TIMEOUT: Final = "connect_timeout"
READ_TIMEOUT: Final = "read_timeout"
WRITE_TIMEOUT: Final = "write_timeout"
ATTEMPT_TIMEOUT: Final = "attempt_timeout"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"

RESPONSE_ENDED: Final = "response_ended"
INVALID_RESPONSE: Final = "invalid_response"
PAYLOAD_TOO_LARGE: Final = "payload_too_large"
SCHEMA_MISMATCH: Final = "schema_mismatch"
FAILED_RESULT: Final = "failed_result"
TOO_MANY_REDIRECTS: Final = "too_many_redirects"
REDIRECT_REFUSED: Final = "redirect_refused"

CIRCUIT_OPEN: Final = "circuit_open"
BUDGET_EXHAUSTED: Final = "budget_exhausted"
RATE_LIMITED: Final = "rate_limited"
CONCURRENCY_LIMITED: Final = "concurrency_limited"
POOL_EXHAUSTED: Final = "pool_exhausted"
RESOURCE_EXHAUSTED: Final = "resource_exhausted"
DISK_FULL: Final = "disk_full"
PERMISSION_DENIED: Final = "permission_denied"
AUTHENTICATION_ERROR: Final = "authentication_error"
CLOCK_SKEW: Final = "clock_skew"

UNAVAILABLE: Final = "unavailable"
SERVER_ERROR: Final = "server_error"
THROTTLED: Final = "throttled"
INVALID_REQUEST: Final = "invalid_request"
NOT_FOUND: Final = "not_found"
CONFLICT: Final = "conflict"
CONSTRAINT_VIOLATION: Final = "constraint_violation"
DEADLOCK: Final = "deadlock"
SERIALIZATION_FAILURE: Final = "serialization_failure"
LOCK_TIMEOUT: Final = "lock_timeout"

CANCELLED: Final = "cancelled"
OTHER: Final = "_OTHER"

NAMES: Final = frozenset(value for name, value in vars().items() if name.isupper())
"""All names of the vocabulary that are neither a status code nor a Redis reply."""

REDIS_PREFIX: Final = "redis_"


def redis_reply(prefix: str) -> str:
    """The ``error.type`` of a Redis error reply: ``READONLY`` becomes ``redis_readonly``."""
    return REDIS_PREFIX + prefix.lower()
