"""Requests to a storage and its answers: one atomic step at a time.

Times are seconds relative to the moment of the step, so that no two clocks are ever compared.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Protocol

from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason
from otel_resilience.retries.bucket import RetryBudgetConfig


class StorageError(Exception):
    """The storage could not make a step. Its cause says why; the message contains no secret.

    Examples:
        >>> from otel_resilience.storage import RedisStorage, StorageError
        >>> storage = RedisStorage("redis://127.0.0.1:9")  # nothing listens there
        >>> try:
        ...     storage.ping()
        ... except StorageError as error:
        ...     print(type(error.__cause__).__name__)
        ConnectionError
    """


class Action(StrEnum):
    """What a step does besides merging its sender's state.

    Examples:
        >>> from otel_resilience.storage import Action
        >>> Action("probe") is Action.PROBE
        True
    """

    LOOK = "look"
    """Nothing else."""
    FAIL = "fail"
    """A call failed: one of the closed state, or the probe with ``lease``."""
    SLOW = "slow"
    """A call of the closed state succeeded, but slowly."""
    PROBE = "probe"
    """Requests ``lease``; ends an open time that has passed."""
    SUCCEED = "succeed"
    """The probe with ``lease`` succeeded."""
    RELEASE = "release"
    """The probe with ``lease`` has no meaning for the circuit."""
    FORCE_OPEN = "force_open"
    """Like :meth:`CircuitBreaker.force_open`."""
    CLOSE = "close"
    """Like :meth:`CircuitBreaker.close`."""
    RESET = "reset"
    """Like :meth:`CircuitBreaker.reset`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """The state of a breaker that used local state, or comes from another storage. The newer state wins.

    Ages and times are seconds before or after the step.

    Examples:
        >>> from otel_resilience.storage import Claim
        >>> opened = Claim(generation=3, state=BreakerState.OPEN, age=2.0, open_left=28.0, openings=1, opened_age=2.0)
    """

    generation: int
    state: BreakerState
    age: float
    """Seconds since its last change of state."""
    open_left: float
    openings: int
    opened_age: float
    """Seconds since it left the closed state."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStep:
    """One step of a shared circuit breaker; ages are seconds before the step.

    Examples:
        >>> from otel_resilience.storage import Action, BreakerStep, MemoryStorage
        >>> config = CircuitBreakerConfig(failure_threshold=1, reset_timeout=30)
        >>> view = MemoryStorage().breaker("supplier", BreakerStep(action=Action.FAIL, config=config, lease_for=60))
        >>> view.state.name, view.moved
        ('OPEN', True)
    """

    action: Action
    config: CircuitBreakerConfig
    lease_for: float
    """Seconds after which a probe without a result loses its slot."""
    generation: int = 0
    """The generation in which the calls and probes reported here were admitted."""
    successes: int = 0
    """Calls of the closed state that succeeded since the last step, all before the call that ``action`` reports."""
    success_age: float = 0.0
    """Seconds since the last of them was started: it says nothing about later calls of others."""
    slow: bool = False
    lease: str = ""
    """Identifies a probe; never reused."""
    fraction: float = 0.0
    """In ``[0, 1)``, for the jitter of an open time."""
    hint: float | None = None
    """The server's requested wait in seconds."""
    error_type: str = ""
    claim: Claim | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BreakerView:
    """A shared breaker right after a step; ages and times are seconds before or after it.

    Examples:
        >>> from otel_resilience.storage import Action, BreakerStep, MemoryStorage
        >>> config = CircuitBreakerConfig()
        >>> view = MemoryStorage().breaker("supplier", BreakerStep(action=Action.LOOK, config=config, lease_for=60))
        >>> view.state.name, view.open_left
        ('CLOSED', 0.0)
    """

    generation: int
    """Incremented with each change of state; never decreases."""
    state: BreakerState
    age: float | None
    """Seconds since its last change of state; ``None`` if there was none."""
    open_left: float
    openings: int
    opened_age: float
    reason: TransitionReason
    """Reason of the last change."""
    error_type: str
    failures: int
    calls: int
    slow: int
    run: int
    """Failures in a row."""
    moved: bool = False
    """This step changed the state."""
    granted: bool = False
    """The requested lease was granted."""
    stale: bool = False
    """The reported result belonged to an earlier generation."""
    expired: int = 0
    """Leases that this step found to have expired."""
    busy_for: float = 0.0
    """Seconds until a slot for a probe becomes free at the latest; 0 if one is free."""


