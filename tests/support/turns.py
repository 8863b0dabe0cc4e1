"""How long work blocks the event loop, counted in steps rather than in seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Turns:
    """Counts steps of some work, and the most steps between two turns of the loop."""

    def __init__(self) -> None:
        self.steps = self.longest = 0
        self._since = 0

    def counting(self, function: Callable[..., T]) -> Callable[..., T]:
        """``function``; each of its calls counts as a step."""

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
