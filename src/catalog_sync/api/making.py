"""Costly answers are made in a thread of their own, each once for all who wait for it, and only so many at a time."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

from catalog_sync.api.guards import PerClient
from catalog_sync.api.problems import overloaded, too_many

T = TypeVar("T")

MAX_WAITING: Final = 64
"""Answers that are being made or wait for it."""
MAX_WAITING_PER_CLIENT: Final = 16
"""Of one client, so that the others are not kept waiting by it alone."""

_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Making:
    """What is being made. Belongs to one event loop, which goes on serving meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}
        self._of_client = PerClient()

    async def make(self, key: Hashable, client: str, make: Callable[[], T]) -> T:
        """The result of ``make``, run in the thread, or that of a call with the same ``key`` which is under way.

        Raises a problem: 429 if ``client`` waits for too many, 503 if all clients together do.
        """
        made = self._under_way.get(key)
        if made is None:
            if self._of_client[client] >= MAX_WAITING_PER_CLIENT:
                raise too_many(f"{MAX_WAITING_PER_CLIENT} costly requests of this client are waiting.")
            if len(self._under_way) >= MAX_WAITING:
                raise overloaded()
            context = contextvars.copy_context()
            made = asyncio.get_running_loop().run_in_executor(self._thread, lambda: context.run(make))
            self._under_way[key] = made
            self._of_client[client] += 1
            made.add_done_callback(lambda _: self._end(key, client))
        # Others may wait for it: one that leaves does not end it.
        return cast("T", await asyncio.shield(made))

    def close(self) -> None:
        """Make nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _end(self, key: Hashable, client: str) -> None:
        made = self._under_way.pop(key)
        if not made.cancelled():
            made.exception()  # the client that asked may have disconnected
        self._of_client.leave(client)


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as it is sent. Holds up all other threads: for small ones."""
    return _encoder.encode(document).encode()


def encode_with(head: Mapping[str, Any], name: str, rows: Iterable[bytes]) -> bytes:
    """``head`` with the list ``name`` of encoded ``rows`` behind it; others run between two rows."""
    return with_rows(encode(head)[:-1] + b"," if head else b"{", name, rows)


def with_rows(begun: bytes, name: str, rows: Iterable[bytes]) -> bytes:
    """The same behind an object that was ``begun`` and goes on."""
    return b'%b"%b":[%b]}' % (begun, name.encode(), b",".join(rows))
