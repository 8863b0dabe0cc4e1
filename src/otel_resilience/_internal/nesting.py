"""How a call finds the calls around it: by the context it runs in, never by clocks or by exception objects.

The calls around the running code form a chain, the innermost first. A call reads from it how much time is left, and
reports its own outcome to it.
"""

from __future__ import annotations

import os
from collections import deque
from contextvars import ContextVar, Token
from typing import NamedTuple

from otel_resilience._internal.foreign import members_of, reason_of

_LONGEST_CHAIN = 1000
"""Maximum exceptions examined below one error, and failures of enclosed calls kept for that."""


class Failure(NamedTuple):
    """How an enclosed call ended."""

    error: BaseException
    exhausted: bool
    """It used up all its attempts."""
    idempotent: bool | None
    """Whether it may be repeated, as declared or observed; ``None`` if unknown."""
    sent: bool
    """Whether any of its attempts may have sent something."""


class Enclosing:
    """A scope around the running code.

    One is made for every call, so attributes that few calls need default on the class. Those that every call sets do
    not: setting an attribute that the class also has is slower.
    """

    outer: Enclosing | None
    attempts: int
    """Attempts started so far, the running one included."""
    seconds = 0.0
    """The whole time budget."""
    cuts = False
    """Whether the enclosed code is cancelled when the time is up, so that it need not watch the time itself."""
    heard = False
    """An enclosed call has reported something; only then do the next three fields mean anything."""
    failures: deque[Failure] | None = None
    sent_inside = False
    """Whether an enclosed call may have sent something, however it ended."""
    unsafe_inside = False
    """Whether one of them may have sent something that must not be repeated."""
    over = False
    """Its block has ended. A generator that contained the block may have left it in the context of its consumer."""

    def left(self) -> float | None:
        """Seconds until nothing more may start here; ``None`` without a limit."""
        return None

    def report(self, failure: Failure) -> None:
        """An enclosed call failed. Safe for threads."""
        if self.failures is None:
            self.failures = deque(maxlen=_LONGEST_CHAIN)
        self.failures.append(failure)
        self.heard = True
        if failure.sent:
            self.note_sent(unsafe=failure.idempotent is False)

    def note_sent(self, *, unsafe: bool) -> None:
        """An enclosed call may have sent something; ``unsafe``: something that must not be repeated. Thread-safe."""
        self.sent_inside = True
        if unsafe:
            self.unsafe_inside = True
        self.heard = True

    def note_on_wire(self) -> None:
        """The request of the running attempt has just been sent."""

    def time_is_up(self) -> None:
        """A limit of the client for all attempts together has passed: none follows the one that runs."""


enclosing: ContextVar[Enclosing | None] = ContextVar("otel_resilience_enclosing", default=None)
_reset = enclosing.reset

if hasattr(os, "register_at_fork"):
    # A pool forks its workers at the first use, perhaps within a call, whose deadline would be theirs for ever.
    os.register_at_fork(after_in_child=lambda: enclosing.set(None))


def leave(token: Token[Enclosing | None]) -> bool:
    """Undoes a ``set`` of :data:`enclosing`. ``False``, and no effect, in a context other than the one in which it was
    set: that of a coroutine or an async generator that is closed elsewhere."""
    try:
        _reset(token)
    except ValueError:
        return False
    return True


def not_over(inner: Enclosing | None) -> Enclosing | None:
    """The innermost scope of the chain ``inner`` that still encloses the running code."""
    while inner is not None and inner.over:
        inner = inner.outer
    return inner


def nearest_deadline(inner: Enclosing | None) -> tuple[float, Enclosing] | None:
    """The least time left in the chain ``inner``, in seconds, and the scope that limits it."""
    nearest: tuple[float, Enclosing] | None = None
    while inner is not None:
        left = None if inner.over else inner.left()
        if left is not None and (nearest is None or left < nearest[0]):
            nearest = left, inner
        inner = inner.outer
    return nearest


def remaining() -> float | None:
    """Seconds left until the nearest deadline of the protected calls around this one; ``None`` without one.

    0.0 once the deadline has passed, and in an attempt that was given up because its ``attempt_timeout`` passed: no
    protected call starts any more. It applies to everything that starts with a copy of the context (tasks,
    ``asyncio.to_thread``); start work that should outlive the call in its own context.

    Examples:
        >>> remaining() is None
        True
        >>> Policy("supplier", deadline=30).execute(lambda: 29 < remaining() <= 30)
        True
    """
    nearest = nearest_deadline(enclosing.get())
    return None if nearest is None else max(0.0, nearest[0])


def current_attempt() -> int:
    """The number of the attempt that is running, from 1; 1 outside a protected call as well.

    Examples:
        >>> def fetch():
        ...     if current_attempt() == 1:
        ...         raise ConnectionResetError
        ...     return current_attempt()
        >>> Policy("supplier", retry=RetryConfig()).execute(fetch)
        2
    """
    inner = not_over(enclosing.get())
    return 1 if inner is None else inner.attempts


def chain(error: BaseException) -> tuple[BaseException, ...]:
    """``error``, what it was raised from or while handling, and the members of groups; each once, nearest first."""
    reason = reason_of(error)
    if reason is None and not issubclass(type(error), BaseExceptionGroup):
        return (error,)
    found: dict[int, BaseException] = {}
    pending = [error]
    for each in pending:  # which grows while it is iterated
        if id(each) in found:
            continue
        if len(found) >= _LONGEST_CHAIN:
            break
        found[id(each)] = each
        if issubclass(type(each), BaseExceptionGroup):
            pending.extend(members_of(each))  # type: ignore[arg-type]  # it is one
        reason = reason_of(each)
        if reason is not None:
            pending.append(reason)
    return tuple(found.values())
