"""Measures whole syncs, from the start of the process to its end: ``python -m benchmarks.sync_speed``.

The supplier is ``catalog-sync simulate``, the sync is ``catalog-sync run --json``, both in processes of their own. The
store is a real redis-server that is started here and keeps nothing on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from benchmarks.tables import machine, table, write_results

CATALOGUE = 5_200
RATE = 10
COMMAND = (sys.executable, "-m", "catalog_sync")
KEY = "simulator-key"


@dataclasses.dataclass(frozen=True, slots=True)
class Sync:
    """One whole sync as seen from outside."""

    seconds: float
    """From the start of the process to its end."""
    inside: float
    """What the report of the sync says."""
    cpu: float
    """Processor seconds of the process."""
    peak_mb: float
    """Largest resident size of the process, in MB of 10^6 bytes."""
    requests: int
    """Requests that the simulator counted."""
    bundles: int


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One line of the last table."""

    name: str
    limit: str
    measured: str
    met: bool


class SyncFailedError(Exception):
    """A sync did not end as it should have."""


@contextlib.contextmanager
def redis_server(folder: pathlib.Path) -> Iterator[str]:
    """A server without persistence; yields its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise SyncFailedError("redis-server is not on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def simulator(bundles: int, rate: int, *, data: str | None = None) -> Iterator[dict[str, Any]]:
    """``catalog-sync simulate``; yields the line it prints when it is ready. ``data``: a file of bundles to serve."""
    served = ["--bundles", str(bundles)] if data is None else ["--data", data]
    options = ["simulate", "--json", *served, "--rate", str(rate), "--api-key", KEY]
    server = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True, env=program_environment())
    try:
        if server.stdout is None:
            raise SyncFailedError("the simulator has no output")
        line = server.stdout.readline()
        if not line:
            raise SyncFailedError("the simulator did not start")
        yield json.loads(line)
    finally:
        server.terminate()
        server.wait()


def program_environment(**settings: str) -> dict[str, str]:
    """Our environment without what would change the run: its settings, telemetry, and a ban on cached byte code."""
    dropped = ("OTEL_", "CATALOG_", "ERROR_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | settings


def _control(ready: dict[str, Any], method: str, name: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{ready['control_url']}/{name}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def sync(
    ready: dict[str, Any], redis_url: str | None, rate: int, *, page_size: int | None = None, empty: bool = True
) -> Sync:
    """One full sync into an emptied store, or into a private one if there is no ``redis_url``."""
    _control(ready, "POST", "reset")
    if redis_url is not None and empty:
        flush(redis_url)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "ESIM_GO_API_KEY": KEY,
            "ESIM_GO_BASE_URL": ready["base_url"],
            "CATALOG_STATE_DIR": folder,
            "CATALOG_SUPPLIER_RATE_PER_S": str(rate),
            "REDIS_URL": redis_url or "",
        }
        if page_size is not None:
            settings["CATALOG_PAGE_SIZE"] = str(page_size)
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*COMMAND, "run", "--json"], stdout=output, stderr=errors, env=program_environment(**settings)
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            errors.seek(0)
            if process.returncode != 0:
                raise SyncFailedError(f"exit {process.returncode}: {output.read()[:2000]} {errors.read()[-2000:]}")
            report = json.load(output)
    if report["outcome"] != "COMPLETE" or report["bundles"] != ready["bundles"]:
        raise SyncFailedError(f"{report['outcome']} with {report['bundles']} of {ready['bundles']} bundles")
    unit = 1 if sys.platform == "darwin" else 1024
    return Sync(
        seconds,
        report["duration_s"],
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * unit / 1e6,
        _control(ready, "GET", "stats")["requests"]["total"],
        report["bundles"],
    )


def flush(redis_url: str) -> None:
    """Empties the store."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        if not connection.recv(64).startswith(b"+OK"):
            raise SyncFailedError("the store could not be emptied")


def floor(requests: int, rate: int) -> float:
    """Seconds that the limit costs at the least: the requests go out in full windows, the last one without a wait."""
    return float(math.ceil(requests / rate) - 1)


def _row(name: str, runs: list[Sync]) -> list[str]:
    def middle(field: str) -> float:
        return float(statistics.median(getattr(run, field) for run in runs))

    spread = f"{min(run.seconds for run in runs):.2f}-{max(run.seconds for run in runs):.2f}"
    return [
        name,
        f"{runs[0].bundles:,}",
        f"{runs[0].requests:,}",
        f"{middle('seconds'):.2f}",
        spread,
        f"{middle('inside'):.2f}",
        f"{middle('cpu'):.2f}",
        f"{middle('seconds') / runs[0].bundles * 1e6:,.0f}",
        f"{max(run.peak_mb for run in runs):.0f}",
    ]


