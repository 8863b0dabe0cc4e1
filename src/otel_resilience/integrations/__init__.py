"""Protection for whole HTTP clients, one line each: httpx (and httpx2), requests, aiohttp.

Every request of the client is a protected call, every attempt of it a request on the wire. All of them promise:

* A status of 400 or above is judged and may be retried, but is never raised: the caller finally gets the last response,
as from a bare client. The circuit breaker counts responses that show an unhealthy server: a 404 does not.
* ``Retry-After`` is honoured; a request with an unsafe method and no ``Idempotency-Key``, or with a body that can be
read only once, is retried only if it provably was not sent.
* ``attempt_timeout`` and the remaining deadline cap the client's own timeouts.
* An open circuit raises :class:`~otel_resilience.CircuitOpenError`.
* With ``max_body_bytes`` the body is part of the attempt, and ``judge`` can examine the complete response.

Each module needs its client library; ``otel_resilience`` itself imports none of them.
"""

from otel_resilience.integrations._body import BodyEncodingError, BodyError, BodyTooLargeError
from otel_resilience.integrations._http import PolicyByHost, StatusError

__all__ = ["BodyEncodingError", "BodyError", "BodyTooLargeError", "PolicyByHost", "StatusError"]
