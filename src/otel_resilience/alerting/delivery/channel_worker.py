"""One channel at work: a queue, our own retry and breaker around it, and a thread that waits for no other channel."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import repr_of
from otel_resilience.alerting import telemetry as signals
from otel_resilience.alerting.channels.base import Channel
from otel_resilience.alerting.channels.errors import REVOKED_STATUSES
from otel_resilience.alerting.model.alert import Notification, Status
from otel_resilience.alerting.model.digest import digest
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.classification.model import CANCELLED, Classification, Severity
from otel_resilience.errors import CircuitOpenError, ResilienceError
from otel_resilience.policy.policy import Policy
from otel_resilience.redaction import redact
from otel_resilience.retries.config import RetryConfig

DEPENDENCY_PREFIX: Final = "alert-"
"""The ``resilience.dependency`` of a channel is this and its name."""

SECURED_WITHIN: Final = 5.0
"""Seconds for which a message waits for the disk at most, before it is sent all the same."""

REVOKED: Final = frozenset(map(str, REVOKED_STATUSES))
"""Answers by which a receiver revokes our access."""

_log = logging.getLogger("otel_resilience.alerting")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryConfig:
    """How a channel is tried. Durations in seconds, at least 0; counts at least 1. Raises ``TypeError`` or
    ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, DeliveryConfig
        >>> service = AlertService(AlertConfig(), [], delivery=DeliveryConfig(attempt_timeout=10, per_minute=30))
        >>> DeliveryConfig(attempt_timeout=0)
        Traceback (most recent call last):
            ...
        ValueError: attempt_timeout must be greater than 0, not 0
    """

    attempt_timeout: float = 5.0
    """One message on its way, the answer included; greater than 0."""
    retry: RetryConfig = dataclasses.field(
        default_factory=lambda: RetryConfig(max_attempts=3, base_delay=0.5, max_retry_after=30.0)
    )
    """A receiver that asks for more patience than ``max_retry_after`` gets it; another channel takes over meanwhile."""
    breaker: CircuitBreakerConfig = dataclasses.field(
        default_factory=lambda: CircuitBreakerConfig(consecutive_failures=5, reset_timeout=15.0)
    )
    """Opens where the receiver is not well; another channel takes over."""
    first_pause: float = 15.0
    """Wait after a notification was given up by the retry, doubled each time; the next one is not sooner."""
    longest_pause: float = 300.0
    """The longest such wait."""
    first_probe: float = 60.0
    """Wait after a receiver revoked our access, doubled each time: then the next message is tried all the same. One
    of CRITICAL severity is tried at once, whatever came before."""
    longest_probe: float = 3600.0
    """The longest such wait."""
    per_minute: int = 60
    """Most messages of a channel in any minute; what comes beyond waits and leaves together."""
    max_queue: int = 1000
    """Notifications that may wait for a channel; beyond it the two oldest become one."""

    def __post_init__(self) -> None:
        check.instance("retry", self.retry, RetryConfig)
        check.instance("breaker", self.breaker, CircuitBreakerConfig)
        check.seconds("attempt_timeout", self.attempt_timeout)
        for name in ("first_pause", "longest_pause", "first_probe", "longest_probe"):
            check.seconds(name, getattr(self, name), zero=True)
        for name in ("per_minute", "max_queue"):
            check.count(name, getattr(self, name))


class InterruptedDeliveryError(ResilienceError):
    """The service closes: there is no time for the wait before the next attempt."""

    classification = CANCELLED


class Listener(Protocol):
    """Callbacks about every notification; called from the channel's thread."""

    def delivered(self, channel: str, notification: Notification) -> None:
        """The channel confirmed."""
        ...

    def failed(self, channel: str, notification: Notification, verdict: Classification, *, final: bool) -> bool:
        """Given up for now, or for good where ``final``. Returns whether the channel is to keep it and try again."""
        ...

    def disabled(self, channel: str, verdict: Classification) -> None:
        """The receiver revoked our access: until it takes a message again, the channel is only probed."""
        ...

    def grouped(self, channel: str, notifications: list[Notification], into: Notification) -> None:
        """Several left as one."""
        ...

    def is_outdated(self, channel: str, notification: Notification) -> bool:
        """Whether it is not to be sent any more; then it is done with at this channel."""
        ...

    def secure(self, notification: Notification, timeout: float) -> None:
        """Before it is sent: wait, ``timeout`` seconds at most, until it survives the process."""
        ...

    def settled(self) -> None:
        """While closing: the worker has done what it could so far."""
        ...


