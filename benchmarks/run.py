"""Measures the library against its peers: ``python -m benchmarks.run``.

Every case is checked before and after it is timed. Ratios are taken within one run and one repeat, in which all cases
of a group run in a new random order.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import pathlib
import sys
from collections.abc import Callable

import stamina.instrumentation

from benchmarks import client_errors, groups, http_clients, recording, report, tables, targets, time_limits
from benchmarks.measure import Bench, Case, Result, SleepsAreFree

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 if a target is not met and ``--strict`` was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11, help="timings of each case (default 11)")
    parser.add_argument("--slice", type=float, default=60.0, help="milliseconds of one timing (default 60)")
    parser.add_argument("--groups", default="ABCDEFIJKLHG", help="letters of the groups to measure (default: all)")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    wrong = _other_versions()
    if wrong:
        print(f"not the pinned versions: {', '.join(wrong)}; see {REQUIREMENTS.name}", file=sys.stderr)
        return 2
    for name in ("interlock", "pybreaker", "opnieuw", "backoff", "backon", "tenacity"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    stamina.instrumentation.set_on_retry_hooks([])
    bench = Bench(repeats=options.repeats, slice_seconds=options.slice / 1000)
    found, verdicts = _measure(bench, options.groups.upper())
    text = "\n\n".join(
        [
            f"{tables.machine()}; {options.repeats} repeats of {options.slice:g} ms.",
            "### Targets",
            report.targets(verdicts),
            "### All cases",
            report.results(found),
        ]
    )
    print(text)
    if options.readme:
        tables.write_results("run", text)
    return int(options.strict and not all(verdict.met for verdict in verdicts))


def _measure(bench: Bench, letters: str) -> tuple[list[Result], list[targets.Verdict]]:
    found: list[Result] = []
    verdicts: list[targets.Verdict] = []
    for letter, make_cases in PLAN.items():
        if letter not in letters:
            continue
        with SleepsAreFree():
            results = bench.run(make_cases())
            verdicts += targets.check(bench, results)
        found += results
        print(f"group {letter} measured", file=sys.stderr)
    return found, verdicts


def _recording_cases() -> list[Case]:
    telemetry = recording.Telemetry()
    cases = telemetry.cases()
    by_name = {case.name: case for case in cases}
    for kind in (recording.SYNC, recording.ASYNC):
        telemetry.compare(by_name[f"{groups.OURS}retry+budget+breaker {kind}"], by_name[f"by hand {kind}"])
    return cases


PLAN: dict[str, Callable[[], list[Case]]] = {
    "A": lambda: groups.success(asynchronous=False),
    "B": lambda: groups.success(asynchronous=True),
    "C": lambda: groups.one_retry(asynchronous=False),
    "D": lambda: groups.one_retry(asynchronous=True),
    "E": lambda: groups.rejection(asynchronous=False),
    "F": lambda: groups.rejection(asynchronous=True),
    "I": lambda: client_errors.cases(real=True),
    "J": lambda: client_errors.cases(real=False),
    "K": time_limits.cases,
    "L": time_limits.thread_cases,
    "H": http_clients.cases,
    "G": _recording_cases,  # last, since the providers cannot be taken away again
}


def _other_versions() -> list[str]:
    wrong = []
    for line in REQUIREMENTS.read_text().splitlines():
        name, _, version = line.partition("==")
        if not version:
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "absent"
        if installed != version:
            wrong.append(f"{name} {installed} (wanted {version})")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
