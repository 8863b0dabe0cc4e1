"""Measures what grows: ``python -m benchmarks.scale``.

A thousand groups in a sync, a hundred readers while a version is published, health checks under load, ten processes
against one rate limit, ten thousand policies in a registry, an hour of outage. Every row has a limit and a verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import collections
import contextlib
import functools
import gc
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks import api_reads, sync_speed
from benchmarks.http_load import Load, at_a_pace, held_open
from benchmarks.simulations import BREAKER, RETRY, DownError, skip
from benchmarks.sync_speed import SyncFailedError, Target, redis_server, simulator
from benchmarks.tables import machine, table, write_results
from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, PolicyRegistry, RetryConfig
from otel_resilience.testing import FakeClock, forget_budgets

GROUPS: Final = (100, 1_000)
BUNDLES_PER_GROUP: Final = 5
READERS: Final = 100
SLOW_READERS: Final = 64
LARGE_READS: Final = 100
STREAMS: Final = 8
PROCESSES: Final = 10
LIMIT: Final = 50
"""Permits a second."""
KEYS: Final = 10_000
CALLS_PER_SECOND: Final = 50
OUTAGE: Final = 3_600.0
"""Seconds."""


# Groups


def groups(repeats: int) -> Iterator[Target]:
    """The time per group of a sync with many groups, against one with few."""
    with tempfile.TemporaryDirectory() as name, redis_server(pathlib.Path(name)) as redis_url:
        per_group: dict[int, list[float]] = {number: [] for number in GROUPS}
        for _ in range(repeats):
            for number in GROUPS:
                data = pathlib.Path(name, f"{number}.json")
                data.write_text(json.dumps(_catalogue(number)))
                with simulator(0, 0, data=str(data)) as ready:
                    done = sync_speed.sync(ready, redis_url, 0)
                if done.bundles != number * BUNDLES_PER_GROUP:
                    raise SyncFailedError(f"{done.bundles} bundles of {number} groups were published")
                per_group[number].append(done.inside / number)
    few, many = (min(per_group[number]) for number in GROUPS)
    ratio = many / few
    yield Target(
        f"{GROUPS[1]:,} groups in a sync: time per group against {GROUPS[0]}",
        "<= 1.1 x",
        f"{ratio:.2f} x ({1000 * many:.1f} ms)",
        ratio <= 1.1,
    )


def _catalogue(groups: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"esim_{size}GB_7D_PT_G{group}_V2",
            "description": f"eSIM, {size}GB, 7 Days, Portugal, V2",
            "groups": [f"Group {group}"],
            "countries": [{"name": "Portugal", "region": "Europe", "iso": "PT"}],
            "dataAmount": size * 1000,
            "duration": 7,
            "speed": ["4G"],
            "autostart": True,
            "unlimited": False,
            "price": 1.5,
            "billingType": "FixedCost",
        }
        for group in range(groups)
        for size in range(1, BUNDLES_PER_GROUP + 1)
    ]


# A rate limit that processes share

_CHILD: Final = """
import sys, time, json
from otel_resilience import RateLimit
from otel_resilience.storage import RedisStorage, SharedRateLimiter, SharedState
url, limit, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
storage = RedisStorage(url)
shared = SharedState(storage)
limiter = SharedRateLimiter("supplier", RateLimit(limit), shared=shared)
storage.ping()
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + seconds
taken = []
while time.monotonic() < until:
    limiter.acquire()
    taken.append(time.monotonic())
