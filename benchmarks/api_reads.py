"""Measures reads over HTTP: ``python -m benchmarks.api_reads``.

``catalog-api`` against the same endpoint written bare in Starlette, on the same server and the same catalogue; and how
long reads take while a sync publishes and while Redis hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.http_load import Load, as_fast_as_possible, at_a_pace
from benchmarks.sync_speed import CATALOGUE, KEY, RATE, SyncFailedError, Target, redis_server, simulator
from benchmarks.tables import machine, table, write_results

TOKEN = "benchmark-token"
PACE = 200.0
"""Reads per second while latencies are measured: far below the server's capacity, so that reads do not delay each
other."""
HANG = 6.0
"""Seconds for which Redis is stopped."""
ONE = "/bundles?country=PT"
CONSTANT = "bare, made in advance"
CONSTANT_PATH = "/constant" + ONE


def one_query() -> Iterator[str]:
    """Always the same query, so that the response is cached."""
    return itertools.repeat(ONE)


def constant() -> Iterator[str]:
    """A response that the bare server made in advance: the minimum cost of Starlette and uvicorn."""
    return itertools.repeat(CONSTANT_PATH)


_seeds = itertools.count()


def many_queries() -> Iterator[str]:
    """A different query each time, also on other connections: bundles from anywhere, some of certain durations, and
    sometimes the groups."""
    rng = random.Random(next(_seeds))
    while True:
        offset, days, limit = rng.randrange(0, CATALOGUE - 50), rng.randrange(0, 30), rng.randrange(25, 75)
        yield f"/bundles?offset={offset}&limit={limit}"
        yield f"/bundles?min_days={days}&offset={offset % 999}&limit={limit}"
        yield f"/groups?min_days={days}&limit={offset}"


@contextlib.contextmanager
def api(folder: pathlib.Path, redis_url: str, supplier: dict[str, Any], **extra: str) -> Iterator[tuple[str, int]]:
    """A separate ``catalog-api``; yields its URL and its process ID."""
    own = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
        "REDIS_URL": redis_url,
        "CATALOG_STATE_DIR": str(folder / "state"),
        "CATALOG_API_PORT": "0",
        "CATALOG_API_TOKEN": TOKEN,
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "ESIM_GO_BASE_URL": supplier["base_url"],
        "ESIM_GO_API_KEY": KEY,
        **extra,
    }
    with _server([sys.executable, "-m", "catalog_sync.api.command", "--json"], environment) as found:
        yield found


@contextlib.contextmanager
def bare(redis_url: str) -> Iterator[tuple[str, int]]:
    """The endpoint without anything around it; yields its URL and its process ID."""
    with _server([sys.executable, "-m", "benchmarks.bare_api", redis_url], dict(os.environ)) as found:
        yield found


@contextlib.contextmanager
def _server(command: list[str], environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                errors.seek(0)
                raise SyncFailedError(f"{command[2]} did not start: {errors.read()[-2000:]}")
            yield json.loads(line)["base_url"], process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def sync(url: str) -> None:
    """One sync through the API, to its end."""
    order = urllib.request.Request(
        f"{url}/syncs",
        method="POST",
        data=b"{}",
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(order, timeout=30) as answer:
        link = url + answer.headers["Location"]
    while True:
        with urllib.request.urlopen(link, timeout=30) as answer:
            job = json.load(answer)
        if job["status"] == "finished":
            break
        time.sleep(0.05)
    if job["outcome"] != "COMPLETE":
        raise SyncFailedError(f"the sync ended as {job['outcome']}")


def throughput(servers: dict[str, str], seconds: float, repeats: int) -> tuple[list[list[str]], list[Target]]:
    """As many reads as the servers can answer, alternating between them, so that a disturbance affects all of them."""
    loads: dict[tuple[str, str], list[Load]] = {}
    cases = [(name, kind) for kind in ("one query", "other queries") for name in servers]
    cases.remove((CONSTANT, "other queries"))
    for _ in range(repeats):
        for name, kind in cases:
            paths = constant if name == CONSTANT else one_query if kind == "one query" else many_queries
            found = asyncio.run(as_fast_as_possible(servers[name], paths, seconds=seconds, connections=16))
            if found.wrong:
                raise SyncFailedError(f"{name}: {found.wrong} answers were not 200")
            loads.setdefault((name, kind), []).append(found)
    targets = []
    for kind in ("one query", "other queries"):
        share = _share(loads["catalog-api", kind], loads[CONSTANT, "one query"])
        targets.append(
            Target(f"{kind}, against constant bytes of the same server", ">= 0.6 x", f"{share:.2f} x", share >= 0.6)
        )
    rows = []
    for (name, kind), all_found in loads.items():
        rates = [each.per_second for each in all_found]
        share = _share(all_found, loads["bare", kind])
        rows.append(
            [
                f"{name}, {kind}",
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}-{max(rates):,.0f}",
                f"{statistics.median(each.median for each in all_found):.2f}",
                f"{statistics.median(each.percentile(0.99) for each in all_found):.2f}",
                f"{share:.2f}",
            ]
        )
    return rows, targets


def _share(loads: list[Load], base: list[Load]) -> float:
    """The median of the ratios within each turn."""
    return statistics.median(ours / other for ours, other in zip(_rates(loads), _rates(base), strict=True))


def _rates(loads: list[Load]) -> list[float]:
    return [each.per_second for each in loads]


async def quiet_and_disturbed(url: str, redis: int, seconds: float) -> dict[str, Load]:
    """Latencies at a steady pace: undisturbed, while a sync runs and publishes, while Redis hangs."""
    all_found = {"undisturbed": await _paced(url, after(seconds))}
    syncing = asyncio.get_running_loop().run_in_executor(None, sync, url)
    all_found["while a sync runs and publishes"] = await _paced(url, syncing.done)
    await syncing
    os.kill(redis, signal.SIGSTOP)
    try:
        all_found["while Redis hangs"] = await _paced(url, after(HANG))
    finally:
        os.kill(redis, signal.SIGCONT)
    return all_found


async def _paced(url: str, until: Callable[[], bool]) -> Load:
    return await at_a_pace(url, one_query, per_second=PACE, connections=8, until=until)


def after(seconds: float) -> Callable[[], bool]:
    """A function that says whether that many seconds have passed."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def latency(loads: dict[str, Load]) -> tuple[list[list[str]], list[Target]]:
    """The table of latencies, and the targets."""
    rows, targets = [], []
    for name, load in loads.items():
        p99 = load.percentile(0.99)
        rows.append(
            [
                name,
                f"{len(load.took):,}",
                f"{load.median:.2f}",
                f"{p99:.2f}",
                f"{load.percentile(1):.2f}",
                str(load.wrong),
            ]
        )
        if name != "undisturbed":
            good = p99 <= 50 and load.wrong == 0
            targets.append(Target(f"p99 of reads {name}", "<= 50 ms", f"{p99:.1f} ms", good))
    return rows, targets


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; 1 if something fails, and with ``--strict`` also if a target is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_reads", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="of each load (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each load (default %(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis_url = stack.enter_context(redis_server(folder))
            supplier = stack.enter_context(simulator(CATALOGUE, 0))
            limit = {"CATALOG_SUPPLIER_RATE_PER_S": f"{RATE}"}
            url, _ = stack.enter_context(api(folder / "a", redis_url, supplier, **limit))
            sync(url)
            untraced, _ = stack.enter_context(api(folder / "b", redis_url, supplier, OTEL_SDK_DISABLED="true"))
            base, _ = stack.enter_context(bare(redis_url))
            servers = {"bare": base, CONSTANT: base, "catalog-api": url, "catalog-api, no SDK": untraced}
            rows, targets = throughput(servers, options.seconds, options.repeats)
            loads = asyncio.run(quiet_and_disturbed(url, _pid_of(redis_url), options.seconds))
    except SyncFailedError as error:
        print(f"benchmarks.api_reads: {error}", file=sys.stderr)
        return 1
    latencies, further = latency(loads)
    targets += further
    text = "\n\n".join(
        [
            f"{machine()}; {CATALOGUE:,} bundles; median of {options.repeats} loads of {options.seconds:g} s each.",
            "### Targets",
            table(
                ["target", "limit", "measured", "verdict"],
                [[each.name, each.limit, each.measured, "met" if each.met else "NOT MET"] for each in targets],
            ),
            "### As many as possible, 16 connections",
            table(["server", "reads/s", "min-max", "median ms", "p99 ms", "x bare"], rows),
            f"### At {PACE:g} reads a second, 8 connections",
            table(["reads", "number", "median ms", "p99 ms", "max ms", "not 200"], latencies),
        ]
    )
    print(text)
    if options.readme:
        write_results("api_reads", text)
    return int(options.strict and not all(each.met for each in targets))


def _pid_of(redis_url: str) -> int:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        return int(client.info("server")["process_id"])


if __name__ == "__main__":
    sys.exit(main())
