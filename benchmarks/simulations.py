"""Amplification in an outage, on the real code with a fake clock: ``python -m benchmarks.simulations``.

Two situations in which protection inside one process does not protect: a job that starts again every minute, and many
workers that each find out for themselves. Every simulation is deterministic; the naive control runs in parallel.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.tables import machine, table, write_results
from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    ErrorClass,
    Policy,
    RetryConfig,
    Severity,
)
from otel_resilience.storage import DiskStorage, MemoryStorage, SharedCircuitBreaker, SharedState
from otel_resilience.testing import FakeClock, forget_budgets

ATTEMPTS = 3
RUNS = 24
GAPS = (60.0, 3600.0)
SEEDS = (1, 2, 3)
BETWEEN_CALLS = 0.5
THRESHOLD = 5
BREAKER = CircuitBreakerConfig(consecutive_failures=THRESHOLD, failure_rate=None, reset_timeout=5)
RETRY = RetryConfig(max_attempts=ATTEMPTS, base_delay=0, jitter=False)


class DownError(Exception):
    """The dependency does not answer."""

    classification = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503", BreakerEffect.FAILURE)


def skip(_: float) -> None:
    """Waits between attempts take no time."""


# The job


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """The result of one way of protecting a job."""

    per_run: list[int]
    """Attempts that each run sent."""
    calls: int
    """Calls that each run planned."""

    @property
    def attempts_per_call(self) -> float:
        return sum(self.per_run) / len(self.per_run) / self.calls

    @property
    def after_the_first_run(self) -> float:
        return sum(self.per_run[1:]) / (len(self.per_run) - 1) / self.calls


JOBS: dict[str, dict[str, Any]] = {
    "naive, no budget": {"budget": False},
    "budget, new in each run": {},
    "budget on disk": {"kept": True},
    "budget and breaker on disk": {"kept": True, "breaker": BREAKER},
}


def job(calls: int, gap: float, *, kept: bool = False, seed: int = 1, **parts: Any) -> Job:
    """A job of ``calls`` calls against a dependency that is down, restarted ``gap`` seconds after each end."""
    clock = FakeClock(1.7e9)
    rng = random.Random(seed)
    per_run = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            shared = None
            if kept:
                disk = DiskStorage(folder, monotonic=clock, wall_clock=clock, boot=lambda: "the same")
                shared = SharedState(disk)
            forget_budgets()  # each run is a separate process
            policy = Policy("supplier", retry=RETRY, shared=shared, clock=clock, sleep=skip, rng=rng.random, **parts)
            sent = itertools.count()

            def call(sent: Iterable[int] = sent) -> None:
                next(sent)  # type: ignore[call-overload]
                raise DownError

            for _ in range(calls):
                attempt(policy, call)
                clock.advance(BETWEEN_CALLS)
            if shared is not None:
                shared.close()
            per_run.append(next(sent))
            clock.advance(gap)
    return Job(per_run, calls)


def attempt(policy: Policy, call: Callable[[], object]) -> bool:
    """One call. ``False`` if it failed or was rejected."""
    try:
        policy.execute(call)
    except (DownError, CircuitOpenError):
        return False
    return True


# The fleet


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """What happens to a fleet in an outage of a minute or more."""

    burst: int
    """Requests that failed within the first five seconds, before any probe."""
    failed: int
    """Requests that failed in the whole outage."""
    planned: int
    """Calls planned in that time."""
    lag: float
    """Seconds from the end of the outage until every worker had a success."""


WORKERS = (1, 4, 16)
FLEETS: dict[str, dict[str, Any]] = {
    "naive, no budget, no breaker": {"budget": False},
    "each for itself": {"breaker": BREAKER},
    "shared": {"breaker": BREAKER, "shared": True},
}
OUTAGE = (30.0, 630.0)
END = 720.0
LOOK_EVERY = 0.25


def fleet(workers: int, *, shared: bool = False, seed: int = 1, **parts: Any) -> Fleet:
    """Workers that make two calls per second each, through an outage of ten minutes."""
    clock = FakeClock(0.0)
    rng = random.Random(seed)
    storage = MemoryStorage(clock=clock)
    failures: list[float] = []
    recovered: dict[int, float] = {}
    events: list[tuple[float, int, Callable[[], float]]] = []
    order = itertools.count()

    def call() -> None:
        if OUTAGE[0] <= clock() < OUTAGE[1]:
            failures.append(clock())
            raise DownError

    def worker(number: int) -> None:
        state = SharedState(storage) if shared else None
        forget_budgets()  # each worker is a separate process
        policy = Policy("supplier", retry=RETRY, shared=state, clock=clock, sleep=skip, rng=rng.random, **parts)

        def step() -> float:
            if attempt(policy, call) and clock() >= OUTAGE[1]:
                recovered.setdefault(number, clock())
            return BETWEEN_CALLS

        def look() -> float:
            breaker = policy.breaker
            if state is not None and isinstance(breaker, SharedCircuitBreaker):
                state.links[0].refresh(breaker)
            return LOOK_EVERY

        heapq.heappush(events, (rng.random() * BETWEEN_CALLS, next(order), step))
        if shared:
            heapq.heappush(events, (rng.random() * LOOK_EVERY, next(order), look))

    for number in range(workers):
        worker(number)
    while events and events[0][0] < END:
        at, _, event = heapq.heappop(events)
        clock.now = at
        heapq.heappush(events, (at + event(), next(order), event))
    first = failures[0]
    return Fleet(
        sum(1 for at in failures if at < first + BREAKER.reset_timeout / 2),
        len(failures),
        int((OUTAGE[1] - OUTAGE[0]) / BETWEEN_CALLS) * workers,
        max(recovered.values()) - OUTAGE[1] if len(recovered) == workers else float("inf"),
    )


# The tables


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A target and its result."""

    name: str
    limit: float
    measured: float

    @property
    def met(self) -> bool:
        return self.measured <= self.limit