print(json.dumps(taken))
"""


def shared_limit(seconds: float) -> Iterator[Target]:
    """The permits that processes take from one limit, each as soon as it can."""
    with tempfile.TemporaryDirectory() as name, redis_server(pathlib.Path(name)) as redis_url:
        command = [sys.executable, "-c", _CHILD, redis_url, str(LIMIT), str(seconds)]
        pipe = subprocess.PIPE
        children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)]
        for child in children:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise SyncFailedError("a process with the shared limit did not start")
        found = _together(children, seconds)
    if any(child.returncode for child in children) or not all(found):
        raise SyncFailedError("a process with the shared limit has failed")
    taken = sorted(itertools.chain.from_iterable(found))
    most = most_in_a_window(taken, 1.0)
    # Without the first two seconds, in which they find out about each other, and the last, in which the first end.
    begin, end = taken[0] + 2, taken[0] + seconds - 1
    used = (bisect.bisect(taken, end) - bisect.bisect(taken, begin)) / ((end - begin) * LIMIT)
    yield Target(
        f"{PROCESSES} processes, one limit of {LIMIT}/s: most in any second",
        f"<= {LIMIT}",
        str(most),
        most <= LIMIT,
    )
    yield Target(f"{PROCESSES} processes, one limit: used", ">= 95 %", f"{100 * used:.1f} %", used >= 0.95)


def _together(children: Sequence[subprocess.Popen[str]], seconds: float) -> list[list[float]]:
    """Lets all begin, and collects when each had its permits."""
    for child in children:
        if child.stdin is not None:
            child.stdin.write("begin\n")
            child.stdin.flush()
    return [json.loads(child.communicate(timeout=seconds + 60)[0] or "[]") for child in children]


def most_in_a_window(moments: Sequence[float], seconds: float) -> int:
    """The largest number of sorted ``moments`` in any half-open window of that length."""
    return max(
        (bisect.bisect_left(moments, moment + seconds) - at for at, moment in enumerate(moments)),
        default=0,
    )


# A registry


def registry(repeats: int) -> Iterator[Target]:
    """The memory of a policy in a registry, and the cost of evicting an old one for a new one."""
    gc.collect()
    tracemalloc.start()
    policies = PolicyRegistry(_policy, max_size=KEYS)
    before = tracemalloc.get_traced_memory()[0]
    for number in range(KEYS):
        policies[f"host-{number}"].execute(_answer)
    gc.collect()
    per_key = (tracemalloc.get_traced_memory()[0] - before) / KEYS
    for number in range(KEYS):
        policies[f"other-{number}"].execute(_answer)
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - before) / KEYS / per_key
    tracemalloc.stop()
    yield Target(f"memory of a key, {KEYS:,} in a registry", "<= 8 kB", f"{per_key / 1000:.1f} kB", per_key <= 8000)
    yield Target(f"memory after {KEYS:,} evictions, against before", "<= 1.05 x", f"{grown:.2f} x", grown <= 1.05)
    ratio, cost = _eviction(policies, repeats)
    yield Target(
        "a new key where an old one goes, against one where none does",
        "<= 1.3 x",
        f"{ratio:.2f} x ({cost * 1e6:.0f} µs)",
        ratio <= 1.3,
    )


def _answer() -> int:
    return 1


def _policy(key: str) -> Policy:
    return Policy(key, retry=RetryConfig(), breaker=CircuitBreakerConfig())


def _eviction(full: PolicyRegistry, repeats: int) -> tuple[float, float]:
    """The cost with an eviction against that without, and in seconds: least of short windows, in turn."""
    evicting, growing = [], []
    for turn in range(10 * repeats):
        empty = PolicyRegistry(_policy, max_size=KEYS)
        growing.append(_time_of(lambda name, to=empty: to[name], f"{turn}-a"))  # type: ignore[misc]
        evicting.append(_time_of(lambda name: full[name], f"{turn}-b"))
    return min(evicting) / min(growing), min(evicting)


def _time_of(ask: Callable[[str], Policy], prefix: str) -> float:
    began = time.process_time()
    for number in range(100):
        ask(f"{prefix}-{number}")
    return (time.process_time() - began) / 100


# An outage


def outage() -> Iterator[Target]:
    """An hour of calls to a dependency that is down, on a fake clock."""
    clock, sent = FakeClock(), 0
    forget_budgets()

    def down() -> None:
        nonlocal sent
        sent += 1
        raise DownError("503")

    policy = Policy("supplier", retry=RETRY, breaker=BREAKER, clock=clock, sleep=skip)
    calls = int(OUTAGE * CALLS_PER_SECOND)
    marks: list[tuple[float, int]] = []
    gc.collect()
    tracemalloc.start()
    began = time.process_time()
    for number in range(calls):
        with contextlib.suppress(DownError, CircuitOpenError):
            policy.execute(down)
        clock.advance(1 / CALLS_PER_SECOND)
        if (number + 1) % (calls // 6) == 0:
            gc.collect()
            marks.append((time.process_time() - began, tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    spent = [after[0] - before[0] for before, after in itertools.pairwise([(0.0, 0), *marks])]
    grown, share = marks[-1][1] - marks[2][1], sent / calls
    slower = statistics.median(spent[3:]) / statistics.median(spent[:3])
    name = f"1 h of outage at {CALLS_PER_SECOND} calls/s"
    yield Target(f"{name}: attempts sent per call", "<= 0.005", f"{share:.4f} ({sent})", share <= 0.005)
    yield Target(
        f"{name}: memory, at its end against half of it", "<= 10 kB", f"{grown / 1000:.1f} kB", grown <= 10_000
    )
    yield Target(f"{name}: time, second half against first", "<= 1.2 x", f"{slower:.2f} x", slower <= 1.2)


# Readers and health checks under load


def published_and_loaded(seconds: float) -> Iterator[Target]:
    """Readers while versions are published, and health checks under everything that an API has to do at the same
    time."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_url = stack.enter_context(redis_server(folder))
        supplier = stack.enter_context(simulator(sync_speed.CATALOGUE, 0))
        url, process = stack.enter_context(api_reads.api(folder / "a", redis_url, supplier))
        api_reads.sync(url)
        base, _ = stack.enter_context(api_reads.bare(redis_url))
        by_another = functools.partial(sync_speed.sync, supplier, redis_url, 0, empty=False)
        yield from _published(url, base, seconds, by_another)
        yield from _loaded(url, process, base, seconds)


