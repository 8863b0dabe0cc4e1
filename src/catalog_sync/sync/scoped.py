"""Syncs of one group, one country or one bundle: the previous version with that part renewed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from catalog_sync.domain.countries import country_code
from catalog_sync.domain.errors import CatalogueDamagedError, NotFoundError, UnknownScopeError, UnusableGroupsError
from catalog_sync.domain.groups import GroupNames, same_spelling
from catalog_sync.domain.index import Filter
from catalog_sync.domain.models import Bundle, GroupMeta, GroupReport, Outcome
from catalog_sync.store.errors import VersionGoneError
from catalog_sync.supplier.port import Scope
from catalog_sync.sync import guards
from catalog_sync.sync.fetch import discover, fetch_scope
from catalog_sync.sync.run import Candidate, Run
from catalog_sync.sync.scopes import unknown_bundle, unknown_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog_sync.sync.previous import Previous


async def build_group(run: Run, asked: str) -> Candidate:
    """Renews one group; bundles that did not come again are removed from it. Raises ``CatalogSyncError``."""
    groups, failure = await discover(run, run.previous)
    run.builder.names = GroupNames(groups)
    group = run.builder.names.listed(asked)
    if group is None and isinstance(failure, UnusableGroupsError):
        raise failure  # the group may be one of those
    if group is None:
        raise unknown_group(asked, groups)
    previous = await _start_from_previous(run)
    builder, listed = run.builder, run.builder.names.listed
    previous.respell(lambda name: group if listed(name) == group else name)
    spellings = dict.fromkeys((previous.spelling(group), group))
    before = sum(builder.index.group_counts().get(name, 0) for name in spellings)
    for name in spellings:
        builder.start_again(name)
    run.progress.begin([group])
    await fetch_scope(run, Scope(group=group), partial(builder.put, group), partial(builder.start_again, group))
    for name in spellings:
        await builder.settle(name)
    run.progress.group_done(group)
    after = builder.index.group_counts().get(group, 0)
    run.groups[group] = GroupReport(group, "ok", after)
    _check(run, before, after)
    _check_filtered(run, group, before, after)
    return _candidate(run, group)


async def build_country(run: Run, asked: str) -> Candidate:
    """Renews the bundles of one country; those that did not come again are withdrawn. Raises ``CatalogSyncError``."""
    country = country_code(asked)
    await _start_from_previous(run)
    before = set(run.builder.index.match(Filter(country=country)))
    seen: set[str] = set()

    async def put(bundles: Sequence[Bundle]) -> int:
        known = len(seen)
        seen.update(bundle.name for bundle in bundles)
        await run.builder.replace(bundles)
        return len(seen) - known

    run.progress.begin([country])
    await fetch_scope(run, Scope(country=country), put, seen.clear)
    run.progress.group_done(country)
    if not before and not run.rows:
        raise UnknownScopeError(f"neither the supplier nor the catalogue has bundles for the country {country}")
    _check(run, len(before), len(seen))
    await run.builder.remove(sorted(before - seen))
    return _candidate(run)


async def build_bundle(run: Run, name: str) -> Candidate:
    """Renews one bundle, or removes it if the supplier does not have it any more. Raises ``CatalogSyncError``."""
    await _start_from_previous(run)
    try:
        bundle = await run.supplier.get_bundle(name, deadline=run.deadline)
    except NotFoundError as gone:
        if name not in run.builder.index:
            raise unknown_bundle(name, run.builder.index) from gone
        await run.builder.remove([name])
    else:
        await run.builder.replace([bundle])
    return _candidate(run)


async def _start_from_previous(run: Run) -> Previous:
    """Makes the staged version equal to the previous one, or raises: anything left out here would disappear."""
    if run.damage is not None or run.previous is None:
        reason = run.damage or "no catalogue is published"
        raise CatalogueDamagedError(f"{reason}: a part of it cannot be renewed; run a full sync")
    builder = run.builder
    if run.previous.in_store:
        version = run.previous.meta.version
        if await builder.staging.copy_all(version, run.previous.checksums) != run.previous.meta.bundles:
            raise VersionGoneError(f"version {version} lacks bundles", context={"version": version})
        builder.index = await run.previous.index()
    else:
        await builder.copy(run.previous.bundles())
    if not builder.names.all():
        builder.names = GroupNames(run.previous.meta.groups)
    for group, names in builder.index.entries("groups"):
        builder.remember(group, names)
    return run.previous


def _check(run: Run, before: int, after: int) -> None:
    if run.request.force:
        return
    guards.check_bad_rows(run.rows, run.quarantined, run.settings.max_bad_row_ratio)
    guards.check_drop(before, after + run.unusable, run.settings.max_drop_ratio)


def _check_filtered(run: Run, group: str, before: int, after: int) -> None:
    """A supplier that ignores the requested group would put every bundle into this one."""
    known = None if run.previous is None else run.previous.meta
    if run.request.force or known is None or group not in run.builder.unconfirmed:
        return
    own = same_spelling(group)
    others = any(meta.bundles for name, meta in known.groups.items() if same_spelling(name) != own)
    if others and before < known.bundles and after == len(run.builder.index):
        guards.check_filtered([group], after)


def _candidate(run: Run, renewed: str | None = None) -> Candidate:
    known = run.previous.meta.groups if run.previous is not None else {}
    groups: dict[str, GroupMeta] = {}
    counts = run.builder.index.group_counts()
    for group in dict.fromkeys((*known, *counts)):
        old = known.get(group)
        bundles = counts.get(group, 0)
        if old is None or group == renewed:
            groups[group] = GroupMeta(bundles, run.as_of, stale=False)
        else:
            groups[group] = GroupMeta(bundles, old.as_of, old.stale)
    fresh = [group.as_of for group in groups.values() if not group.stale]
    as_of = min(fresh, default=run.as_of)
    return Candidate(Outcome.COMPLETE, groups, as_of)
