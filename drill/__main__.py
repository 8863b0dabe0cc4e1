"""``python -m drill``: plays the incidents and prints the table. Exit code 1 if a goal is missed."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.tables import machine

from drill import table
from drill.incidents import INCIDENTS, chosen, playable
from drill.left import Left, write
from drill.pace import Pace
from drill.parts import BUNDLES, missing_programs, running_world
from drill.play import play

CALM: Final = 45.0
SHORT_CALM: Final = 10.0
"""Seconds of the calm stretch."""
SHORT_MEMORY: Final = 36.0
"""Factor for the shortened drill, to save time."""


def main() -> int:
    """The command."""
    parser = _parser()
    options = parser.parse_args()
    try:
        incidents = chosen(short=options.short, names=options.only)
    except ValueError as error:
        parser.error(str(error))
    incidents, left_out = playable(incidents)
    sys.stderr.write("".join(f"{line}\n" for line in left_out))
    if not incidents:
        return 2
    missing = missing_programs()
    if missing:
        sys.stderr.write(f"the drill needs: {', '.join(missing)}\n")
        return 2
    pace = Pace(options.waits, options.memory or (SHORT_MEMORY if options.short else Pace().memory))
    began = time.time()
    # Without this SIGTERM would end the drill immediately and leave its processes behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        with running_world(folder, pace, options.bundles) as world:
            started = time.time()
            verdicts = list(play(world, incidents, SHORT_CALM if options.short else CALM))
            if options.keep:
                kept = Left(started, time.time(), options.short, pace.waits, pace.memory, table.as_data(verdicts))
                write(folder, kept, world.tempo.spans, world.loki.logs)
    summary = f"{table.summary(verdicts)}. {time.time() - began:.0f} s of wall time, {machine()}"
    bad = [f"{line.expectation.name}: {problem}" for line in verdicts for problem in line.problems]
    sys.stdout.write(f"{table.markdown(table.HEADER, table.rows(verdicts))}\n\n{summary}\n")
    sys.stdout.write("".join(f"{problem}\n" for problem in bad))
    if options.write:
        day = time.strftime("%Y-%m-%d", time.gmtime(began))
        lines = [f"Played on {day}: {summary}.", *(f"- missed: {problem}" for problem in bad)]
        table.write_page("\n".join([*lines, "", table.markdown(table.HEADER, table.explained(verdicts))]))
    return 1 if bad else 0


def _absolute(text: str) -> Path:
    """An absolute path: Prometheus resolves relative ones from the folder of its configuration."""
    return Path(text).resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drill", description="Plays incidents and shows who was notified, and when.")
    parser.add_argument("--short", action="store_true", help="only three incidents, for continuous integration")
    names = ", ".join(incident.name for incident in INCIDENTS)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"play this incident: {names}")
    parser.add_argument("--keep", type=_absolute, metavar="DIR", help="leave Prometheus' data, traces and logs there")
    parser.add_argument("--write", action="store_true", help="write the table into docs/drill.md")
    parser.add_argument("--bundles", type=int, default=BUNDLES, metavar="N", help="size of the supplier's catalogue")
    parser.add_argument("--waits", type=float, default=Pace().waits, help="factor for what delays a message")
    parser.add_argument("--memory", type=float, help="factor for what only remembers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
