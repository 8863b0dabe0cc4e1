"""The requests that the simulator received, counted."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final

KEPT: Final = 20_000
"""Requests kept individually; the counters are unlimited."""


@dataclasses.dataclass(slots=True)
class SeenRequest:
    """One request. ``status`` and ``fault`` are filled in when it is answered; 0 means that it never was."""

    time: float
    """Seconds, the simulator's monotonic clock, at arrival."""
    method: str
    path: str
    query: str
    endpoint: str
    group: str | None
    page: int | None
    host: str
    """The ``Host`` header: shows whether a client follows a redirect to another host."""
    has_key: bool
    """Whether it had an API key, right or wrong."""
    status: int = 0
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of ``GET /__sim/requests``."""
        return dataclasses.asdict(self)


class RequestLog:
    """Requests to the API in the order of arrival, the last 20,000 of them, and counts of all."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.clear()

    def clear(self) -> None:
        """Forgets everything, including the counters."""
        self._requests: deque[SeenRequest] = deque(maxlen=self._kept)
        self._statuses: Counter[tuple[str, str]] = Counter()
        self._faults: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._busiest = 0
        self._total = 0

    def __len__(self) -> int:
        """The number of all requests, including those no longer kept."""
        return self._total

    def __iter__(self) -> Iterator[SeenRequest]:
        return iter(tuple(self._requests))

    @property
    def busiest_second(self) -> int:
        """The most requests that arrived within any one second."""
        return self._busiest

    def arrived(self, seen: SeenRequest) -> None:
        """Counts a request on arrival."""
        self._total += 1
        self._requests.append(seen)
        self._recent.append(seen.time)
        while self._recent[0] <= seen.time - 1.0:
            self._recent.popleft()
        self._busiest = max(self._busiest, len(self._recent))

    def answered(self, seen: SeenRequest) -> None:
        """Counts its result."""
        self._statuses[seen.endpoint, str(seen.status) if seen.status else "none"] += 1
        if seen.fault is not None:
            self._faults[seen.fault] += 1

    def count(self, endpoint: str | None = None, status: int | None = None) -> int:
        """Answered requests with an endpoint and a status; the status is 0 for those without a response."""
        wanted = None if status is None else str(status) if status else "none"
        return sum(
            number
            for (name, code), number in self._statuses.items()
            if (endpoint is None or name == endpoint) and (wanted is None or code == wanted)
        )

    def totals(self) -> dict[str, Any]:
        """The counters, as shown by ``GET /__sim/stats``."""
        endpoints: dict[str, dict[str, int]] = {}
        statuses: Counter[str] = Counter()
        for (endpoint, status), number in sorted(self._statuses.items()):
            endpoints.setdefault(endpoint, {})[status] = number
            statuses[status] += number
        return {
            "total": self._total,
            "endpoints": endpoints,
            "statuses": dict(statuses),
            "faults": dict(self._faults),
            "max_requests_in_1s": self._busiest,
        }
