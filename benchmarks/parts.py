"""What a protected call consists of, in nanoseconds: ``python -m benchmarks.parts``.

Each part is called alone, many times within short windows, of which the quickest counts: a busy machine makes a
window longer, never shorter. The parts overlap here and there and do not add up exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import SpanKind, Status, StatusCode

from benchmarks import client_errors, ours, peers, recording, tables
from benchmarks.measure import SleepsAreFree
from otel_resilience import CircuitBreaker, Policy, RetryBudget, RetryConfig
from otel_resilience._internal.nesting import chain
from otel_resilience.classification.requests_seen import shows_nothing, shows_unsafe_request
from otel_resilience.errors import CircuitOpenError
from otel_resilience.limits.attempt_timeout import SharedTimer, TimeLimit, start_timer
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


def woken_in_turn() -> float:
    """Nanoseconds, elapsed, in which two threads wake each other once: the least that work in another thread costs."""
    ours, theirs = threading.Lock(), threading.Lock()
    ours.acquire()
    theirs.acquire()

    def answer() -> None:
        while theirs.acquire(timeout=1.0):
            ours.release()

    def ask() -> None:
        theirs.release()
        ours.acquire(timeout=1.0)

    threading.Thread(target=answer, daemon=True).start()
    samples = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        for _ in range(50):
            ask()
        samples.append((time.perf_counter() - start) / 50)
    return statistics.median(samples) * 1e9


def _succeed() -> int:
    return 42


def success() -> Iterator[Part]:
    """The parts of a successful ``def``."""
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
    """The parts of one retry after an exception of the user's own."""
    what = "one retry"
    cases = {case.name: case for case in client_errors.cases(real=False)}
    error = _caught(client_errors.WarehouseBusyError("busy"))
    policy = Policy("warehouse", retry=RetryConfig(base_delay=0))
    budget = RetryBudget("warehouse")
    own = client_errors.OWN

    def pay() -> None:
        budget.take(10.0)
        budget.refund(10.0)

    yield what, "nopanic retry+budget, own exception, whole", quickest(cases[client_errors.PEER + own].call)
    yield what, "ours: @retry(on=), own exception, whole", quickest(cases[f"ours: {client_errors.BY_TYPE}{own}"].call)
    yield what, "the verdict, known by the class", quickest(lambda: policy.classify(error))
    yield (
        what,
        "may it be repeated: nothing shows a request, nor do two frames",
        quickest(lambda: shows_nothing(error)),
    )
    yield (
        what,
        "… the same at length, where something might",
        quickest(lambda: shows_unsafe_request(chain(error))),
    )
    yield what, "the budget: take, and give back after the success", quickest(pay)
    for name, found in client_errors.examples().items():
        yield what, f"the verdict on {name}", quickest(lambda found=found: policy.classify(found))  # type: ignore[misc]


def limits() -> Iterator[Part]:
    """The parts of an ``async def`` with time limits."""
    what = "time limits"
    call = begin_call(ours.policy(), _succeed, NO_OPTIONS, 30.0)

    async def inside() -> list[Part]:
        loop = asyncio.get_running_loop()

        timer = SharedTimer(loop, 10.0)

        def limited() -> None:
            with TimeLimit(10.0, call, call.time_limit_error, loop, timer):
                pass

        return [
            (what, "the deadline: how much is left", quickest(call.time_limit)),
            (what, "cutting one attempt", quickest(limited)),
            (
                what,
                "a timer of asyncio, and its cancellation, which it does without",
                quickest(lambda: start_timer(loop, 10.0, print).cancel()),
            ),
            (what, "asyncio.get_running_loop()", quickest(asyncio.get_running_loop)),
            (what, "def: two threads wake each other once, elapsed", woken_in_turn()),
        ]

    yield from asyncio.run(inside())


def recorded() -> Iterator[Part]:
    """The parts of calls with an SDK that records: what the SDK takes for the same spans and points."""
    what = "recorded"
    telemetry = recording.Telemetry()
    cases = {case.name: case for case in telemetry.cases()}
    tracer = trace.get_tracer("parts")
    histogram = metrics.get_meter("parts").create_histogram("parts")
    other = metrics.get_meter("parts").create_histogram("other_parts")
    attributes = {"resilience.dependency": "supplier", "resilience.operation": "succeed", "resilience.outcome": "ok"}
    rejected = cases[f"ours: {recording.REJECTION}"].call

    def span() -> None:
        with_two = {"resilience.dependency": "supplier", "resilience.operation": "succeed"}
        tracer.start_span("supplier succeed", attributes=with_two).end()

    def fewest_calls() -> None:
        parent = get_current()
        of_operation = {"resilience.dependency": "supplier", "resilience.operation": "succeed"}
        outer = tracer.start_span("supplier succeed", parent, SpanKind.INTERNAL, of_operation)
        inside = trace.set_span_in_context(outer, parent)
        of_attempt: dict[str, str | int] = {"resilience.dependency": "supplier", "resilience.attempt.number": 1}
        attempt = tracer.start_span("attempt", inside, SpanKind.INTERNAL, of_attempt)
        detach(attach(trace.set_span_in_context(attempt, inside)))
        attempt.end()
        histogram.record(1.0, attributes, inside)
        other.record(1, attributes, inside)
        outer.set_attribute("resilience.attempts", 1)
        outer.set_attribute("resilience.outcome", "ok")
        outer.end()

    counter = metrics.get_meter("parts").create_counter("rejections")

    def fewest_calls_of_a_rejection() -> None:
        parent = get_current()
        of_operation = {"resilience.dependency": "supplier", "resilience.operation": "succeed"}
        span = tracer.start_span("supplier succeed", parent, SpanKind.INTERNAL, of_operation)
        inside = trace.set_span_in_context(span, parent)
        counter.add(1, {"resilience.dependency": "supplier"}, inside)
        histogram.record(1.0, attributes, inside)
        other.record(0, attributes, inside)
        span.set_attribute("resilience.attempts", 0)
        span.set_attribute("resilience.outcome", "rejected")
        span.set_attribute("error.type", "circuit_open")
        span.set_status(Status(StatusCode.ERROR, "the circuit of supplier is open; a call may pass in 2.500 s"))
        span.end()

    def reject() -> None:
        try:
            rejected()
        except CircuitOpenError:
            return

    yield what, "success by hand, whole: two spans, two points", quickest(cases["by hand sync"].call)
    yield what, "ours: success, whole: two spans, two points", quickest(cases["ours: retry+budget+breaker sync"].call)
    yield what, "ours: rejection, whole: one span with an error, three points", quickest(reject)
    yield what, "the SDK: the spans and points of a success, by the fewest calls", quickest(fewest_calls)
    yield what, "the SDK: those of a rejection, by the fewest calls", quickest(fewest_calls_of_a_rejection)
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
