"""A storage of shared state that can become unreachable."""

from __future__ import annotations

from otel_resilience.storage import (
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    MemoryStorage,
    RateStep,
    RateView,
    StorageError,
)
from otel_resilience.testing import FakeClock


class FrailStorage:
    """In memory, on the clock of the test; ``gone`` makes every step fail, ``steps`` counts them."""

    name = "memory"
    remote = False

    def __init__(self, clock: FakeClock) -> None:
        self.real = MemoryStorage(clock=clock)
        self.gone = False
        self.steps: list[str] = []

    def _check(self, what: str) -> None:
        self.steps.append(what)
        if self.gone:
            raise StorageError("gone") from ConnectionRefusedError()

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        self._check(step.action.value)
        return self.real.breaker(key, step)

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        self._check("budget")
        return self.real.budget(key, step)

    def rate(self, key: str, step: RateStep) -> RateView:
        self._check("rate")
        return self.real.rate(key, step)

    def pause(self, key: str, seconds: float) -> float:
        self._check("pause")
        return self.real.pause(key, seconds)

    def ping(self) -> None:
        self._check("ping")

    def close(self) -> None:
        self.real.close()
