"""What a drill leaves with ``--keep DIR``: Prometheus' data, the decoded traces and logs, and when it was.

``prometheus/``: a folder that :class:`support.prometheus.Prometheus` starts on. ``spans.jsonl``, ``logs.jsonl``: one
object a line. ``drill.json``: times, factors and verdicts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

_FILE: Final = "drill.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """General data of the drill. Times are seconds since the epoch."""

    began: float
    ended: float
    short: bool
    waits: float
    memory: float
    verdicts: tuple[dict[str, Any], ...] = ()
    """For people and for pictures: name, times of the messages, problems."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """From its JSON. Raises ``TypeError`` if a field is missing or unknown."""
        return cls(**data | {"verdicts": tuple(data.get("verdicts", ()))})


def write(folder: Path, left: Left, spans: Sequence[Any], logs: Sequence[Any]) -> None:
    """Writes the files next to Prometheus' folder."""
    _lines(folder / "spans.jsonl", spans)
    _lines(folder / "logs.jsonl", logs)
    (folder / _FILE).write_text(json.dumps(dataclasses.asdict(left), indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Left:
    """What was written. Raises ``FileNotFoundError`` if no drill was kept."""
    return Left.of(json.loads((folder / _FILE).read_text(encoding="utf-8")))


def _lines(file: Path, records: Iterable[Any]) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(dataclasses.asdict(record)) + "\n" for record in records)
