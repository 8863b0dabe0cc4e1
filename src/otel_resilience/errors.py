"""Errors of this library, and the context it attaches to the errors of others."""

from __future__ import annotations

import dataclasses
from typing import Any

from otel_resilience._internal.foreign import attribute, is_a, own, set_own
from otel_resilience._internal.pickled import reduced
from otel_resilience.classification import error_types
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity

CONTEXT_ATTRIBUTE = "__resilience__"
_NOTES = "__notes__"
_MEDIUM, _NEUTRAL = Severity.MEDIUM, BreakerEffect.NEUTRAL


class ResilienceError(Exception):
    """Base of the errors that this library raises itself.

    Examples:
        >>> breaker = CircuitBreaker("supplier")
        >>> breaker.force_open()
        >>> try:
        ...     breaker.execute(lambda: "plans")
        ... except ResilienceError as error:
        ...     print(error, error.attempts)
        the circuit of supplier was forced open 0
    """

    attempts: int = 0
    """Attempts that the call made before this error ended it. If there were any, something may have been sent."""


class CircuitOpenError(ResilienceError):
    """The circuit of the dependency is open; the next attempt was not sent.

    Constructed with the dependency and the seconds until a call may pass. It has no ``__init__`` of its own: the
    arguments are its only state, and a rejection must cost next to nothing. If constructed without them, as by a mock
    that raises the class, its dependency is ``unknown``. If the call made attempts before, ``attempts`` says how many,
    and the last of their errors is the cause.

    Examples:
        >>> error = CircuitOpenError("supplier", 2.5)
        >>> error.dependency, error.retry_after, error.classification.unsent
        ('supplier', 2.5, True)
        >>> print(error)
        the circuit of supplier is open; a call may pass in 2.500 s
    """

    @property
    def dependency(self) -> str:
        """The dependency that was called."""
        return self.args[0] if len(self.args) == 2 else "unknown"

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may pass; ``None`` if the circuit was forced open."""
        return self.args[1] if len(self.args) == 2 else None

    def __str__(self) -> str:
        left = self.retry_after
        if left is None:
            return f"the circuit of {self.dependency} was forced open"
        return f"the circuit of {self.dependency} is open; a call may pass in {left:.3f} s"

    @property
    def classification(self) -> Classification:
        """Transient, neutral for any enclosing breaker, and provably unsent if no attempt was made."""
        return _verdict(self, ErrorClass.TRANSIENT, error_types.CIRCUIT_OPEN, 0)


class LimitError(ResilienceError):
    """Base of the rejections by a limit of our own; the next attempt was not sent.

    Constructed with the dependency and the seconds to wait, like :class:`CircuitOpenError`. Neutral for any enclosing
    breaker, and provably unsent if no attempt was made.

    Examples:
        >>> limiter = RateLimiter("supplier", RateLimit(1, per=60, max_wait=0))
        >>> limiter.acquire()
        >>> try:
        ...     limiter.acquire()
        ... except LimitError as error:
        ...     print(f"{error.dependency}: again in {error.retry_after:.0f} s")
        supplier: again in 61 s
    """

    @property
    def dependency(self) -> str:
        """The dependency that was called."""
        return self.args[0] if len(self.args) == 2 else "unknown"

    @property
    def retry_after(self) -> float:
        """Seconds after which the same call can be expected to pass."""
        return self.args[1] if len(self.args) == 2 else 0.0


def _verdict(
    rejection: CircuitOpenError | LimitError, error_class: ErrorClass, error_type: str, max_retries: int | None
) -> Classification:
    wait, unsent = rejection.retry_after, not rejection.attempts
    # Positional arguments are faster, and every rejection is judged.
    return Classification(error_class, _MEDIUM, error_type, _NEUTRAL, wait, unsent, False, max_retries)


class RateLimitedError(LimitError):
    """The rate limit's next permit would come later than the call may wait for it.

    Examples:
        >>> print(RateLimitedError("supplier", 0.4))
        the rate limit of supplier gives a permit in 0.400 s, which is too late
        >>> classify(RateLimitedError("supplier", 0.4)).error_type
        'rate_limited'
    """

    def __str__(self) -> str:
        return f"the rate limit of {self.dependency} gives a permit in {self.retry_after:.3f} s, which is too late"

    @property
    def classification(self) -> Classification:
        """Like a response with status 429, but neutral and unsent."""
        return _verdict(self, ErrorClass.THROTTLED, error_types.RATE_LIMITED, None)


class ConcurrencyLimitError(LimitError):
    """As many calls as allowed are running, and none ended in the time that the call may wait.

    ``retry_after`` is an estimate from how often a slot became free.

    Examples:
        >>> policy = Policy("supplier", max_concurrency=ConcurrencyLimit(1, max_wait=0))
        >>> try:
        ...     policy.execute(lambda: policy.execute(lambda: "plans"))
        ... except ConcurrencyLimitError as error:
        ...     print(error)
        all calls that may be made to supplier at a time are under way
    """

    def __str__(self) -> str:
        return f"all calls that may be made to {self.dependency} at a time are under way"

    @property
    def classification(self) -> Classification:
        """A local resource is exhausted, which says nothing about the dependency."""
        return _verdict(self, ErrorClass.LOCAL, error_types.CONCURRENCY_LIMITED, None)


class AttemptTimeoutError(ResilienceError, TimeoutError):
    """One attempt took longer than the attempt timeout, and was cut off.

    Its ``classification`` says whether the request may be repeated (``idempotent``), if the attempt showed that.

    Examples:
        >>> import asyncio
        >>> policy = Policy("supplier", attempt_timeout=0.01)
        >>> try:
        ...     asyncio.run(policy.execute(asyncio.sleep, 60))
        ... except AttemptTimeoutError as error:
        ...     print(error)
        no result within the attempt timeout of 0.01 s
    """

    classification = Classification(
        ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.ATTEMPT_TIMEOUT, BreakerEffect.FAILURE
    )

    def __init__(self, timeout: float) -> None:
        """``timeout`` is the limit in seconds."""
        super().__init__(timeout)
        self.timeout = timeout
        """Seconds."""

    def __str__(self) -> str:
        return f"no result within the attempt timeout of {self.timeout:g} s"


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The total deadline of the call, or of a call around it, has passed.

    It is a ``TimeoutError`` too, and never retried.

    Examples:
        >>> import asyncio
        >>> policy = Policy("supplier", deadline=0.01)
        >>> try:
        ...     asyncio.run(policy.execute(asyncio.sleep, 60))
        ... except DeadlineExceededError as error:
        ...     print(error)
        no result within the deadline of 0.01 s
    """

    idempotent: bool | None = None
    """Whether the request that was cut off may be repeated, by its method or idempotency key; ``None``: unknown."""
    cut: bool = True
    """Whether a running attempt was cut off; ``False``: the next one was not started."""

    def __init__(self, deadline: float) -> None:
        """``deadline`` is the limit in seconds."""
        super().__init__(deadline)
        self.deadline = deadline
        """Seconds."""

    def __str__(self) -> str:
        return f"no result within the deadline of {self.deadline:g} s"

    @property
    def classification(self) -> Classification:
        """Never retried. A failure of the dependency if an attempt was cut off; unsent if none was made."""
        return Classification(
            ErrorClass.TRANSIENT,
            Severity.MEDIUM,
            error_types.DEADLINE_EXCEEDED,
            BreakerEffect.FAILURE if self.cut else BreakerEffect.NEUTRAL,
            unsent=not self.cut and not self.attempts,
            max_retries=0,
            idempotent=self.idempotent,
        )


