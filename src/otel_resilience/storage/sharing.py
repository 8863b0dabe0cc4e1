"""Which members share state through which storages: the first reachable one counts, those behind it keep a copy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.in_use import InUse
from otel_resilience.storage.links import BackgroundLink, DirectLink, Link, Member
from otel_resilience.storage.protocol import Storage

T = TypeVar("T")

WAIT = 0.05
"""Maximum seconds that a call waits for a remote storage."""
STALENESS = 0.25
"""Seconds between two refreshes of what other processes reported."""


class _Sharing(Member, Protocol):
    @property
    def key(self) -> str:
        """The key of its state."""

    def flush(self) -> None:
        """Reports what has not been reported yet."""


class Sharing:
    """The storages, and the participating breakers and budgets of this process; see :class:`SharedState`."""

    def __init__(self, *storages: Storage, wait: float = WAIT, staleness: float = STALENESS, scope: str = "") -> None:
        if not storages:
            raise ValueError("SharedState needs at least one storage")
        for storage in storages:
            if isinstance(storage, type) or not callable(getattr(storage, "breaker", None)):
                raise TypeError(f"SharedState needs storages such as DiskStorage(folder), not {check.shown(storage)}")
        check.instance("scope", scope, str)
        scope = str.__str__(scope)  # an enumeration member gives its value
        wait = check.seconds("wait", wait)
        self.staleness = check.seconds("staleness", staleness)
        self.links: tuple[Link, ...] = tuple(
            BackgroundLink(storage, limit=wait, every=self.staleness) if storage.remote else DirectLink(storage)
            for storage in storages
        )
        self._scope = scope
        self._members: InUse[_Sharing] = InUse()

    @property
    def degraded(self) -> bool:
        """Whether the first storage is unreachable: this process uses a copy, or local state."""
        return self.links[0].degraded

    def key(self, dependency: str) -> str:
        """The key under which the state of ``dependency`` is kept."""
        return f"{dependency}@{self._scope}" if self._scope else dependency

    def ready(self, seconds: float) -> bool:
        """Waits until the first storage was reached and its state is known here. ``False`` if that takes longer.

        Without it the first calls of a process may use a copy, or local state.
        """
        return self.links[0].ready(check.seconds("seconds", seconds))

    def rest(self, every: float) -> None:
        """Until :meth:`wake` this process makes no calls: refresh only every ``every`` seconds.

        An idle process thus queries a remote storage less often. Calls that it makes in the meantime use what it saw
        last. Raises ``ValueError`` if ``every`` is not positive.
        """
        check.seconds("every", every)
        for link in self.links:
            link.refresh_every(max(every, self.staleness))

    def wake(self) -> None:
        """Refresh immediately, and then as often as before :meth:`rest`. Does not wait; see :meth:`ready`."""
        for link in self.links:
            link.refresh_every(self.staleness)

    def pause(self, dependency: str, seconds: float = 0.0) -> float:
        """Records that nothing should start for ``seconds``; a longer pause stays. 0 only reads.

        Returns the remaining seconds of the longest pause that a reachable storage knows of.
        """
        key = self.key(dependency)
        left = [0.0]
        for link in self.links:
            link.call(functools.partial(link.storage.pause, key, seconds), left.append)
        return max(left)

    def join(self, member: _Sharing) -> None:
        """Adds a breaker or a budget."""
        self._members.add(member)
        for link in reversed(self.links):
            link.join(member)

    def changed(self, source: _Sharing, link: Link) -> None:
        """Informs the other breakers of this process that ``source`` got a new state from ``link``."""
        for member in self._members:
            if member is not source and isinstance(member, type(source)) and member.key == source.key:
                link.refresh(member)

    def close(self) -> None:
        """Reports what was not reported yet, and closes connections. Members still in use fall back to local state."""
        for member in self._members:
            member.flush()
        for link in self.links:
            link.close()


def ask(
    links: tuple[Link, ...],
    send: Callable[[Link], T],
    adopt: Callable[[Link, T], bool],
    late: Callable[[Link, T], object] = lambda link, answer: None,
    *,
    tries: int = 1,
) -> tuple[Link, T] | None:
    """Makes a step at the first storage that answers in time with something that can be adopted.

    ``late`` gets the other answers: those that came too late, or that ``adopt`` refused; then the step is sent again,
    up to ``tries`` times.
    """
    for link in links:
        adopted: list[T] = []

        def handle(answer: T, link: Link = link, adopted: list[T] = adopted) -> None:
            fits = False
            try:
                fits = adopt(link, answer)
            finally:
                if fits:
                    adopted.append(answer)
                else:
                    late(link, answer)

        for _ in range(tries):
            answered = link.call(functools.partial(send, link), handle, functools.partial(late, link))
            if adopted:
                return link, adopted[0]
            if not answered:
                break
    return None


def copy_behind(link: Link, links: tuple[Link, ...], send: Callable[[Link], object]) -> None:
    """Keeps the storages behind ``link`` up to date, for when it becomes unreachable."""
    for other in links[links.index(link) + 1 :]:
        other.submit(functools.partial(send, other), lambda _: None)
