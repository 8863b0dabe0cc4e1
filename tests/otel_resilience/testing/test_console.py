"""What the library reports, printed as a tree."""

from __future__ import annotations

import io
import re

import pytest

from otel_resilience import CircuitBreaker, CircuitOpenError, Policy, RetryConfig, current_attempt
from otel_resilience.testing import Resilience, print_telemetry


def printed(file: io.StringIO) -> list[str]:
    """The lines of the tree, with every time as ``T``."""
    tree, _, _ = file.getvalue().partition("\n\nMetrics\n")
    return re.sub(r"\d+\.\d{3} s", "T", tree).splitlines()


def test_calls_within_calls_are_branches(resilience: Resilience) -> None:
    del resilience
    inner, outer = Policy("rates", retry=RetryConfig()), Policy("shop")

    def fetch() -> None:
        if current_attempt() == 1:
            raise ConnectionResetError

    file = io.StringIO()
    with print_telemetry(file, width=100):
        outer.execute(lambda: inner.execute(fetch, name="fetch"), name="price")
    assert printed(file) == [
        "shop price: ok, T",
        "`- attempt 1: ok, T",
        "   `- rates fetch: ok_after_retry, T",
        "      |- attempt 1: connection_error (transient, MEDIUM), T",
        "      |  |- resilience.error.classified: connection_error is transient",
        "      |  `- resilience.attempt.failed: attempt 1 failed with connection_error",
        "      |- resilience.retry.scheduled: next attempt in T",
        "      |  wait T",
        "      `- attempt 2: ok, T",
    ]


def test_it_prints_where_the_block_raises() -> None:
    breaker = CircuitBreaker("supplier")
    breaker.force_open()
    file = io.StringIO()
    with pytest.raises(CircuitOpenError), print_telemetry(file):
        Policy("supplier", breaker=breaker).execute(lambda: None, name="list plans")
    assert printed(file)[0] == "supplier list plans: rejected, T"


def test_an_event_outside_a_span_stands_alone() -> None:
    file = io.StringIO()
    with print_telemetry(file, width=200):
        CircuitBreaker("supplier").force_open()
    (line,) = printed(file)
    assert line.startswith("resilience.circuit_breaker.state_changed: ")


def test_every_line_fits() -> None:
    file = io.StringIO()
    with print_telemetry(file, width=10):  # as 40, the least
        Policy("supplier").execute(lambda: None, name="list all plans of the whole catalogue")
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40 < len("".join(lines))


def test_a_name_that_cannot_be_encoded_is_escaped() -> None:
    with io.TextIOWrapper(io.BytesIO(), "ascii") as file:
        with print_telemetry(file):
            Policy("größe").execute(lambda: None, name="list")
        file.flush()
        assert b"gr\\xf6\\xdfe list: ok" in file.buffer.getvalue()