def _published(url: str, base: str, seconds: float, by_another: Callable[[], object]) -> Iterator[Target]:
    ratios, own = asyncio.run(_while_published(url, base, seconds, by_another))
    ours, bare = (statistics.median(pair[at] for pair in ratios) for at in (0, 1))
    share = statistics.median(pair[0] / pair[1] for pair in ratios)
    yield Target(
        f"{READERS} readers while another process publishes: p99, against undisturbed, over a bare server's beside",
        "<= 1.2 x",
        f"{share:.2f} x ({ours:.2f} over {bare:.2f})",
        share <= 1.2,
    )
    p99 = statistics.median(own)
    yield Target(
        f"{READERS} readers while the API itself does one sync after the other: p99",
        "<= 50 ms",
        f"{p99:.1f} ms",
        p99 <= 50,
    )


async def _while_published(
    url: str, base: str, seconds: float, by_another: Callable[[], object]
) -> tuple[list[tuple[float, float]], list[float]]:
    """How much longer the longest waits are while another process publishes, ours and the bare server's, and how long
    ours are while the API does the syncs."""
    ratios, own = list[tuple[float, float]](), list[float]()
    for _ in range(3):
        quiet = await _both(url, base, seconds)
        with _publishing(by_another):
            busy = await _both(url, base, seconds)
        ours, bare = (
            after.percentile(0.99) / before.percentile(0.99) for before, after in zip(quiet, busy, strict=True)
        )
        ratios.append((ours, bare))
        with _publishing(lambda: api_reads.sync(url)):
            own.append((await _both(url, base, seconds))[0].percentile(0.99))
    return ratios, own


async def _both(url: str, base: str, seconds: float) -> tuple[Load, Load]:
    """Reads at a pace from our server and a bare one at the same time, so that a disturbance affects both."""
    until = api_reads.after(seconds)
    ours, bare = await asyncio.gather(
        at_a_pace(url, api_reads.one_query, per_second=2 * READERS, connections=READERS, until=until),
        at_a_pace(base, api_reads.constant, per_second=2 * READERS, connections=READERS, until=until),
    )
    if ours.wrong or bare.wrong:
        raise SyncFailedError(f"{ours.wrong} reads were not answered with 200")
    return ours, bare


