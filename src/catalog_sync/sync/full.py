"""The full sync: all groups concurrently; failed ones keep their last good data."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from catalog_sync.domain.errors import CatalogSyncError, SupplierUnavailableError, UnusableGroupsError
from catalog_sync.domain.groups import GroupNames, same_spelling
from catalog_sync.domain.models import GroupMeta, GroupReport, Outcome
from catalog_sync.observability import instruments
from catalog_sync.supplier.port import Scope
from catalog_sync.sync import guards
from catalog_sync.sync.fetch import discover, fetch_scope
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.run import FATAL, Candidate, Run
from catalog_sync.sync.scopes import confirm_asked

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = logging.getLogger(__name__)


async def build_full(run: Run) -> Candidate:
    """Stages the whole catalogue. Raises ``CatalogSyncError`` if nothing may be published."""
    listed, discovery_failure = await discover(run, run.previous)
    if discovery_failure is None:
        await confirm_asked(run.asked, listed, run.supplier, run.deadline)
    failures = _behind_unusable_names(run, listed, discovery_failure)
    groups = [*listed, *failures]
    run.builder.names = GroupNames(groups)
    if run.previous is not None:
        run.previous.respell(run.builder.names.spelled)
    run.progress.begin(groups)
    async with asyncio.TaskGroup() as tasks:
        for group in listed:
            tasks.create_task(_fetch_group(run, group, failures))
    if len(failures) == len(groups):
        known = run.previous.meta.groups if run.previous else {}
        run.groups.update((group, _report(group, known.get(group), failures[group])) for group in groups)
        raise _decisive(failures.values())
    kept = {group: as_of for group in failures if (as_of := await _keep_last_good(run, group)) is not None}
    counts = run.builder.index.group_counts()
    metas: dict[str, GroupMeta] = {}
    for group in groups:
        failure = failures.get(group)
        if failure is None or group in kept:
            metas[group] = GroupMeta(counts.get(group, 0), kept.get(group, run.as_of), stale=group in kept)
        run.groups[group] = _report(group, metas.get(group), failure)
    _check(run, metas, discovered=discovery_failure is None or isinstance(discovery_failure, UnusableGroupsError))
    partial_outcome = bool(failures) or discovery_failure is not None
    return Candidate(
        Outcome.PARTIAL if partial_outcome else Outcome.COMPLETE,
        metas,
        run.as_of,
        None if discovery_failure is None else error_info(discovery_failure),
    )


def _behind_unusable_names(
    run: Run, listed: list[str], failure: CatalogSyncError | None
) -> dict[str, CatalogSyncError]:
    """The groups of the previous version whose names may be the unusable ones: each counts as failed."""
    if not isinstance(failure, UnusableGroupsError) or run.previous is None:
        return {}
    names = GroupNames(listed)
    return {group: failure for group in run.previous.meta.groups if names.listed(group) is None}


async def _fetch_group(run: Run, group: str, failures: dict[str, CatalogSyncError]) -> None:
    builder = run.builder
    try:
        with contextlib.nullcontext() if run.replayed else instruments.group_span(group):
            await fetch_scope(run, Scope(group=group), partial(builder.put, group), partial(builder.start_again, group))
            await builder.settle(group)
    except FATAL:
        raise
    except CatalogSyncError as error:
        failures[group] = error
        _log.warning("group %r failed: %s", group, error)
        await builder.abandon(group)
    run.progress.group_done(group, failed=group in failures)


async def _keep_last_good(run: Run, group: str) -> str | None:
    """Carries the group over from the previous version. Returns the age of its data, ``None`` if it has none."""
    previous = run.previous
    known = None if previous is None else previous.kept(group)
    if previous is None or known is None:
        return None
    await run.builder.carry_over(group, previous.in_group(group))
    return known.as_of


def _report(group: str, meta: GroupMeta | None, failure: CatalogSyncError | None) -> GroupReport:
    if failure is None:
        return GroupReport(group, "ok", meta.bundles if meta else 0)
    return GroupReport(group, "stale" if meta else "failed", meta.bundles if meta else 0, error_info(failure))


def _decisive(failures: Iterable[CatalogSyncError]) -> CatalogSyncError:
    """The most severe one. A rejection by an open circuit does not count if another error shows why it opened."""
    causes = [error for error in failures if not isinstance(error, SupplierUnavailableError)]
    return max(causes or failures, key=lambda error: error.severity)


def _check(run: Run, metas: dict[str, GroupMeta], *, discovered: bool) -> None:
    if run.request.force:
        return
    limits = run.settings
    total = len(run.builder.index)
    # A group that failed publishes none of its rows: its own report is that it failed.
    used = [run.tallies[name] for name, group in run.groups.items() if group.status == "ok"]
    guards.check_bad_rows(
        sum(tally.rows for tally in used), sum(len(tally.rejected) for tally in used), limits.max_bad_row_ratio
    )
    _check_filtered(run)
    if run.previous is not None:
        before = {name: group.bundles for name, group in run.previous.meta.groups.items()}
        if discovered:
            guards.check_groups(before, {name: group.bundles for name, group in metas.items()})
        guards.check_drop(run.previous.meta.bundles, total + run.unusable, limits.max_drop_ratio)
    elif run.damage is not None:
        guards.check_all_fetched(run.damage, [name for name, report in run.groups.items() if report.status != "ok"])
        _log.warning("nothing to compare the new catalogue with: %s", run.damage)
    guards.check_not_empty(total)


def _check_filtered(run: Run) -> None:
    """A supplier that ignores the requested group would put every bundle into every group."""
    fetched = [name for name, group in run.groups.items() if group.status == "ok"]
    builder = run.builder
    if len(set(map(same_spelling, fetched))) < 2 or builder.unconfirmed.isdisjoint(fetched):
        return
    if not builder.membership.same_in(fetched):
        return
    bundles = sum(1 for _ in builder.membership.names(fetched[0]))
    if run.previous is None or {each.bundles for each in run.previous.meta.groups.values()} == {bundles}:
        # It may be true: nothing published so far contradicts it.
        _log.warning("the supplier sends the same %d bundles for every group", bundles)
        return
    guards.check_filtered(fetched, bundles)
