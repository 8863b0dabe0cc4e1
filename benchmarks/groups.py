"""The groups of cases without an SDK: A to F."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import ours, peers, peers_async
from benchmarks.measure import Case, Operation, trip
from benchmarks.peers import Function, Maker

OURS = "ours: "
BARE = "bare"

A = "A. Sync, success"
B = "B. Async, success"
C = "C. Sync, one retry without waiting (time.sleep is free)"
D = "D. Async, one retry without waiting"
E = "E. Open breaker rejects, sync (raise and catch)"
F = "F. Open breaker rejects, async (raise and catch)"


def _protect(group: str, prefix: str, makers: Mapping[str, Maker], failing: str, asynchronous: bool) -> list[Case]:
    cases = []
    for name, make in makers.items():
        operation = Operation(failing=failing, asynchronous=asynchronous)
        call = make(operation.function)
        cases.append(Case(group, prefix + name, call, operation, asynchronous=asynchronous))
    return cases


def _reject(group: str, prefix: str, makers: Mapping[str, Maker], asynchronous: bool) -> list[Case]:
    cases = []
    for name, make in makers.items():
        operation = Operation(failing="always", asynchronous=asynchronous)
        call = make(operation.function)
        raises = trip(call, operation, asynchronous=asynchronous)
        cases.append(Case(group, prefix + name, call, operation, raises, asynchronous))
    return cases


def _bare(group: str, call: Function, operation: Operation, asynchronous: bool, raises: str | None = None) -> Case:
    return Case(group, BARE, call, operation, raises, asynchronous)


def success(asynchronous: bool) -> list[Case]:
    """Groups A and B."""
    group, module = (B, peers_async) if asynchronous else (A, peers)
    loop = ours.hand_written_async if asynchronous else ours.hand_written
    operation = Operation(asynchronous=asynchronous)
    return [
        _bare(group, operation.function, operation, asynchronous),
        *_protect(group, "", {"hand-written retry loop": loop}, "never", asynchronous),
        *_protect(group, OURS, ours.SUCCESS, "never", asynchronous),
        *_protect(group, "both: ", module.BOTH, "never", asynchronous),
        *_protect(group, "breaker: ", module.BREAKER, "never", asynchronous),
        *_protect(group, "retry: ", module.RETRY, "never", asynchronous),
    ]


_NOPANIC_ONE_RETRY: dict[str, Maker] = {
    "nopanic retry": peers.nopanic_policy(),
    "nopanic retry+budget": peers.nopanic_policy(budget=True),
    "nopanic retry+breaker": peers.nopanic_policy(breaker=True, failure_rate=1.0),
    "nopanic retry+budget+breaker": peers.nopanic_policy(budget=True, breaker=True, failure_rate=1.0),
}


def one_retry(asynchronous: bool) -> list[Case]:
    """Groups C and D."""
    group, module = (D, peers_async) if asynchronous else (C, peers)
    bare = ours.bare_retry_async if asynchronous else ours.bare_retry
    loop = ours.hand_written_async if asynchronous else ours.hand_written
    failing = "every other"
    skipped = ["nopanic", "stamina RetryingCaller"]
    if asynchronous:
        skipped.append("opnieuw")  # its waits cannot be switched off
    others = {name: make for name, make in module.RETRY.items() if name not in skipped}
    return [
        *_protect(group, "", {BARE: bare, "hand-written retry loop": loop}, failing, asynchronous),
        *_protect(group, OURS, ours.ONE_RETRY, failing, asynchronous),
        *_protect(group, "", _NOPANIC_ONE_RETRY, failing, asynchronous),
        *_protect(group, "", others, failing, asynchronous),
    ]


def rejection(asynchronous: bool) -> list[Case]:
    """Groups E and F."""
    group, module = (F, peers_async) if asynchronous else (E, peers)
    skipped = ("pyresilience window=100", "aioresilience .call")
    others = {name: make for name, make in module.BREAKER.items() if name not in skipped}
    operation = Operation(failing="always", asynchronous=asynchronous)
    return [
        _bare(group, operation.function, operation, asynchronous, "ConnectionError"),
        *_reject(group, OURS, ours.REJECTED, asynchronous),
        *_reject(group, "", others, asynchronous),
    ]
