"""How long work on the event loop goes on without a break, in what it does and not in seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Turns:
    """Counts steps of some work, and how many of them were done between two turns of the loop at most."""

    def __init__(self) -> None:
        self.steps = self.longest = 0
        self._since = 0

    def counting(self, function: Callable[..., T]) -> Callable[..., T]:
        """``function``, of which each call is a step."""

        def counted(*arguments: Any, **options: Any) -> T:
            self.steps += 1
            self._since += 1
            self.longest = max(self.longest, self._since)
            return function(*arguments, **options)

        return counted

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Within the block another task is always ready to run."""

        async def run() -> None:
            while True:
                self._since = 0
                await asyncio.sleep(0)

        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