@contextlib.contextmanager
def _publishing(sync: Callable[[], object]) -> Iterator[None]:
    """One sync after the other, as fast as possible."""
    ended, failures = threading.Event(), list[Exception]()

    def publish() -> None:
        try:
            while not ended.is_set():
                sync()
        except (SyncFailedError, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise SyncFailedError("a sync under load failed") from failures[0]


HEALTH: Final = ("/health", "/health/live", "/health/ready")


def _loaded(url: str, process: int, base: str, seconds: float) -> Iterator[Target]:
    """How long checks wait. Where other programs have the processors, what the API itself used of them meanwhile, in
    all its threads, says what it would have been without those."""

    async def measure() -> list[Load]:
        until = api_reads.after(4 * seconds)

        def paced(to: str, path: str, meter: Callable[[], float] | None) -> Awaitable[Load]:
            paths = functools.partial(itertools.repeat, path)
            return at_a_pace(to, paths, per_second=20, connections=1, until=until, meter=meter)

        checks = [paced(url, path, lambda: _processor_time(process)) for path in HEALTH]
        return await asyncio.gather(*checks, paced(base, api_reads.CONSTANT_PATH, None))

    with _load(url), _publishing(lambda: api_reads.sync(url)):
        *found, bare = asyncio.run(measure())
    for path, load in zip(HEALTH, found, strict=True):
        waited = sorted(1000 * min(pair) for pair in zip(load.took, load.metered, strict=True))
        p99, most = waited[int(0.99 * len(waited))], waited[-1]
        measured = f"{p99:.1f} ms, max {most:.0f} (by the clock {load.percentile(0.99):.1f}, of a bare server beside "
        yield Target(
            f"{path} under load: p99 without what other programs took",
            "<= 50 ms",
            f"{measured}{bare.percentile(0.99):.1f})",
            p99 <= 50 and not load.wrong,
        )


def _processor_time(process: int) -> float:
    """Seconds of processor time that the threads of a process have had."""
    total = 0
    for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


@contextlib.contextmanager
def _load(url: str) -> Iterator[None]:
    """In a separate process: slow readers, large reads, streams of events."""
    command = [sys.executable, "-m", "benchmarks.scale", "--load", url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or "begun" not in process.stdout.readline():
            raise SyncFailedError("the load did not begin")
        yield
        statuses = json.loads(process.communicate("end\n", timeout=60)[0])
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if not statuses.get("200") or set(statuses) - {"200", "429", "503"}:
        raise SyncFailedError(f"the load was answered with {statuses}")


async def _make_load(url: str) -> None:
    large = [f"/bundles?limit=0&offset={number}" for number in range(20)] + ["/bundles?text=gb&limit=0", "/countries"]
    async with (
        held_open(url, ["/bundles?limit=0"], SLOW_READERS, at_a_time=4096, pause=0.05) as slow,
        held_open(url, large, LARGE_READS) as much,
        held_open(url, ["/events"], STREAMS) as events,
    ):
        await asyncio.sleep(1)
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
    counts = collections.Counter([*slow, *much, *events])
    sys.stdout.write(json.dumps(counts))


PARTS: Final[dict[str, Callable[[argparse.Namespace], Iterator[Target]]]] = {
    "groups": lambda options: groups(options.repeats),
    "limit": lambda options: shared_limit(10 * options.seconds),
    "registry": lambda options: registry(options.repeats),
    "outage": lambda _: outage(),
    "api": lambda options: published_and_loaded(options.seconds),
}


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 if something fails, and with ``--strict`` also if a limit is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of each load (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed (default %(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a limit is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    parser.add_argument("--load", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.load:
        asyncio.run(_make_load(options.load))
        return 0
    targets: list[Target] = []
    try:
        for name in options.parts.split(","):
            targets += PARTS[name](options)
    except SyncFailedError as error:
        print(f"benchmarks.scale: {error}", file=sys.stderr)
        return 1
    rows = [[each.name, each.limit, each.measured, "met" if each.met else "NOT MET"] for each in targets]
    text = f"{machine()}.\n\n" + table(["what", "limit", "measured", "verdict"], rows)
    print(text)
    if options.readme:
        write_results("scale", text)
    return int(options.strict and not all(each.met for each in targets))


if __name__ == "__main__":
    sys.exit(main())
