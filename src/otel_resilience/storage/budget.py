"""A retry budget that shares its bucket.

A retry calls the storage; the credit from successes is collected and reported with the next step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from otel_resilience._internal import validation as check
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.retries.budget import RetryBudget
from otel_resilience.storage.links import Link
from otel_resilience.storage.protocol import BudgetStep, BudgetView, Merge, StorageError
from otel_resilience.storage.sharing import Sharing, ask, copy_behind


@dataclasses.dataclass(frozen=True, slots=True)
class _Stored:
    view: BudgetView
    given: float
    ran_until: float
    local_steps: int


class SharedRetryBudget(RetryBudget):
    """Like :class:`~otel_resilience.RetryBudget`; all with the same dependency and the same storage draw on one bucket.

    Tokens accrue only while a process runs, not in the gaps between the runs of a job.

    A policy with ``shared`` creates its own.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, SharedRetryBudget, SharedState
        >>> shared = SharedState(MemoryStorage())
        >>> one, other = (SharedRetryBudget("supplier", shared=shared) for _ in range(2))
        >>> one.take(40)
        True
        >>> other.take(40), other.take(40)
        (True, False)
    """

    def __init__(
        self,
        dependency: str,
        config: RetryBudgetConfig | None = None,
        *,
        shared: Sharing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check.instance("shared", shared, Sharing)
        self._shared = shared
        super().__init__(dependency, config, clock=clock)
        self.key = shared.key(dependency)
        self._given = 0.0
        """Tokens added and not reported yet."""
        self._ran_until = clock()
        """Up to when the running time of this process has been reported."""
        self._answered_by: Link | None = None
        self._seen: set[Link] = set()
        """Storages that have answered."""
        self._local_steps = 0
        shared.join(self)

    def take(self, cost: float) -> bool:
        """Like :meth:`RetryBudget.take`."""
        check.number("cost", cost, minimum=0)
        answered = ask(self._shared.links, lambda link: self._send(link, cost), self._adopt)
        with self._lock:
            if answered is not None:
                if answered[1].view.granted:
                    self._granted += 1
                    self._starved = self.full = False
                    return True
                self._denied += 1
                return False
            self._lose_step()
        return super().take(cost)

    def give(self, tokens: float) -> None:
        """Like :meth:`RetryBudget.give`."""
        check.number("tokens", tokens, minimum=0)
        with self._lock:
            self.full = self._bucket.give(tokens)
            self._given = min(self._given + tokens, self.config.capacity)

    def refund(self, tokens: float) -> None:
        """Like :meth:`RetryBudget.refund`."""
        self.give(tokens)

    def refresh(self, link: Link) -> None:
        """Reads the shared bucket. Raises :class:`~otel_resilience.storage.StorageError`."""
        try:
            answer = link.run(lambda: self._send(link))
        except StorageError:
            self._lose_step()
            raise
        self._adopt(link, answer)

    def flush(self) -> None:
        """Reports what has not been reported yet."""
        answered = ask(self._shared.links, self._send, self._adopt)
        if answered is None:
            self._lose_step()
        else:
            copy_behind(answered[0], self._shared.links, self._send)

    def _lose_step(self) -> None:
        """No storage answered, and perhaps one has what was paid in: with the next step the lower balance counts."""
        with self._lock:
            self._local_steps += 1
            self._answered_by = None

    def _send(self, link: Link, cost: float = 0.0) -> _Stored:
        with self._lock:
            now = self._clock()
            given, local_steps = self._given, self._local_steps
            claim = None
            if self._answered_by is not link and (self._seen or self._local_steps):
                self._bucket.refill(now)
                claim = self._bucket.tokens  # which includes the tokens added since
            step = BudgetStep(
                config=self.config,
                cost=cost,
                given=given if claim is None else 0.0,
                ran=max(0.0, now - self._ran_until),
                claim=claim,
                merge=self._merge(link),
            )
        return _Stored(link.storage.budget(self.key, step), given, now, local_steps)

    def _merge(self, link: Link) -> Merge:
        links = self._shared.links
        if not self._seen.isdisjoint(links[: links.index(link)]):
            return Merge.REPLACE
        return Merge.LOWER if link in self._seen or self._local_steps else Merge.START

    def _adopt(self, link: Link, answer: _Stored) -> bool:
        with self._lock:
            if answer.local_steps != self._local_steps:
                return False
            self._answered_by = link
            self._seen.add(link)
            self._given = max(0.0, self._given - answer.given)
            self._ran_until = max(self._ran_until, answer.ran_until)
            self.full = self._bucket.set(answer.view.tokens + self._given, self._clock())
        return True
