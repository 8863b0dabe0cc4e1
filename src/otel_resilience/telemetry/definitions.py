"""What a definition of telemetry holds: the shapes that ``contract`` is made of.

Named tuples, since every program loads them: they are made in a fraction of the time of a dataclass.
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
