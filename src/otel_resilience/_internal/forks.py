"""Locks that survive ``fork``: a child must not inherit a lock that a thread of its parent held."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


def new_lock() -> threading.RLock:
    """A reentrant lock: while a thread holds it, the garbage collector may end a protected call that is no longer
    awaited, or a signal handler may use what the lock guards, in the same thread."""
    return threading.RLock()


class _Locked(Protocol):
    _lock: threading.RLock


_owners: weakref.WeakSet[_Locked] = weakref.WeakSet()


def renew_lock_after_fork(owner: _Locked) -> None:
    """Gives ``owner`` a fresh ``_lock`` in every child process forked from now on."""
    _owners.add(owner)


class ProcessLock:
    """A lock for a whole module: ``with lock: ...``, free in a forked child even if a thread of the parent holds it."""

    def __init__(self) -> None:
        self._lock = new_lock()
        renew_lock_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Renewable(Protocol):
    def renew_after_fork(self) -> None: ...


_renewables: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_after_fork(owner: _Renewable) -> None:
    """Calls ``owner.renew_after_fork()`` in every child process forked from now on: threads do not survive a fork."""
    _renewables.add(owner)


def _renew_all() -> None:
    for owner in list(_owners):
        owner._lock = new_lock()  # noqa: SLF001  # the protocol is this attribute
    for renewable in list(_renewables):
        renewable.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
