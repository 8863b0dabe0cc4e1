"""How many bundles to request per page, if the supplier refuses a size or sends fewer than requested. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from catalog_sync.domain.errors import CatalogSyncError
    from catalog_sync.supplier.port import Page

PAGE_SIZES: Final = (50, 25, 10)
"""Tried in turn if the supplier refuses a page size; the first is the largest documented one."""

_REFUSALS: Final = frozenset({400, 401, 403, 413, 416, 422})
"""Statuses that may mean that a page is too large, whatever the response says."""


def smaller_than(size: int) -> int | None:
    """The size to try after ``size`` was refused; ``None``: there is none left."""
    return next((step for step in PAGE_SIZES if step < size), None)


def may_be_refused(error: CatalogSyncError) -> bool:
    """Whether a smaller page may help."""
    return error.context.get("status") in _REFUSALS


def is_refused(error: CatalogSyncError, size: int) -> bool:
    """Whether the response is about ``size``: it says so, or the size is above the documented one."""
    response = getattr(error.__cause__, "response", None)
    return size > PAGE_SIZES[0] or (isinstance(response, httpx.Response) and b"perpage" in response.content.lower())


def cut_to(first: Page, asked: int) -> int | None:
    """The size to use instead of ``asked`` if the first page has fewer rows and its counts ignore that.

    A supplier that sends fewer rows than requested, yet numbers the pages as if it had sent all, would lose the
    difference on every page. ``None``: the counts fit, or there are none.
    """
    sent = first.size
    if not 0 < sent < asked or first.page_count is None:
        return None
    if first.rows is None:
        return sent if first.page_count > 1 else None
    return sent if first.page_count < -(-first.rows // sent) else None
