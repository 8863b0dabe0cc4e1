"""Who shares state through which storages: the first reachable one counts, those behind it keep a copy."""

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
"""Seconds that a call waits for a remote storage at most (row F45 of common fault matrices: never more than 50 ms)."""
STALENESS = 0.25
"""Seconds between two refreshes of what other processes reported."""


class _Sharing(Member, Protocol):
    @property
    def key(self) -> str:
        """Where its state is kept."""

    def flush(self) -> None:
        """Reports what has not been reported yet."""


class Sharing:
    """The storages, and the breakers and budgets of this process that take part; see :class:`SharedState`."""

    def __init__(self, *storages: Storage, wait: float = WAIT, staleness: float = STALENESS, scope: str = "") -> None:
        if not storages:
            raise ValueError("SharedState needs at least one storage")
        for storage in storages:
            if isinstance(storage, type) or not callable(getattr(storage, "breaker", None)):
                raise TypeError(f"SharedState needs storages such as DiskStorage(folder), not {check.shown(storage)}")
        check.instance("scope", scope, str)
        scope = str.__str__(scope)  # of a member of an enumeration its value
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
        """Waits until the first storage has been reached and its state is known here. ``False`` where it takes longer.

        Without it the first calls of a process may use a copy, or local state.
        """
        return self.links[0].ready(check.seconds("seconds", seconds))

    def rest(self, every: float) -> None:
        """Until :meth:`wake` this process calls nothing: look every ``every`` seconds at what others report.

        A process that waits for work asks a remote storage less often so. What it starts in the meantime goes by what
        it saw last. Raises ``ValueError`` where ``every`` is not positive.
        """
        check.seconds("every", every)
        for link in self.links:
            link.refresh_every(max(every, self.staleness))

    def wake(self) -> None:
        """Look at once, and then as often as before :meth:`rest`. Does not wait; see :meth:`ready`."""
        for link in self.links:
            link.refresh_every(self.staleness)

    def pause(self, dependency: str, seconds: float = 0.0) -> float:
        """Records that nothing is to be started for ``seconds``; a longer pause stays. 0 only reads.

        Returns what is left of the longest pause that a reachable storage knows, in seconds.
        """
        key = self.key(dependency)
        left = [0.0]
        for link in self.links:
            link.call(functools.partial(link.storage.pause, key, seconds), left.append)
        return max(left)

    def join(self, member: _Sharing) -> None:
        """A breaker or a budget takes part from now on."""
        self._members.add(member)
        for link in reversed(self.links):
            link.join(member)

    def changed(self, source: _Sharing, link: Link) -> None:
        """Informs the other breakers of this process that ``source`` has a new state from ``link``."""
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
    """Makes a step at the first storage that answers in time with what is adopted.

    ``late`` gets what is not: an answer that came too late, or that ``adopt`` refused; then it is sent again, as often
    as ``tries`` says.
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
    """Keeps the storages behind ``link`` up to date: they are used once it is unreachable."""
    for other in links[links.index(link) + 1 :]:
        other.submit(functools.partial(send, other), lambda _: None)
