"""Fetches one scope page by page: validated, staged, counted, forgotten."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import CatalogSyncError, CatalogueChangedError, InvalidDataError, UnusableGroupsError
from catalog_sync.domain.models import Bundle
from catalog_sync.supplier.port import SCHEMA_MISMATCH
from catalog_sync.sync.run import FATAL, Fetch, Tally

if TYPE_CHECKING:
    from catalog_sync.supplier.port import Scope
    from catalog_sync.sync.previous import Previous

MAX_RESTARTS: Final = 3
"""How often a scope is fetched again because the catalogue changed meanwhile."""

Put = Callable[[Sequence[Bundle]], Awaitable[int]]
"""Takes the valid bundles of a page; returns how many of them are new in this pass."""

_log = logging.getLogger(__name__)


async def fetch_scope(run: Fetch, scope: Scope, put: Put, start_again: Callable[[], None]) -> Tally:
    """Fetches all pages of ``scope``, again from the start if the catalogue changed meanwhile, at most three times."""
    restarts = 0
    while True:
        try:
            return await _one_pass(run, scope, put)
        except CatalogueChangedError as error:
            if restarts == MAX_RESTARTS:
                raise
            restarts += 1
            _log.info("%s is fetched again: %s", scope, error)
            start_again()


async def _one_pass(run: Fetch, scope: Scope, put: Put) -> Tally:
    tally = run.tallies[str(scope)] = Tally()
    set_aside: set[str] = set()
    usable = listed_again = 0
    claimed: int | None = None
    async with contextlib.aclosing(run.supplier.iter_pages(scope, deadline=run.deadline)) as pages:
        async for page in pages:
            claimed = page.rows
            usable += len(page.bundles)
            tally.rows += len(page.bundles) + len(page.rejected)
            fresh = await put(page.bundles)
            tally.unique += fresh
            if fresh < len(page.bundles):
                # The very same row twice on one page: no page moved meanwhile, and nothing is missing in its place.
                listed_again += len(page.bundles) - len(set(page.bundles))
            for row in page.rejected:
                tally.rejected.append(row)
                if row.name is None or row.name not in set_aside:
                    tally.unique += 1
                if row.name is not None:
                    set_aside.add(row.name)
            run.progress.page(str(scope), page.number, page.page_count, usable)
    if claimed is not None and tally.unique + listed_again != claimed:
        raise CatalogueChangedError(
            f"{tally.unique} different bundles came, the supplier claims {claimed}",
            context={"unique": tally.unique, "claimed": claimed},
        )
    if tally.rows and not usable:
        raise InvalidDataError(
            f"none of the {tally.rows} rows can be used: the supplier changed its format",
            classification=SCHEMA_MISMATCH,
            context={"rows": tally.rows, "reason": tally.rejected[0].reason.value},
        )
    return tally


async def discover(run: Fetch, previous: Previous | None) -> tuple[list[str], CatalogSyncError | None]:
    """The groups to fetch, and an error if they are not simply those that the supplier lists.

    If the list is unavailable they are those of the previous version; its error is raised if there is no previous
    version, or if it always ends the run. If some entries of the list are unusable they are the others.
    """
    try:
        return await run.supplier.list_groups(deadline=run.deadline), None
    except FATAL:
        raise
    except UnusableGroupsError as error:
        _log.warning("%s", error)
        return list(error.usable), error
    except CatalogSyncError as error:
        if previous is None or not previous.meta.groups:
            raise
        _log.warning("the group list of version %s is used: %s", previous.meta.version, error)
        return list(previous.meta.groups), error
