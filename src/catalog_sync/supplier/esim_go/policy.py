"""The policy for calls to eSIM Go, and the meaning of its errors. Loads no HTTP client: ``status`` uses it too."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import SUPPLIER
from otel_resilience import (
    Classification,
    ErrorClass,
    Policy,
    RateLimit,
    RateLimiter,
    Severity,
    default_classifier,
)

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from otel_resilience.storage import SharedState

MAX_IN_FLIGHT: Final = 16
"""Maximum concurrent requests. Enough for 10 per second at a response time of 1.5 s, few enough for little memory."""

DEPENDENCY: Final = SUPPLIER
"""The supplier's ``resilience.dependency``."""

LONGEST_WAIT: Final = 0.5
"""Share of a sync's whole time that one wait which the supplier asks for may take. After a longer one too little would
be left for the rest: the sync would wait for minutes and then publish nothing."""

NO_LIMIT: Final = 1_000_000
"""Requests per second that are never reached; pauses requested by the supplier still apply."""


def classify_denial(error: BaseException) -> Classification | None:
    """The verdict for eSIM Go: a denial concerns one group until the key itself is rejected.

    The key is static, so a 401 is not retried either.
    """
    import httpx  # only if a request failed

    if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code not in {401, 403}:
        return None
    key_itself = error.response.request.url.path.endswith("/organisation")
    severity = Severity.CRITICAL if key_itself else Severity.MEDIUM
    return Classification(ErrorClass.PERMANENT, severity, str(error.response.status_code), max_retries=0)


def supplier_policy(settings: Settings, shared: SharedState | None = None) -> Policy:
    """The policy for every call to the supplier. One per process: it holds breaker and retry budget, in ``shared`` if
    they should outlive the process and be shared with all workers."""
    return Policy(
        DEPENDENCY,
        retry=dataclasses.replace(settings.retry, max_retry_after=settings.sync_deadline * LONGEST_WAIT),
        breaker=settings.breaker,
        deadline=settings.sync_deadline,
        attempt_timeout=min(settings.attempt_timeout, settings.sync_deadline),
        max_concurrency=MAX_IN_FLIGHT,
        rate_limit=_rate_limit(settings),
        shared=shared,
        classifier=default_classifier().extended(classify_denial),
        idempotent=True,
    )


def _rate_limit(settings: Settings) -> RateLimit | RateLimiter:
    """The rate limit from the settings, shared through ``REDIS_URL`` if that is set, else local to this process."""
    rate = settings.supplier_rate
    limit = max(1, int(rate)) if rate else NO_LIMIT
    config = RateLimit(limit, per=limit / rate if rate else 1.0)
    return config if settings.redis_url and rate else RateLimiter(DEPENDENCY, config)
