"""The targets, each as a ratio of two cases that are timed in turn, right after their group."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from benchmarks import client_errors, groups, http_clients, recording, time_limits
from benchmarks.groups import OURS
from benchmarks.measure import Bench, Case, Result

FASTEST_PEER = "the fastest peer"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """``row`` of ``group`` takes at most ``limit`` times as long as ``against``, or ``limit`` microseconds."""

    name: str
    group: str
    row: str
    against: str
    limit: float


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured for one target."""

    target: Target
    against: str
    unit: str
    samples: list[float]

    @property
    def measured(self) -> float:
        return statistics.median(self.samples)

    @property
    def met(self) -> bool:
        return self.measured <= self.target.limit


def _targets() -> Iterator[Target]:
    nopanic = "both: nopanic retry+breaker"
    for kind, group in (("sync", groups.A), ("async", groups.B)):
        for parts in ("retry+breaker", "retry+budget+breaker"):
            for style in ("decorator", "Policy.execute"):
                yield Target(f"success, {kind}", group, f"{OURS}{style}, {parts}", nopanic, 0.6)
        yield Target(f"success, retry alone, {kind}", group, f"{OURS}decorator, retry", "retry: nopanic", 1.0)
    for kind, group in (("sync", groups.C), ("async", groups.D)):
        for parts in ("retry", "retry+budget", "retry+breaker", "retry+budget+breaker"):
            yield Target(f"one retry, {kind}", group, f"{OURS}decorator, {parts}", f"nopanic {parts}", 1.0)
    for kind, group in (("sync", groups.E), ("async", groups.F)):
        for row in ("CircuitBreaker.execute", "decorator, breaker", "decorator, retry+budget+breaker"):
            yield Target(f"rejection, {kind}", group, OURS + row, FASTEST_PEER, 1.0)
    yield Target("rejection, sync", groups.E, f"{OURS}decorator, retry+budget+breaker", "", 5.0)
    for kind, group in (("sync", groups.E), ("async", groups.F)):
        row = f"{OURS}decorator, retry+budget+breaker"
        yield Target(f"rejection, {kind}, against a function that raises", group, row, groups.BARE, 5.0)
    yield from _client_targets()
    for kind in ("sync", "async"):
        yield Target(f"httpx, {kind}", http_clients.H, f"{OURS}{http_clients.PARTS} {kind}", f"bare {kind}", 1.1)
    for kind in (recording.SYNC, recording.ASYNC):
        row = f"{OURS}retry+budget+breaker {kind}"
        yield Target(f"recorded success, {kind}", recording.G, row, f"by hand {kind}", 0.9)
    rejection = OURS + recording.REJECTION
    yield Target("recorded rejection", recording.G, rejection, f"by hand {recording.SYNC}", 0.6)


def _client_targets() -> Iterator[Target]:
    """Those on errors of clients, on time limits and on threads."""
    for real, group in ((True, client_errors.I), (False, client_errors.J)):
        for name, limit in client_errors.LIMITS.items():
            if real and name == client_errors.OWN:
                continue
            row = client_errors.BY_TYPE if name == client_errors.OWN else client_errors.PARTS
            yield Target(f"one retry, {name}", group, OURS + row + name, client_errors.PEER + name, limit)
    limits = time_limits
    yield Target("def with a deadline", limits.K, OURS + limits.BY_DEADLINE, limits.PEER, 1.0)
    yield Target("async def, README's example", limits.K, OURS + limits.README, limits.IN_TIMEOUTS, 0.5)
    yield Target("def with attempt_timeout", limits.K, OURS + limits.IN_THREAD, "", 40.0)
    yield Target("32 threads, time per call", limits.L, f"{OURS}decorator, retry+budget+breaker", limits.PEER, 1.0)


def check(bench: Bench, results: Sequence[Result]) -> list[Verdict]:
    """The verdicts on one group that was just measured."""
    cases = {result.case.name: result for result in results}
    group = results[0].case.group
    found = []
    for target in _targets():
        if target.group != group:
            continue
        ours = cases[target.row]
        if not target.against:
            found.append(Verdict(target, "", "µs", [sample / 1000 for sample in ours.samples]))
            continue
        if target.against == FASTEST_PEER:
            # Two peers can be too close to tell which is faster from a table: the harder of two comparisons counts.
            compared = [(peer, bench.ratios(ours.case, peer)) for peer in _fastest_peers(results, 2)]
            against, ratios = max(compared, key=lambda pair: statistics.median(pair[1]))
        else:
            against = cases[target.against].case
            ratios = bench.ratios(ours.case, against)
        found.append(Verdict(target, against.name, "x", ratios))
    return found


def _fastest_peers(results: Sequence[Result], number: int) -> list[Case]:
    peers = [result for result in results if not result.case.name.startswith((OURS, groups.BARE))]
    return [result.case for result in sorted(peers, key=lambda result: result.median)[:number]]
