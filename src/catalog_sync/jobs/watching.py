"""Notifies watchers of changes without waiting for any of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, Self

from catalog_sync.jobs.port import Job

MAX_WAITING: Final = 256
"""Maximum jobs that wait for one slow watcher; the oldest are dropped first."""


class Watcher:
    """The latest state of every job that changed since the last read: an asynchronous iterator that skips states.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, job: Job) -> None:
        """Records a change; an older one of the same job that was not read yet is dropped."""
        self._waiting.pop(job.id, None)
        self._waiting[job.id] = job
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
        self._changed.set()

    def close(self) -> None:
        """No more changes will come: waiting ones are still returned, then the iteration ends."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popitem(last=False)[1]


class Watchers:
    """All watchers."""

    def __init__(self) -> None:
        self._all: set[Watcher] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    def add(self) -> Watcher:
        """A new watcher; :meth:`remove` it at the end."""
        watcher = Watcher()
        if self._closed:
            watcher.close()
        self._all.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        self._all.discard(watcher)

    def notify(self, job: Job) -> None:
        """Passes the change to all of them."""
        for watcher in self._all:
            watcher.put(job)

    def close(self) -> None:
        """Closes all of them, and those added later."""
        self._closed = True
        for watcher in self._all:
            watcher.close()
