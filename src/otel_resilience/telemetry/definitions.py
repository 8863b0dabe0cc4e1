"""The types used to define telemetry in ``contract``.

Named tuples, since every program loads them: creating them takes a fraction of the time of a dataclass.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One instrument of the contract."""

    name: str
    kind: Literal["counter", "histogram", "gauge", "updowncounter"]
    unit: str
    attributes: tuple[str, ...]
    description: str
    boundaries: tuple[float, ...] | None = None
