"""The rule of the shared rate limit: who may send next, and when. Pure, the time is passed in.

A process alone may send in bursts, as far as its own log lets it. Several take turns at even distances: a late burst of
one would meet the next burst of another at the supplier.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Final, Self

MARGIN: Final = 0.1
"""Several processes together stay this far below the limit: a request reaches the supplier some time after its grant,
and that time differs from process to process."""
ALONE_AFTER: Final = 2.0
"""Seconds after which a process that requested nothing counts as gone."""
LONGEST_TURN: Final = 0.5
"""Seconds for which a turn is kept for a process; where it would have to wait longer it requests again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spacing:
    """The distances of requests at a rate: ``limit`` of them within ``window`` seconds, ``gap`` seconds apart."""

    limit: int
    window: float
    gap: float

    @classmethod
    def of(cls, rate: float) -> Self:
        """Of a rate per second; below 1 it is one request per ``1 / rate`` seconds."""
        limit = max(1, int(rate))
        window = limit / rate * (1 + MARGIN)
        return cls(limit, window, window / limit)


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """The answer to one request for a turn."""

    wait: float
    """Seconds until the turn."""
    kept: bool
    """Whether the turn is this process's; where not, it requests again."""
    processes: int
    """That take turns."""


@dataclasses.dataclass(slots=True)
class Turns:
    """What all processes know of the limit, on the clock of the server that keeps it."""

    next_turn: float = 0.0
    paused_until: float = 0.0
    processes: dict[str, float] = dataclasses.field(default_factory=dict)
    """When each of them last requested a turn."""

    @classmethod
    def load(cls, text: bytes | str) -> Self:
        """What :meth:`dump` wrote. What is not usable counts as new."""
        try:
            document: dict[str, Any] = json.loads(text)
            processes = {str(name): float(at) for name, at in document["processes"].items()}
            found = cls(float(document["next_turn"]), float(document["paused_until"]), processes)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()
        usable = all(map(math.isfinite, (found.next_turn, found.paused_until, *found.processes.values())))
        return found if usable else cls()

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def take(self, now: float, process: str, spacing: Spacing, *, cost: int = 0, pause: float = 0.0) -> Turn:
        """Requests a turn of ``cost`` units, after a pause of ``pause`` seconds for all; a cost of 0 only looks.

        Times that lie in the future by more than a turn can be, after the clock was set back, are not believed.
        """
        self.processes = {name: at for name, at in self.processes.items() if now - ALONE_AFTER < at < now}
        self.processes[process] = now
        alone = len(self.processes) == 1
        self.next_turn = max(now, min(self.next_turn, now + spacing.window + LONGEST_TURN))
        self.paused_until = max(self.paused_until, now + pause)
        turn = self.paused_until if alone else max(self.paused_until, self.next_turn)
        kept = cost > 0 and turn - now <= LONGEST_TURN
        if kept and alone:
            self.next_turn = min(self.next_turn + cost * spacing.gap, now + spacing.window)
        elif kept:
            self.next_turn = turn + cost * spacing.gap
        return Turn(turn - now, kept, len(self.processes))