class AttemptThreadsExhaustedError(ResilienceError):
    """An attempt was refused because all threads for ``def`` attempts with an ``attempt_timeout`` are in use: each runs
    an abandoned attempt that has not returned yet, or none became free in time.

    Examples:
        >>> error = AttemptThreadsExhaustedError("supplier", limit=40)
        >>> print(error)
        all 40 threads for attempts to supplier are in use
        >>> error.classification.error_type
        'pool_exhausted'
    """

    def __init__(self, dependency: str, limit: int) -> None:
        super().__init__(dependency, limit)
        self.dependency = dependency
        """The dependency that was called."""
        self.limit = limit
        """Maximum threads of the policy."""

    def __str__(self) -> str:
        return f"all {self.limit} threads for attempts to {self.dependency} are in use"

    @property
    def classification(self) -> Classification:
        """A local resource is exhausted, which says nothing about the dependency."""
        return Classification(ErrorClass.LOCAL, Severity.HIGH, error_types.POOL_EXHAUSTED, unsent=not self.attempts)


class FailedResultError(ResilienceError):
    """An attempt returned a value that ``retry_result`` judged a failure.

    Passed to a fallback, to hooks and to telemetry, but never to callers: if no attempt succeeds, they get the last
    result. Its message does not show the result, which may contain anything.

    Examples:
        >>> def last_known(error):
        ...     return f"from the cache, since {error.result} is wrong"
        >>> policy = Policy("supplier", retry_result=lambda answer: answer == "garbage", fallback=last_known)
        >>> policy.execute(lambda: "garbage")
        'from the cache, since garbage is wrong'
    """

    def __init__(self, result: object, classification: Classification) -> None:
        super().__init__(classification.error_type)
        self.result = result
        """What the operation returned."""
        self.classification = classification
        """By the HTTP status and the ``Retry-After`` of the result, if it has them."""
        self.pending = True
        """The call that judged the result has not ended yet."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def __str__(self) -> str:
        return f"the result was judged a failure: {self.classification.error_type}"

    @property
    def request(self) -> object:
        """The request that the result, a response, answered; ``None`` if it shows none."""
        shown = attribute(self.result, "request")
        return attribute(self.result, "request_info") if shown is None else shown

    @property
    def history(self) -> object:
        """The redirect responses before the result, if it shows them."""
        return attribute(self.result, "history")


@dataclasses.dataclass(slots=True)
class ErrorContext:
    """What a protected call knows about the error it raised.

    Examples:
        >>> def fetch():
        ...     raise ConnectionResetError
        >>> try:
        ...     RetryService("supplier").execute_with_retry(fetch, name="list plans")
        ... except ConnectionResetError as error:
        ...     context = error_context(error)
        >>> context.dependency, context.operation, context.attempts, context.exhausted
        ('supplier', 'list plans', 3, True)
    """

    correlation_id: str
    dependency: str | None = None
    operation: str | None = None
    attempts: int = 0
    """Attempts that were sent."""
    elapsed: float = 0.0
    """Seconds from the first attempt to the end of the call, waits included."""
    retry_after: float | None = None
    """Seconds that the dependency asked us to wait."""
    exhausted: bool = False
    """All attempts were used up: an outer layer of retries leaves it alone."""
    unsent: bool = False
    """It is certain that no attempt of the call sent anything."""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Details added with :func:`enrich`."""
    note: str = ""
    """The text that was added to the exception's notes."""