def jobs_table() -> tuple[str, list[Target]]:
    """Attempts per planned call of a job, by what is kept between its runs."""
    rows, targets = [], []
    for calls in (5, 20, 100):
        for name, options in JOBS.items():
            by_gap = {gap: job(calls, gap, **options) for gap in GAPS}
            figures = [f"{found.attempts_per_call:.2f}" for found in by_gap.values()]
            later = by_gap[GAPS[0]].after_the_first_run
            rows.append([f"{calls} calls, {name}", *figures, f"{later:.2f}"])
            if name == "budget on disk":
                worst = max(found.attempts_per_call for found in by_gap.values())
                targets.append(Target(f"{calls} calls, {name}", 1.1, worst))
            elif name == "budget and breaker on disk":
                limit = max(0.1, 1 / calls)  # a probe per run is the least that finds out
                targets.append(Target(f"{calls} calls, {name}, after the first run", limit, later))
    head = ["job", "gap 1 min", "gap 1 h", "after the first run"]
    return table(head, rows), targets


def fleets_table() -> tuple[str, list[Target]]:
    """Requests of a fleet in an outage of ten minutes, by what its workers share."""
    rows, targets = [], []
    for workers in WORKERS:
        for name, options in FLEETS.items():
            runs = [fleet(workers, seed=seed, **options) for seed in SEEDS]
            middle = {
                field: statistics.median(getattr(run, field) for run in runs) for field in ("burst", "failed", "lag")
            }
            per_call = middle["failed"] / runs[0].planned
            rows.append(
                [
                    f"{_workers(workers)}, {name}",
                    f"{middle['burst']:,.0f}",
                    f"{middle['failed']:,.0f}",
                    f"{per_call:.4f}",
                    f"{middle['lag']:.1f}",
                ]
            )
            if name == "shared":
                worst = max(run.burst for run in runs)
                targets.append(Target(f"{_workers(workers)}, requests until it is open", THRESHOLD + workers, worst))
                lag = max(run.lag for run in runs)
                targets.append(Target(f"{_workers(workers)}, back after s", BREAKER.open_time_cap + 1, lag))
    head = ["fleet", "requests until it is open", "requests in the outage", "per planned call", "back after s"]
    return table(head, rows), targets


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; 1 if a target is not met and ``--strict`` was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulations", description=__doc__.splitlines()[0])
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options, _ = parser.parse_known_args(argv)
    jobs, job_targets = jobs_table()
    fleets, fleet_targets = fleets_table()
    targets = [*job_targets, *fleet_targets]
    rows = [
        [each.name, f"<= {each.limit:g}", f"{each.measured:.2f}", "met" if each.met else "NOT MET"] for each in targets
    ]
    text = "\n\n".join(
        [
            f"{machine()}; fake clock, seeded.",
            "### Targets",
            table(["target", "limit", "measured", "verdict"], rows),
            "### A job that starts anew, against a dependency that is down: attempts per planned call",
            jobs,
            "### A fleet in an outage of ten minutes",
            fleets,
        ]
    )
    print(text)
    if options.readme:
        write_results("simulations", text)
    return int(options.strict and not all(each.met for each in targets))


if __name__ == "__main__":
    sys.exit(main())