HEADER = ["sync", "bundles", "requests", "process s", "min-max", "report s", "CPU s", "µs/bundle", "peak MB"]


def measure_catalogue(redis_url: str, repeats: int) -> tuple[list[list[str]], list[Target]]:
    """The usual catalogue without and with the supplier's rate limit."""
    with simulator(CATALOGUE, 0) as ready:
        sync(ready, redis_url, 0)  # byte code and file cache
        free = [sync(ready, redis_url, 0) for _ in range(repeats)]
        private = [sync(ready, None, 0) for _ in range(repeats)]
    with simulator(CATALOGUE, RATE) as ready:
        limited = [sync(ready, redis_url, RATE) for _ in range(max(1, repeats // 3))]
    rows = [
        _row("no rate limit", free),
        _row("no rate limit, starts its own Redis", private),
        _row(f"limit of {RATE}/s", limited),
    ]
    targets = []
    for name, runs in (("whole process", free), ("whole process with its own Redis", private)):
        seconds = statistics.median(run.seconds for run in runs)
        targets.append(Target(f"{CATALOGUE:,} bundles, {name}", "<= 1.5 s", f"{seconds:.2f} s", seconds <= 1.5))
    least = floor(limited[0].requests, RATE)
    for name, field in (("whole process", "seconds"), ("sync alone", "inside")):
        ratio = statistics.median(getattr(run, field) / floor(run.requests, RATE) for run in limited)
        title = f"{RATE}/s, floor of {limited[0].requests} requests {least:.0f} s, {name}"
        targets.append(Target(title, "<= 1.05 x", f"{ratio:.3f} x", ratio <= 1.05))
    return rows, targets


def measure_scaling(redis_url: str, sizes: list[int], page_size: int | None) -> tuple[list[list[str]], list[Target]]:
    """Catalogues of growing size."""
    rows, runs = [], []
    for size in sizes:
        with simulator(size, 0) as ready:
            run = sync(ready, redis_url, 0, page_size=page_size)
        name = "scaling" if page_size is None else f"scaling, {page_size} rows a page"
        rows.append(_row(name, [run]))
        runs.append(run)
        print(f"{size:,} bundles measured", file=sys.stderr)
    largest = runs[-1]
    title = f"peak memory at {largest.bundles:,} bundles"
    targets = [Target(title, "<= 400 MB", f"{largest.peak_mb:.0f} MB", largest.peak_mb <= 400)]
    if len(runs) > 1:
        # Between the two largest, since start-up weighs on the smallest.
        ratio = (largest.cpu / largest.bundles) / (runs[-2].cpu / runs[-2].bundles)
        title = f"processor time per bundle, {largest.bundles:,} against {runs[-2].bundles:,}"
        targets.append(Target(title, "<= 1.1 x", f"{ratio:.2f} x", ratio <= 1.1))
    return rows, targets


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; 1 if a sync fails, and with ``--strict`` also if a target is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="syncs of the usual catalogue (default 5)")
    parser.add_argument(
        "--sizes", default="5000,50000,500000", help="sizes of the scaling row (default %(default)s); empty: none"
    )
    parser.add_argument("--page-size", type=int, help="rows a page in the scaling rows (default: the product's)")
    parser.add_argument("--scaling-only", action="store_true", help="leave the usual catalogue out")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    rows: list[list[str]] = []
    targets: list[Target] = []
    try:
        with tempfile.TemporaryDirectory() as folder, redis_server(pathlib.Path(folder)) as redis_url:
            if not options.scaling_only:
                rows, targets = measure_catalogue(redis_url, options.repeats)
            if options.sizes:
                more, further = measure_scaling(
                    redis_url, [int(each) for each in options.sizes.split(",")], options.page_size
                )
                rows, targets = rows + more, targets + further
    except SyncFailedError as error:
        print(f"benchmarks.sync_speed: {error}", file=sys.stderr)
        return 1
    verdicts = [[each.name, each.limit, each.measured, "met" if each.met else "NOT MET"] for each in targets]
    text = "\n\n".join(
        [
            f"{machine()}; median of {options.repeats} without the limit, one run per size.",
            "### Targets",
            table(["target", "limit", "measured", "verdict"], verdicts),
            "### All syncs",
            table(HEADER, rows),
        ]
    )
    print(text)
    if options.readme:
        write_results("sync_speed", text)
    return int(options.strict and not all(each.met for each in targets))


if __name__ == "__main__":
    sys.exit(main())
