"""Protection for whole HTTP clients, one line each: httpx (and httpx2), requests, aiohttp.

Every request of the client is a protected call, every attempt of it a request on the wire. What they promise alike:

* A status from 400 is judged and may be repeated, but is never raised: what the caller gets in the end is the last
  answer, as from a bare client. The circuit breaker counts what says that the server is not well: a 404 does not.
* ``Retry-After`` is honoured; a request with an unsafe method and no ``Idempotency-Key``, or with a body that can be
  read only once, is repeated only if it provably was not sent.
* ``attempt_timeout`` and what is left of the deadline bound the client's own timeouts.
* An open circuit raises :class:`~otel_resilience.CircuitOpenError`.
* With ``max_body_bytes`` the body is a part of the attempt, and ``judge`` has a say on the complete answer.

Each module needs its client; nothing here is imported by ``otel_resilience`` itself.
"""

from otel_resilience.integrations._body import BodyEncodingError, BodyError, BodyTooLargeError
from otel_resilience.integrations._http import PolicyByHost, StatusError

__all__ = ["BodyEncodingError", "BodyError", "BodyTooLargeError", "PolicyByHost", "StatusError"]
