"""What the simulator saw on the wire, counted."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final

KEPT: Final = 20_000
"""Requests kept one by one; counts go on without end."""


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
    """The ``Host`` header: a client that follows a redirect to another host shows here."""
    has_key: bool
    """Whether an API key came with it, right or wrong."""
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
        """Forget everything, the counts too."""
        self._requests: deque[SeenRequest] = deque(maxlen=self._kept)
        self._statuses: Counter[tuple[str, str]] = Counter()
        self._faults: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._busiest = 0
        self._total = 0

    def __len__(self) -> int:
        """All requests counted, also those no longer kept."""
        return self._total

    def __iter__(self) -> Iterator[SeenRequest]:
        return iter(tuple(self._requests))

    @property
    def busiest_second(self) -> int:
        """The most requests that arrived within any one second."""
        return self._busiest

    def arrived(self, seen: SeenRequest) -> None:
        """Count a request at its arrival."""
        self._total += 1
        self._requests.append(seen)
        self._recent.append(seen.time)
        while self._recent[0] <= seen.time - 1.0:
            self._recent.popleft()
        self._busiest = max(self._busiest, len(self._recent))

    def answered(self, seen: SeenRequest) -> None:
        """Count how it ended."""
        self._statuses[seen.endpoint, str(seen.status) if seen.status else "none"] += 1
        if seen.fault is not None:
            self._faults[seen.fault] += 1

    def count(self, endpoint: str | None = None, status: int | None = None) -> int:
        """Answered requests of an endpoint and with a status; 0 is the status of those that got none."""
        wanted = None if status is None else str(status) if status else "none"
        return sum(
            number
            for (name, code), number in self._statuses.items()
            if (endpoint is None or name == endpoint) and (wanted is None or code == wanted)
        )

    def totals(self) -> dict[str, Any]:
        """The counts, as ``GET /__sim/stats`` shows them."""
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
