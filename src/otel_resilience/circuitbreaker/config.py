"""Configuration and metrics of a circuit breaker."""

from __future__ import annotations

import dataclasses

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.states import BreakerState, Transition


class _DefaultCount(int):
    """A default that was not given, so that a ``failure_threshold`` switches the rule off, in ``replace`` too."""


class _DefaultRate(float):
    """Like :class:`_DefaultCount`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """When a breaker opens, for how long, and how it closes again. Durations are seconds > 0; counts at least 1.

    It trips when any enabled rule applies. Defaults: half of at least ten calls within 60 s, or five failures in a row
    (Finagle's two-part rule, the only kind that works at 0.1 to 2 calls per second as well as at fifty). Raises
    ``TypeError`` or ``ValueError`` naming the parameter; a configuration without any rule is only for shadow mode.

    ``dataclasses.replace`` gives what the constructor gives for the same parameters. Rules that a threshold switched
    off stay off: when removing the threshold, name another rule.

    Examples:
        >>> config = CircuitBreakerConfig(failure_threshold=5, monitoring_period=60, reset_timeout=30)
        >>> config.failure_rate is None  # the threshold is the only rule
        True
        >>> CircuitBreakerConfig(reset_timeout=0)
        Traceback (most recent call last):
            ...
        ValueError: reset_timeout must be greater than 0, not 0
    """

    failure_threshold: int | None = None
    """Trips on this many failures within ``monitoring_period``. ``None``: off. If given, ``failure_rate`` and
    ``consecutive_failures`` are off unless they are given too."""
    monitoring_period: float = 60.0
    """Seconds that the window covers."""
    failure_rate: float | None = _DefaultRate(0.5)
    """Trips when this share of the calls in the window failed, in ``(0, 1]``. ``None``: off."""
    minimum_calls: int = 10
    """Calls in the window before a rate is judged."""
    consecutive_failures: int | None = _DefaultCount(5)
    """Trips on this many failures in a row. ``None``: off."""
    slow_call_duration: float | None = None
    """A call that takes this many seconds or longer is slow. ``None``: no call is slow."""
    slow_call_rate: float = 0.5
    """Trips when this share of the calls in the window was slow, in ``(0, 1]``."""
    reset_timeout: float = 5.0
    """Upper bound of the first open time in seconds. It doubles with each opening until the breaker closes; the open
    time is drawn with equal jitter, between half the bound and the bound."""
    max_reset_timeout: float | None = None
    """Upper bound of every open time in seconds. ``None``: 60, or ``reset_timeout`` if that is longer."""
    max_retry_after: float = 300.0
    """A server's hint extends the open time up to this many seconds, at least 0."""
    half_open_max_calls: int = 1
    """Probes that may run concurrently; as many successes in a row close the breaker."""
    probe_lease: float | None = None
    """Seconds after which a probe without a result loses its slot, so that another may be sent. Its result still counts
    when it arrives. ``None``: the attempt timeout plus a margin if a policy has one, else 60."""
    shadow: bool = False
    """Only report what would have been rejected."""

    def __post_init__(self) -> None:
        self._switch_off_what_was_not_given()
        if self.failure_threshold is not None:
            check.count("failure_threshold", self.failure_threshold)
        if self.consecutive_failures is not None:
            check.count("consecutive_failures", self.consecutive_failures)
        if self.failure_rate is not None:
            check.number("failure_rate", self.failure_rate, minimum=0, exclusive=True, maximum=1)
        check.number("slow_call_rate", self.slow_call_rate, minimum=0, exclusive=True, maximum=1)
        for name in ("monitoring_period", "reset_timeout"):
            check.seconds(name, getattr(self, name))
        for name in ("slow_call_duration", "probe_lease", "max_reset_timeout"):
            if getattr(self, name) is not None:
                check.seconds(name, getattr(self, name))
        check.seconds("max_retry_after", self.max_retry_after, zero=True)
        if self.max_reset_timeout is not None and self.max_reset_timeout < self.reset_timeout:
            least = f"reset_timeout ({self.reset_timeout:g})"
            raise ValueError(f"max_reset_timeout must be at least {least}, not {self.max_reset_timeout!r}")
        check.count("minimum_calls", self.minimum_calls)
        check.count("half_open_max_calls", self.half_open_max_calls)
        check.instance("shadow", self.shadow, bool)
        rules = (self.failure_threshold, self.failure_rate, self.consecutive_failures, self.slow_call_duration)
        if not self.shadow and all(rule is None for rule in rules):
            raise ValueError(
                "a circuit breaker needs a rule: failure_threshold, failure_rate, consecutive_failures and"
                " slow_call_duration are all None"
            )

    def _switch_off_what_was_not_given(self) -> None:
        if self.failure_threshold is None:
            return
        if isinstance(self.failure_rate, _DefaultRate):
            object.__setattr__(self, "failure_rate", None)
        if isinstance(self.consecutive_failures, _DefaultCount):
            object.__setattr__(self, "consecutive_failures", None)

    @property
    def open_time_cap(self) -> float:
        """The longest open time without a server's hint, in seconds."""
        return self.max_reset_timeout if self.max_reset_timeout is not None else max(60.0, self.reset_timeout)


@dataclasses.dataclass(frozen=True, slots=True)
class CircuitBreakerMetrics:
    """A snapshot of a breaker, as returned by :meth:`CircuitBreaker.metrics`. Counts are those of the window unless
    stated otherwise; durations in seconds.

    Examples:
        >>> breaker = CircuitBreaker("supplier")
        >>> breaker.execute(lambda: "plans")
        'plans'
        >>> metrics = breaker.metrics()
        >>> metrics.calls, metrics.failures, metrics.failure_rate
        (1, 0, 0.0)
    """

    dependency: str
    state: BreakerState
    time_in_state: float
    """Seconds since the last change of state."""
    calls: int
    """Calls in the window."""
    failures: int
    slow_calls: int
    failure_rate: float
    """Failures over calls; 0 for an empty window."""
    slow_call_rate: float
    consecutive_failures: int
    rejected: int
    """Calls rejected so far; in shadow mode, calls that would have been."""
    stale_results: int
    """Results that arrived after the state had changed and were dropped."""
    opened: int
    """How often it opened."""
    retry_after: float | None
    """Seconds until a call may pass; 0 if one may pass now, ``None`` while it is forced open."""
    last_transition: Transition | None
    would_be_state: BreakerState
    """In shadow mode the state that it would be in; otherwise the state itself."""
