"""Measures whole processes against what they cannot do without: ``python -m benchmarks.processes``.

Each process and its yardstick run in turn, and the median of the ratios counts: of processor time for start-up, of time
for a sync, which waits for its supplier. What each of them prints is checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.sync_speed import COMMAND, KEY, SyncFailedError, flush, program_environment, redis_server, simulator
from benchmarks.tables import machine, table, write_results

BUNDLES = 5_221
BARE_SYNC = pathlib.Path(__file__).with_name("bare_sync.py")
API = "import asyncio, sys; from opentelemetry import metrics, trace; "
LIBRARY = "import otel_resilience, sys; "
FIRST_CALL = """
import sys
from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig
policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30)
assert policy.execute(lambda: "plans") == "plans"
"""
CLIENTS = "import sys, redis, rich, pydantic; "
LOADED = "print(sys.modules.keys() >= {%s})"

Check = Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Side:
    """A process and what it must print."""

    arguments: tuple[str, ...]
    is_right: Check


@dataclasses.dataclass(frozen=True)
class Row:
    """A process, its yardstick, and the ratio to reach."""

    name: str
    against: str
    ours: Side
    yardstick: Side
    limit: float
    by_time: bool = False
    """By elapsed time instead of processor time."""


def python(code: str, *loaded: str) -> Side:
    """``code`` in a process of its own, after which these modules are loaded."""
    names = ", ".join(map(repr, loaded))
    return Side((sys.executable, "-c", code + LOADED % names), lambda output: output.strip() == "True")


def program(is_right: Callable[[dict[str, Any]], bool], *arguments: str) -> Side:
    """A command of ``catalog-sync`` with ``--json``."""
    return Side((*COMMAND, *arguments, "--json"), lambda output: is_right(json.loads(output)))


def rows(ready: Mapping[str, Any]) -> list[Row]:
    """What is measured; the catalogue must have been published."""
    bundles = ready["bundles"]
    api = python(API, "opentelemetry.trace", "opentelemetry.metrics", "asyncio")
    clients = python(CLIENTS, "redis", "rich", "pydantic")
    bare = Side(
        (sys.executable, str(BARE_SYNC), ready["base_url"], KEY), lambda text: json.loads(text)["bundles"] == bundles
    )
    imported, needed = "OpenTelemetry's API and asyncio", "import redis, rich, pydantic"
    return [
        Row("import otel_resilience", imported, python(LIBRARY, "otel_resilience"), api, 1.3),
        Row("a policy and its first call", imported, python(FIRST_CALL, "otel_resilience.policy.call"), api, 1.3),
        Row("search", needed, program(lambda found: found["total"] > 0, "search", "--country", "PT"), clients, 1.3),
        Row("status", needed, program(lambda found: found["store"]["reachable"], "status"), clients, 1.5),
        Row(
            f"full sync of {bundles:,} bundles",
            "the same pages, fetched and parsed",
            program(lambda report: report["outcome"] == "COMPLETE" and report["bundles"] == bundles, "run"),
            bare,
            1.4,
            by_time=True,
        ),
    ]


def run(side: Side, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and processor seconds of one process. Raises ``SyncFailedError`` if it does not do what it should."""
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(side.arguments, stdout=output, stderr=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode != 0 or not side.is_right(text):
        raise SyncFailedError(f"{' '.join(side.arguments)}: exit {process.returncode}: {text[:500]}")
    return seconds, usage.ru_utime + usage.ru_stime


def measure(row: Row, pairs: int, environment: dict[str, str], prepare: Callable[[], None]) -> list[str]:
    """One line of the table."""
    found: list[tuple[float, float]] = []
    for at in range(-1, pairs):  # the first pair, for byte code and the file cache, is not counted
        sides = {}
        for side in (row.ours, row.yardstick) if at % 2 else (row.yardstick, row.ours):
            if row.by_time:
                prepare()
            sides[side] = run(side, environment)[0 if row.by_time else 1]
        if at >= 0:
            found.append((sides[row.ours], sides[row.yardstick]))
    ratios = [ours / least for ours, least in found]
    ratio = statistics.median(ratios)
    print(f"{row.name}: {ratio:.2f}", file=sys.stderr)
    return [
        row.name,
        row.against,
        *(f"{statistics.median(side) * 1000:,.0f}" for side in zip(*found, strict=True)),
        "time" if row.by_time else "processor",
        f"<= {row.limit:g} x",
        f"{ratio:.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        "met" if ratio <= row.limit else "NOT MET",
    ]


HEADER = ["process", "against", "ours ms", "against ms", "by", "limit", "median", "min-max", "verdict"]


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 if a process fails, and with ``--strict`` also if a target is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="pairs of each row (default 15)")
    parser.add_argument("--data", help="JSON file of bundles that the simulator serves (default: a generated one)")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            redis_server(pathlib.Path(folder)) as redis_url,
            simulator(BUNDLES, 0, data=options.data) as ready,
        ):
            environment = program_environment(
                ESIM_GO_API_KEY=KEY,
                ESIM_GO_BASE_URL=ready["base_url"],
                CATALOG_STATE_DIR=folder,
                CATALOG_SUPPLIER_RATE_PER_S="0",
                REDIS_URL=redis_url,
            )
            planned = rows(ready)
            run(planned[-1].ours, environment)
            found = [measure(row, options.repeats, environment, lambda: flush(redis_url)) for row in planned]
    except SyncFailedError as error:
        print(f"benchmarks.processes: {error}", file=sys.stderr)
        return 1
    text = f"{machine()}; {options.repeats} pairs.\n\n{table(HEADER, found)}"
    print(text)
    if options.readme:
        write_results("processes", text)
    return int(options.strict and any(line[-1] != "met" for line in found))


if __name__ == "__main__":
    sys.exit(main())
