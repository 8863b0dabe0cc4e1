"""A lease that is renewed in the background while the work under it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast


class LeaseHeartbeat:
    """``async with LeaseHeartbeat(keep, name=...):`` runs ``keep`` beside the body, and cancels the body on a loss.

    ``keep`` renews the lease until it is cancelled. If it returns an error, the lease is lost: the body is cancelled,
    and the error raised instead of the cancellation, as in ``asyncio.timeout``. ``None``: renewal has ended, and the
    body continues. If the body ends before the cancellation reaches it, its result stands.
    """

    def __init__(self, keep: Callable[[], Awaitable[Exception | None]], *, name: str) -> None:
        self._keep = keep
        self._name = name
        self._loss: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self._renewal = asyncio.create_task(self._renew(), name=self._name)
        return self

    async def _renew(self) -> None:
        try:
            self._loss = await self._keep()
        except Exception as error:  # noqa: BLE001  # whatever ended the renewal, the lease is not safe any more
            self._loss = error
        if self._loss is not None and self._task is not None:
            self._task.cancel(str(self._loss))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        cancelled_by_us = False
        if self._loss is not None and self._task is not None:
            cancelled_by_us = self._task.uncancel() <= self._cancelling
            if not cancelled:
                with contextlib.suppress(asyncio.CancelledError):  # the cancellation that comes too late
                    await asyncio.sleep(0)
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        if cancelled and cancelled_by_us and self._loss is not None:
            raise self._loss from error
