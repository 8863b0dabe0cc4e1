"""Follows pages to the end: a limited window of concurrent requests, and checks that the pages fit together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import CatalogSyncError, CatalogueChangedError, InvalidDataError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from catalog_sync.supplier.port import Page

_NO_SUCH_PAGE: Final = frozenset({400, 404, 410, 416, 422})
"""Statuses for a page beyond the last."""


class PageSequence:
    """Pure: accepts the pages of one scope in order and rejects those that contradict the first.

    ``max_pages`` limits how many are followed; a longer catalogue is an error, never a shorter result.
    """

    def __init__(self, first: Page, max_pages: int) -> None:
        self._first = first
        self._max_pages = max_pages
        self._rows = 0
        self._seen: dict[int, int] = {}
        if first.page_count is not None and first.page_count > max_pages:
            raise self._too_long(first.page_count)
        self.accept(first)

    def accept(self, page: Page) -> None:
        """Raises ``CatalogueChangedError`` if the totals changed or a page repeats an earlier one."""
        if (page.page_count, page.rows) != (self._first.page_count, self._first.rows):
            raise CatalogueChangedError(
                f"the catalogue changed while it was paged: page {page.number} reports {page.rows} rows on "
                f"{page.page_count} pages, the first one of {self._first.rows} on {self._first.page_count}",
                context={"page": page.number, "rows": page.rows, "page_count": page.page_count},
            )
        if page.number > self._max_pages:
            raise self._too_long(page.number)
        names = (*(bundle.name for bundle in page.bundles), *(row.name for row in page.rejected))
        self._rows += len(names)
        if any(name is not None for name in names):
            earlier = self._seen.setdefault(hash(names), page.number)
            if earlier != page.number:
                raise CatalogueChangedError(
                    f"page {page.number} repeats page {earlier}", context={"page": page.number, "repeats": earlier}
                )

    def finish(self) -> None:
        """Raises ``CatalogueChangedError`` if the pages have more or fewer rows than the supplier claims."""
        claimed = self._first.rows
        if claimed is not None and claimed != self._rows:
            raise CatalogueChangedError(
                f"the pages hold {self._rows} rows, the supplier claims {claimed}",
                context={"rows": self._rows, "claimed": claimed},
            )

    def _too_long(self, pages: int) -> InvalidDataError:
        return InvalidDataError(
            f"{pages} pages are more than the limit of {self._max_pages}; nothing is cut off",
            context={"pages": pages, "max_pages": self._max_pages},
        )


async def follow_pages(
    first: Page,
    fetch: Callable[[int], Awaitable[Page]],
    *,
    page_size: int,
    window: int,
    max_pages: int,
) -> AsyncGenerator[Page, None]:
    """Yields ``first`` and all pages after it in order, with at most ``window`` concurrent requests.

    If the supplier does not say how many pages there are, a page counts as full if it has as many rows as the first:
    the supplier may send fewer than ``page_size``, the requested number.
    """
    sequence = PageSequence(first, max_pages)
    yield first
    if first.page_count is None:
        page, full = first, first.size
        while full and page.size == full:
            follower = await _after(page, fetch, certain=full == page_size)
            if follower is None:
                break
            page = follower
            sequence.accept(page)
            yield page
        sequence.finish()
        return
    under_way: deque[asyncio.Task[Page]] = deque()
    upcoming = iter(range(2, first.page_count + 1))
    try:
        while True:
            while len(under_way) < window and (number := next(upcoming, None)) is not None:
                under_way.append(asyncio.create_task(_page(fetch, number)))
            if not under_way:
                break
            page = await under_way[0]
            under_way.popleft()
            sequence.accept(page)
            yield page
        sequence.finish()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _after(page: Page, fetch: Callable[[int], Awaitable[Page]], *, certain: bool) -> Page | None:
    """The page after ``page``. Unless it is ``certain``, there may be none: then the supplier has nothing under that
    number, or the same page again."""
    try:
        follower = await fetch(page.number + 1)
    except CatalogSyncError as error:
        if certain or error.context.get("status") not in _NO_SUCH_PAGE:
            raise
        return None
    same = not certain and [*follower.bundles, *follower.rejected] == [*page.bundles, *page.rejected]
    return None if same else follower


async def _page(fetch: Callable[[int], Awaitable[Page]], number: int) -> Page:
    return await fetch(number)