def error_context(exception: BaseException) -> ErrorContext | None:
    """The context attached to ``exception``, or ``None``. Raises ``TypeError`` if it is not an exception.

    Examples:
        >>> error_context(ValueError()) is None
        True
        >>> error_context(enrich(ValueError(), plan="small")).details
        {'plan': 'small'}
    """
    if not is_a(exception, BaseException):
        raise TypeError(f"exception must be an exception, not {exception!r}")
    found = attached_context(exception)
    if found is None and is_a(exception, CircuitOpenError) and len(exception.args) == 2:
        found = _context_of_rejection(exception)
    return found


def _context_of_rejection(rejection: CircuitOpenError) -> ErrorContext:
    """The context of a rejection by an open circuit, to which nothing was attached because that must be fast."""
    from otel_resilience.correlation import correlation_id  # imported late: only needed if something failed

    context = ErrorContext(
        correlation_id=correlation_id(),
        dependency=rejection.dependency,
        attempts=rejection.attempts,
        retry_after=rejection.retry_after,
        unsent=not rejection.attempts,
    )
    set_own(rejection, CONTEXT_ATTRIBUTE, context)
    return context


def attached_context(exception: BaseException) -> ErrorContext | None:
    """The context that :func:`attach_context` attached."""
    found = own(exception, CONTEXT_ATTRIBUTE)
    return found if is_a(found, ErrorContext) else None


def attach_context(exception: BaseException, context: ErrorContext) -> None:
    """Attaches ``context`` and its note, replacing those of an earlier call that raised the same object.

    If ``__notes__`` is not a list, which Python would not show either, it is left as it is.
    """
    previous = attached_context(exception)
    set_own(exception, CONTEXT_ATTRIBUTE, context)
    notes = _notes_of(exception)
    if notes is None:
        return
    kept = [note for note in notes if previous is None or type(note) is not str or note != previous.note]
    if context.note:
        kept.append(context.note)
    if kept or notes:
        set_own(exception, _NOTES, kept)


def _notes_of(exception: BaseException) -> list[Any] | None:
    """The notes, empty if there are none; ``None`` if ``__notes__`` was set to something else."""
    notes = own(exception, _NOTES)
    if notes is None:
        notes = attribute(exception, _NOTES)  # of the class, or invented by a dynamic ``__getattr__``
        return list(list.__iter__(notes)) if is_a(notes, list) else []
    return list(list.__iter__(notes)) if is_a(notes, list) else None


def enrich(exception: BaseException, **details: Any) -> BaseException:
    """Attaches the correlation ID and ``details`` to an exception, wherever it is caught; returns the exception.

    Existing details are kept: the place nearest to the failure knows best. Raises ``TypeError`` for other objects.

    Examples:
        >>> error = enrich(enrich(ValueError(), plan="small"), plan="any", line=7)
        >>> error_context(error).details
        {'plan': 'small', 'line': 7}
    """
    from otel_resilience.correlation import correlation_id  # only needed if something failed

    context = error_context(exception)
    if context is None:
        context = ErrorContext(correlation_id=correlation_id())
        set_own(exception, CONTEXT_ATTRIBUTE, context)
    for key, value in details.items():
        context.details.setdefault(key, value)
    return exception
