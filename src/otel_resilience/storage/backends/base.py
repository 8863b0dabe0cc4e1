"""Common code of the storages: a step loads a document, changes it, and writes it back."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TypeVar

from otel_resilience.storage import documents
from otel_resilience.storage.documents import Document
from otel_resilience.storage.protocol import BreakerStep, BreakerView, BudgetStep, BudgetView, RateStep, RateView

T = TypeVar("T")


class DocumentStorage(abc.ABC):
    """A :class:`~otel_resilience.storage.Storage` that keeps documents."""

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        """One step of a circuit breaker."""
        return self._step("breaker", key, lambda document, now: documents.breaker(document, step, now))

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        """One step of a retry budget."""
        return self._step("budget", key, lambda document, now: documents.budget(document, step, now))

    def rate(self, key: str, step: RateStep) -> RateView:
        """One step of a rate limit."""
        return self._step("rate", key, lambda document, now: documents.rate(document, step, now))

    def pause(self, key: str, seconds: float) -> float:
        """Returns the remaining seconds of the longest pause."""
        return self._step("pause", key, lambda document, now: documents.pause(document, seconds, now))

    @abc.abstractmethod
    def _step(self, kind: str, key: str, change: Callable[[Document, float], T]) -> T:
        """Applies ``change`` to the document of that kind and key, as one atomic step at the storage's time.

        ``change`` must be pure: it may be called again on another version of the document. Raises
        :class:`~otel_resilience.storage.StorageError` if nothing was written, or possibly nothing.
        """
