"""``python -m otel_resilience.demo``: a call that fails twice and then succeeds, and what is reported about it.

Needs ``opentelemetry-sdk``. Exit codes: 0, 1 if standard output cannot be written, 2 if the SDK is missing.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from otel_resilience._internal.nesting import current_attempt
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.policy.policy import Policy
from otel_resilience.retries.config import RetryConfig
from otel_resilience.testing.console import print_telemetry

INTRODUCTION: Final = """\
A call that fails twice and then succeeds:

    policy = Policy(
        "supplier",
        retry=RetryConfig(base_delay=0.2),
        breaker=CircuitBreakerConfig(),
    )
    policy.execute(list_plans, name="list plans")

What it reports to OpenTelemetry:

"""
CLOSING: Final = """
To see the same of a call of yours:

    from otel_resilience.testing import print_telemetry

    with print_telemetry():
        ...
"""


def list_plans() -> str:
    """Fails on its first two attempts, like a dependency that is restarting."""
    if current_attempt() < 3:
        raise ConnectionResetError("connection reset by peer")
    return "plans"


def main() -> int:
    """Runs the demo and prints it. Returns the exit code."""
    policy = Policy("supplier", retry=RetryConfig(base_delay=0.2), breaker=CircuitBreakerConfig())
    try:
        with print_telemetry():
            _write(INTRODUCTION, sys.stdout)
            policy.execute(list_plans, name="list plans")
        _write(CLOSING, sys.stdout)
    except ImportError:
        _write("the demo needs opentelemetry-sdk: pip install 'otel-resilience[testing]'\n", sys.stderr)
        return 2
    except OSError:  # the reader has gone, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at exit
        return 1
    return 0


def _write(text: str, stream: TextIO | None) -> None:
    if stream is not None:  # it may be closed
        stream.write(text)
        stream.flush()


if __name__ == "__main__":
    sys.exit(main())