class ChannelWorker:
    """Delivers the notifications of one channel, in order.

    :meth:`step` does what can be done now; :meth:`run` is the thread that calls it. Tests call :meth:`step` alone.
    """

    def __init__(
        self,
        channel: Channel,
        listener: Listener,
        config: DeliveryConfig,
        *,
        lock: threading.RLock,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.channel = channel
        self.revoked: Classification | None = None
        """What the receiver answered when it revoked our access, until it takes a message again."""
        self._listener = listener
        self._config = config
        self._clock = clock
        self._queue: deque[Notification] = deque()
        self._changed = threading.Condition(lock)
        self._closing = self._finished = self._busy = False
        self._give_up_at = math.inf
        self._not_before = -math.inf
        self._pause, self._probe_pause = config.first_pause, config.first_probe
        self._probe_at = -math.inf
        self._held_up = False
        self._sent_at: deque[float] = deque(maxlen=config.per_minute)
        self.policy = Policy(
            DEPENDENCY_PREFIX + channel.name,
            retry=config.retry,
            breaker=config.breaker,
            clock=clock,
            sleep=sleep or self._sleep,
            rng=rng,
        )

    @property
    def waiting(self) -> int:
        """Notifications in the queue."""
        return len(self._queue)

    def would_try(self, notification: Notification) -> bool:
        """Whether it is sent, and not refused at once: one bad answer is not believed for ever."""
        about_us = notification.dependency == DEPENDENCY_PREFIX + self.channel.name
        critical = notification.severity is Severity.CRITICAL and not about_us
        return self.revoked is None or critical or self._clock() >= self._probe_at

    def put(self, notification: Notification) -> None:
        """Queue it; the end of an incident takes the place of its own messages that are still queued.

        Not so for a CRITICAL one at a receiver that keeps incidents: it ignores the end of one that it does not know.
        """
        with self._changed:
            if notification.status is Status.RESOLVED:
                notification = self._replace_unsent(notification)
            self._queue.append(notification)
            if len(self._queue) > self._config.max_queue:
                oldest = [self._queue.popleft(), self._queue.popleft()]
                self._queue.appendleft(self._merged(oldest))
            self._changed.notify_all()

    def run(self) -> None:
        """The thread: until :meth:`finish`."""
        while self._work():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001  # the thread continues; what is durable lies in the outbox
                _log.error("unexpected error during delivery to %s: %s", self.channel.name, redact(repr_of(error)))

    def _work(self) -> bool:
        """Wait until there is something to send. ``False``: the end."""
        with self._changed:
            self._busy = False
            while not self._finished and (wait := self._ready_at() - self._clock()) > 0:
                if self._closing:
                    self._listener.settled()
                self._held_up = bool(self._queue)
                self._changed.wait(None if math.isinf(wait) else wait)
            self._busy = not self._finished
            return self._busy

    def _ready_at(self) -> float:
        return max(self._not_before, self._earliest()) if self._queue else math.inf

    def close(self, give_up_at: float) -> None:
        """From now on nothing waits beyond ``give_up_at`` on the clock."""
        with self._changed:
            self._closing, self._give_up_at = True, give_up_at
            self._changed.notify_all()

    def finish(self) -> None:
        """Ends the thread as soon as it is not sending."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    @property
    def is_settled(self) -> bool:
        """Whether nothing more can be sent before the time of :meth:`close` is up."""
        if self._busy:
            return False
        return self._ready_at() >= self._give_up_at

    def step(self) -> float:
        """Send what may be sent now. Returns when to come again, on the clock; infinity: when something is put."""
        while True:
            now = self._clock()
            notification, at = self._next(now)
            if notification is None:
                return at
            if not self._send(notification):
                return self._not_before

    def _next(self, now: float) -> tuple[Notification | None, float]:
        with self._changed:
            if not self._queue:
                self._held_up = False
                return None, math.inf
            at = self._ready_at()
            if at > now:
                self._held_up = True
                return None, at
            many = self.channel.coalesce_from
            if many is not None and len(self._queue) >= (2 if self._held_up and many > 1 else many):
                queued = list(self._queue)
                self._queue.clear()
                return self._merged(queued), now
            return self._queue.popleft(), now

    def _earliest(self) -> float:
        if not self._sent_at:
            return -math.inf
        soonest = self._sent_at[-1] + self.channel.min_interval
        full = len(self._sent_at) == self._config.per_minute
        return max(soonest, self._sent_at[0] + 60.0) if full else soonest

    def _merged(self, notifications: list[Notification]) -> Notification:
        merged = digest(notifications)
        self._listener.grouped(self.channel.name, notifications, merged)
        return merged

    def _replace_unsent(self, resolved: Notification) -> Notification:
        unsent = [each for each in self._queue if each.incident == resolved.incident and not self._must_precede(each)]
        self._queue = deque(each for each in self._queue if each not in unsent)
        return self._in_place_of(unsent, resolved)

    def _must_precede(self, notification: Notification) -> bool:
        """Whether the end of its incident does not stand for it at this channel."""
        critical = notification.status is Status.FIRING and notification.severity is Severity.CRITICAL
        return critical and self.channel.keeps_incidents

    def _in_place_of(self, unsent: list[Notification], resolved: Notification) -> Notification:
        """The end of an incident with the occurrences that were not reported before."""
        if not unsent:
            return resolved
        self._listener.grouped(self.channel.name, unsent, resolved)
        return dataclasses.replace(resolved, count=resolved.count + sum(each.count for each in unsent))

    def _send(self, notification: Notification) -> bool:
        """Whether to continue with the next one."""
        if self.revoked is not None and not self.would_try(notification):
            self._listener.failed(self.channel.name, notification, self.revoked, final=True)
            return True
        if self._listener.is_outdated(self.channel.name, notification):
            return True
        limit = min(SECURED_WITHIN, self._give_up_at - self._clock()) if self._closing else SECURED_WITHIN
        self._listener.secure(notification, max(0.0, limit))
        with signals.delivery(self.channel.name, notification) as span:
            try:
                self.policy.execute(lambda: self._deliver(notification), name="deliver", idempotent=True)
            except InterruptedDeliveryError:
                self._put_back(notification)
                self._not_before = self._give_up_at
                return False
            except Exception as error:  # noqa: BLE001  # whatever a channel raises is classified and reported, not passed on
                verdict = self.policy.classify(error)
                span.failed(verdict.error_type)
                return self._failed(notification, error, verdict)
            span.delivered()
            self._pause, self._not_before = self._config.first_pause, -math.inf
            self.revoked, self._probe_pause = None, self._config.first_probe
            # Within the span: its event and its metrics lead to the trace.
            self._listener.delivered(self.channel.name, notification)
        return True

    def _deliver(self, notification: Notification) -> None:
        if (wait := self._earliest() - self._clock()) > 0:  # a repetition is a message, too
            self.policy.sleep(wait)
        timeout = self._config.attempt_timeout
        if self._closing:
            timeout = min(timeout, self._give_up_at - self._clock())
            if timeout <= 0:
                raise InterruptedDeliveryError("closing")
        try:
            self.channel.deliver(notification, timeout=timeout)
        finally:
            self._sent_at.append(self._clock())

    def _failed(self, notification: Notification, error: Exception, verdict: Classification) -> bool:
        name = self.channel.name
        if verdict.error_type in REVOKED:
            self.revoked = verdict
            self._probe_at = self._clock() + self._probe_pause
            self._probe_pause = min(2 * self._probe_pause, self._config.longest_probe)
            self._listener.disabled(name, verdict)
            self._listener.failed(name, notification, verdict, final=True)
            return True
        final = not verdict.retryable and not isinstance(error, CircuitOpenError)
        if self._listener.failed(name, notification, verdict, final=final) and not final:
            self._put_back(notification)
        if final:
            return True
        hint = verdict.retry_after or 0.0
        pause = hint if isinstance(error, CircuitOpenError) and hint else max(self._pause, hint)
        self._not_before = self._clock() + pause
        self._pause = min(2 * self._pause, self._config.longest_pause)
        self._held_up = True
        return False

    def _put_back(self, notification: Notification) -> None:
        """Where the end of its incident is queued by now, that takes its place as in :meth:`put`."""
        with self._changed:
            for place, each in enumerate(self._queue):
                if self._must_precede(notification):
                    break
                if each.incident == notification.incident and each.status is Status.RESOLVED:
                    self._queue[place] = self._in_place_of([notification], each)
                    return
            self._queue.appendleft(notification)

    def _sleep(self, seconds: float) -> None:
        until = self._clock() + seconds
        with self._changed:
            while (left := until - self._clock()) > 0:
                if self._finished or until >= self._give_up_at:
                    raise InterruptedDeliveryError("closing")
                self._changed.wait(left)
