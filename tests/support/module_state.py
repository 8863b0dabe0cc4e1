"""How much the library's modules hold, before and after many objects were made and dropped. Run as a script."""

from __future__ import annotations

import contextlib
import gc
import sys
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

from otel_resilience import (
    CircuitBreaker,
    CircuitBreakerConfig,
    Classifier,
    Policy,
    RetryBudget,
    RetryBudgetConfig,
    RetryConfig,
    RetryService,
    retry,
)
from otel_resilience.circuitbreaker import breaker
from otel_resilience.classification.rules import default_rules
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.telemetry import cardinality
from otel_resilience.testing import RecordedTelemetry

RETRY = RetryConfig(base_delay=0)


def held_by_modules() -> int:
    """Entries of all containers that can be reached from the globals of the library's modules."""
    seen: set[int] = set()
    pending: list[Any] = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("otel_resil")]
    entries = 0
    while pending:
        each = pending.pop()
        if id(each) in seen or isinstance(each, (types.ModuleType, type, types.FunctionType)):
            continue
        seen.add(id(each))
        if isinstance(each, Mapping):
            entries += len(each)
            pending.extend(list(each.values()))
        elif isinstance(each, (list, tuple, set, frozenset, deque)):
            entries += len(each)
            pending.extend(each)
        elif type(each).__module__.split(".")[0] in ("otel_resilience", "weakref", "_weakrefset"):
            slots = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
            pending.append(getattr(each, "__dict__", {}))
            pending.extend(getattr(each, name) for name in slots if name != "__weakref__" and hasattr(each, name))
    return entries


def make_and_drop(number: int) -> None:
    """Objects of every kind, with names that were never used before and with one that always is."""
    policy = Policy(f"host-{number}", retry=RETRY, breaker=CircuitBreakerConfig(), deadline=5)
    policy.execute(lambda: number, name=f"call {number}")
    RetryService(f"host-{number}")
    retry(RETRY, on=None)(lambda: number)()
    CircuitBreaker("supplier").execute(lambda: number)
    RetryBudget("supplier", RetryBudgetConfig(capacity=20 + number)).metrics()
    if not number % 10:
        Policy("supplier", retry=RETRY, breaker=CircuitBreakerConfig(), shared=SharedState(MemoryStorage()))
        Classifier(default_rules()).classify(ValueError())


def main() -> None:
    """Prints how much is held after some objects, and after many more."""
    cardinality.MAX_ATTRIBUTE_SETS = breaker.MANY = 100  # type: ignore[misc]  # reached by both
    recorded = RecordedTelemetry()

    def play(numbers: range) -> int:
        for number in numbers:
            make_and_drop(number)
        gc.collect()
        recorded.points()
        return held_by_modules()

    with recorded.recording() if sys.argv[1] == "observed" else contextlib.nullcontext():
        print(play(range(300)), play(range(300, 3000)))


if __name__ == "__main__":
    main()
