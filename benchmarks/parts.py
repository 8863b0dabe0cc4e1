"""What a protected call consists of, in nanoseconds: ``python -m benchmarks.parts``.

Each part is called alone, many times within short windows, of which the quickest counts: a busy machine makes a
window longer, never shorter. The parts overlap here and there and do not add up exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from opentelemetry import metrics, trace

from benchmarks import client_errors, ours, peers, recording, tables
from benchmarks.measure import SleepsAreFree
from otel_resilience import CircuitBreaker, Policy, RetryBudget, RetryConfig
from otel_resilience._internal.nesting import chain
from otel_resilience.classification.requests_seen import seen_in_frames, shows_unsafe_request
from otel_resilience.errors import CircuitOpenError
from otel_resilience.limits.attempt_timeout import TimeLimit, start_timer
from otel_resilience.policy.call import begin_call
from otel_resilience.policy.plan import NO_OPTIONS
from otel_resilience.telemetry.providers import any_set

WINDOWS, WINDOW = 60, 0.001
Part = tuple[str, str, float]


def quickest(call: Callable[[], object]) -> float:
    """Nanoseconds per call in the quickest of many short windows."""
    number, best = 1, float("inf")
    while _seconds(call, number) < WINDOW / 2:
        number *= 2
    for _ in range(WINDOWS):
        best = min(best, _seconds(call, number) / number)
    return best * 1e9


def _seconds(call: Callable[[], object], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = time.thread_time()
    for _ in rounds:
        call()
    return time.thread_time() - start


def _succeed() -> int:
    return 42


def success() -> Iterator[Part]:
    """Of a ``def`` that succeeds."""
    what = "success"
    policy = ours.policy()
    breaker = CircuitBreaker("supplier")
    permit = breaker.admit()
    current: ContextVar[object] = ContextVar("current", default=None)
    call = begin_call(policy, _succeed, NO_OPTIONS, None)

    def attempt() -> None:
        call.begin_attempt()
        call.succeeded()
        call.attempts = 0

    yield what, "nopanic retry, whole", quickest(peers.nopanic_policy()(_succeed))
    yield what, "nopanic retry+breaker, whole", quickest(peers.nopanic_policy(breaker=True)(_succeed))
    yield what, "ours: decorator, retry+budget+breaker, whole", quickest(policy(_succeed))
    yield what, "ours: Policy.execute, whole", quickest(lambda: policy.execute(_succeed))
    yield (
        what,
        "the call: an object, its clock, what it is inside of",
        quickest(lambda: begin_call(policy, _succeed, NO_OPTIONS, None)),
    )
    yield what, "… of that time.monotonic()", quickest(time.monotonic)
    yield what, "are telemetry providers set", quickest(any_set)
    yield what, "begin and end of the attempt", quickest(attempt)
    yield what, "… of that the context: set and reset", quickest(lambda: current.reset(current.set(None)))
    yield what, "… of that the breaker: count a success", quickest(lambda: breaker.record_success(permit, 0.0))


def failure() -> Iterator[Part]:
    """Of one retry after an exception of one's own."""
    what = "one retry"
    cases = {case.name: case for case in client_errors.cases(real=False)}
    error = _caught(client_errors.WarehouseBusyError("busy"))
    policy = Policy("warehouse", retry=RetryConfig(base_delay=0))
    budget = RetryBudget("warehouse")
    own = client_errors.OWN

    def pay() -> None:
        budget.take(10.0)
        budget.give(10.0)

    yield what, "nopanic retry+budget, own exception, whole", quickest(cases[client_errors.PEER + own].call)
    yield what, "ours: @retry(on=), own exception, whole", quickest(cases[f"ours: {client_errors.BY_TYPE}{own}"].call)
    yield what, "the verdict, known by the class", quickest(lambda: policy.classify(error))
    yield what, "may it be repeated: causes", quickest(lambda: chain(error))
    yield (
        what,
        "may it be repeated: a request on it, or in its frames",
        quickest(lambda: shows_unsafe_request((error,))),
    )
    yield what, "… of that two frames", quickest(lambda: seen_in_frames(error))
    yield what, "the budget: take, and give back after the success", quickest(pay)
    for name, found in client_errors.examples().items():
        yield what, f"the verdict on {name}", quickest(lambda found=found: policy.classify(found))  # type: ignore[misc]


def limits() -> Iterator[Part]:
    """Of an ``async def`` with time limits."""
    what = "time limits"
    call = begin_call(ours.policy(), _succeed, NO_OPTIONS, 30.0)

    async def inside() -> list[Part]:
        loop = asyncio.get_running_loop()

        def limited() -> None:
            with TimeLimit(10.0, call, call.time_limit_error, loop):
                pass

        return [
            (what, "the deadline: how much is left", quickest(call.time_limit)),
            (what, "cutting one attempt", quickest(limited)),
            (
                what,
                "… of that the loop's timer, and its cancellation",
                quickest(lambda: start_timer(loop, 10.0, print).cancel()),
            ),
            (what, "asyncio.get_running_loop()", quickest(asyncio.get_running_loop)),
        ]

    yield from asyncio.run(inside())


def recorded() -> Iterator[Part]:
    """Of calls with an SDK that records: what the SDK takes for the same spans and points."""
    what = "recorded"
    telemetry = recording.Telemetry()
    cases = {case.name: case for case in telemetry.cases()}
    tracer = trace.get_tracer("parts")
    histogram = metrics.get_meter("parts").create_histogram("parts")
    attributes = {"resilience.dependency": "supplier", "resilience.operation": "succeed", "resilience.outcome": "ok"}
    rejected = cases[f"ours: {recording.REJECTION}"].call

    def span() -> None:
        with_two = {"resilience.dependency": "supplier", "resilience.operation": "succeed"}
        tracer.start_span("supplier succeed", attributes=with_two).end()

    def reject() -> None:
        try:
            rejected()
        except CircuitOpenError:
            return

    yield what, "success by hand, whole: two spans, two points", quickest(cases["by hand sync"].call)
    yield what, "ours: success, whole: two spans, two points", quickest(cases["ours: retry+budget+breaker sync"].call)
    yield what, "ours: rejection, whole: one span with an error, three points", quickest(reject)
    yield what, "the SDK: one span with two attributes", quickest(span)
    yield what, "the SDK: one point", quickest(lambda: histogram.record(1.0, attributes))


def _caught(error: Exception) -> Exception:
    def fail() -> None:
        raise error

    try:
        fail()
    except Exception as caught:
        return caught
    return error


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    with SleepsAreFree():
        parts: list[Any] = [*success(), *failure(), *limits(), *recorded()]
    rows = [[what, name, f"{nanoseconds:,.0f}"] for what, name, nanoseconds in parts]
    text = f"{tables.machine()}.\n\n{tables.table(['of', 'part', 'ns'], rows)}"
    print(text)
    if options.readme:
        tables.write_results("parts", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
