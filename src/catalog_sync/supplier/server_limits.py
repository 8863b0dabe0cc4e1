"""What the rate-limit headers of a response ask for: ``Retry-After`` and ``X-Ratelimit-*``. Pure."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING

from catalog_sync.domain.schedule import LONGEST_PAUSE
from catalog_sync.domain.times import http_date
from otel_resilience.classification.retry_after import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

DATE_RESOLUTION = 1.0
"""The ``Date`` header has a resolution of whole seconds."""


def pause(status: int, headers: Mapping[str, str], now: float) -> float:
    """Seconds for which nothing should be sent; 0 if the response does not ask for it. ``now`` is the wall clock.

    At most :data:`~catalog_sync.domain.schedule.LONGEST_PAUSE`, like the schedule. A reset time beyond that is ignored:
    no rate limit has such a window.

    ``Retry-After`` counts with 429 and 503, ``X-Ratelimit-Reset`` if nothing remains. A reset time is compared with
    the supplier's own ``Date``, so that a wrong clock here does no harm. After a success the pause is rounded down: our
    own limit already spaces requests within a second.
    """
    waits = [0.0]
    if status in {429, 503}:
        hint = parse_retry_after(headers.get("retry-after"), date=headers.get("date"), now=now)
        waits.append(hint or 0.0)
    if status == 429 or headers.get("x-ratelimit-remaining", "").strip() == "0":
        server_now = http_date(headers.get("date"))
        reset = _iso_time(headers.get("x-ratelimit-reset"))
        if reset is not None:
            wait = reset - (now if server_now is None else server_now)
            waits.append((wait if status == 429 else wait - DATE_RESOLUTION) if wait <= LONGEST_PAUSE else 0.0)
    return min(max(wait for wait in waits if math.isfinite(wait)), LONGEST_PAUSE)


def cost(headers: Mapping[str, str]) -> int | None:
    """``X-Ratelimit-Cost``: the tokens that this endpoint costs; ``None`` if it is not a positive count."""
    text = headers.get("x-ratelimit-cost", "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        return None
    return int(text) or None


def _iso_time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
