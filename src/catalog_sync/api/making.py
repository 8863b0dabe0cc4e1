"""Expensive responses are made in a separate thread, once for all who wait for it, a limited number at a time."""

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
"""Responses that are being made or wait for it."""
MAX_WAITING_PER_CLIENT: Final = 16
"""The same for one client, so that it cannot keep all others waiting."""

_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Making:
    """The responses being made. Belongs to one event loop, which continues to serve meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}
        self._of_client = PerClient()

    async def make(self, key: Hashable, client: str, make: Callable[[], T]) -> T:
        """The result of ``make``, run in the thread, or that of a running call with the same ``key``.

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
        # Others may wait for it too: one that leaves does not end it.
        return cast("T", await asyncio.shield(made))

    def close(self) -> None:
        """Stops making responses."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _end(self, key: Hashable, client: str) -> None:
        made = self._under_way.pop(key)
        if not made.cancelled():
            made.exception()  # the client that asked may have disconnected
        self._of_client.leave(client)


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as it is sent. Blocks all other threads, so only for small ones."""
    return _encoder.encode(document).encode()


def encode_with(head: Mapping[str, Any], name: str, rows: Iterable[bytes]) -> bytes:
    """``head`` with the list ``name`` of encoded ``rows`` appended; other threads can run between two rows."""
    return with_rows(encode(head)[:-1] + b"," if head else b"{", name, rows)


def with_rows(begun: bytes, name: str, rows: Iterable[bytes]) -> bytes:
    """The same, appended to an object whose encoding was ``begun`` without the closing brace."""
    return b'%b"%b":[%b]}' % (begun, name.encode(), b",".join(rows))
