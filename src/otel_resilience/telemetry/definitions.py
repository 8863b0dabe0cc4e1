"""What a definition of telemetry holds: the shapes that ``contract`` is made of."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One instrument of the contract."""

    name: str
    kind: Literal["counter", "histogram", "gauge", "updowncounter"]
    unit: str
    attributes: tuple[str, ...]
    description: str
    boundaries: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One span of the contract."""

    name: str
    kind: str
    attributes: tuple[str, ...]
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of the contract: a log record with this event name."""

    name: str
    severity: str
    attributes: tuple[str, ...]
    description: str