class Merge(StrEnum):
    """How the sender's balance and the one in the storage are combined."""

    START = "start"
    """Use the sender's only if the storage has none."""
    LOWER = "lower"
    """The lower one wins: the sender has spent tokens while it used local state."""
    REPLACE = "replace"
    """The sender's wins: the storage only keeps a copy."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStep:
    """One step of a shared retry budget, in tokens.

    Examples:
        >>> from otel_resilience.storage import BudgetStep, MemoryStorage
        >>> step = BudgetStep(config=RetryBudgetConfig(capacity=50), cost=10)
        >>> MemoryStorage().budget("supplier", step)
        BudgetView(tokens=40.0, granted=True)
    """

    config: RetryBudgetConfig
    cost: float = 0.0
    """Taken if the bucket has enough; 0: only read."""
    given: float = 0.0
    """Added since the last step."""
    ran: float = 0.0
    """Seconds that the sender has been running since its last step: tokens accrue only while a process runs."""
    claim: float | None = None
    """Tokens as known to a sender that used local state, or comes from another storage."""
    merge: Merge = Merge.START
    """How the claim is used."""


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetView:
    """A shared budget right after a step.

    Examples:
        >>> from otel_resilience.storage import BudgetStep, MemoryStorage
        >>> step = BudgetStep(config=RetryBudgetConfig(capacity=50))
        >>> MemoryStorage().budget("supplier", step).tokens
        50.0
    """

    tokens: float
    granted: bool
    """The cost was taken."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RateStep:
    """One step of a shared rate limit.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, RateStep
        >>> MemoryStorage().rate("supplier", RateStep(limit=10, window=1.0, cost=1)).granted
        True
    """

    limit: int
    """Permits within the window."""
    window: float
    """Length of the window in seconds."""
    cost: int = 0
    """Requested permits, at most the limit; 0: none."""
    pause: float = 0.0
    """Seconds from now in which no permit is given."""
    sender: str = ""
    """Identifies the process that asks."""


@dataclasses.dataclass(frozen=True, slots=True)
class RateView:
    """The answer of a shared rate limit.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, RateStep
        >>> view = MemoryStorage().rate("supplier", RateStep(limit=10, window=1.0, cost=1, sender="here"))
        >>> view.wait, view.senders
        (0.0, 1)
    """

    wait: float
    """Seconds until the permits may be used, or, if they were not granted, until the next request."""
    granted: bool
    senders: int = 1
    """Processes that have asked recently."""


class Storage(Protocol):
    """Where all callers of one dependency keep their common state. Every method is one atomic step.

    ``key`` identifies the dependency. Raises :class:`StorageError` if the step was not made, or may not have been.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, Storage
        >>> storage: Storage = MemoryStorage()
        >>> storage.name, storage.remote
        ('memory', False)
    """

    @property
    def name(self) -> str:
        """``memory``, ``disk``, ``redis``: the attribute ``resilience.storage``."""

    @property
    def remote(self) -> bool:
        """Whether a step may take long, so that callers must wait for it only for a limited time."""

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        """One step of a circuit breaker."""

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        """One step of a retry budget."""

    def rate(self, key: str, step: RateStep) -> RateView:
        """One step of a rate limit."""

    def pause(self, key: str, seconds: float) -> float:
        """Nothing should start for ``seconds``; a longer pause stays. Returns the remaining seconds. 0 only reads."""

    def ping(self) -> None:
        """The cheapest possible step."""

    def close(self) -> None:
        """Closes connections and files."""
