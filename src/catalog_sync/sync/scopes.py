"""Whether such a group, country or bundle can exist: checked before a sync, so that a typo is not a failed sync."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.countries import COUNTRIES, country_code
from catalog_sync.domain.errors import CatalogSyncError, NotFoundError, UnknownScopeError
from catalog_sync.domain.groups import GroupNames, same_spelling
from catalog_sync.domain.models import SyncKind, SyncRequest
from catalog_sync.domain.text import printable
from catalog_sync.store.snapshot import SnapshotCorruptError

if TYPE_CHECKING:
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.snapshot import Snapshot, SnapshotFile
    from catalog_sync.supplier.port import Deadline, Supplier

SUGGESTIONS: Final = 3
MAX_LISTED: Final = 12
"""Maximum groups that are listed if none is similar."""

_NO_BUNDLE: Final = UnknownScopeError.default.replace(error_type="bundle_not_found")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class KnownScopes:
    """The groups and countries of the published catalogue."""

    groups: Collection[str]
    countries: Collection[str]


async def known_scopes(store: CatalogStore, snapshot: Snapshot) -> KnownScopes | None:
    """What may be requested; ``None`` if there is no catalogue or it cannot be read, which the sync reports."""
    try:
        meta = await store.current()
        if meta is not None:
            return KnownScopes(tuple(meta.groups), await store.values(meta.version, "countries"))
        file = await snapshot.load()
        return None if file is None else await asyncio.to_thread(_of_snapshot, file)
    except (CatalogSyncError, SnapshotCorruptError, OSError) as error:
        _log.debug("the names in the catalogue cannot be read: %s", type(error).__name__)
        return None


def check_scope(request: SyncRequest, known: KnownScopes | None) -> None:
    """Raises :class:`UnknownScopeError`, with the nearest names, if there is no such group or country.

    Without ``known`` any group is allowed, and any country of :data:`COUNTRIES`. Bundles may be new, so any is allowed.
    """
    check_shape(request)
    scope = request.scope
    if scope is None:
        return
    if request.kind is SyncKind.GROUP and known is not None and GroupNames(known.groups).listed(scope) is None:
        raise unknown_group(scope, known.groups)
    if request.kind is SyncKind.COUNTRY:
        code = country_code(scope)
        if code not in COUNTRIES and (known is None or code not in known.countries):
            raise _unknown_country(scope)


def doubtful(group: str | None, country: str | None, groups: Collection[str]) -> str | None:
    """Why nothing can be found for a group or a country, with the nearest names; ``None`` if it may exist."""
    known = KnownScopes(groups, ())
    try:
        if group is not None:
            check_scope(SyncRequest(SyncKind.GROUP, group), known)
        if country is not None:
            check_scope(SyncRequest(SyncKind.COUNTRY, country), known)
    except UnknownScopeError as error:
        return printable(str(error))
    return None


async def confirm_asked(asked: SyncRequest, listed: Collection[str], supplier: Supplier, deadline: Deadline) -> None:
    """Raises :class:`UnknownScopeError` if the supplier has no such group or bundle.

    For a full sync that is done instead of a partial one: its result would not show that there is no such part.
    ``listed``: the supplier's groups.
    """
    scope = asked.scope
    if scope is None:
        return
    if asked.kind is SyncKind.GROUP and GroupNames(listed).listed(scope) is None:
        raise unknown_group(scope, listed)
    if asked.kind is SyncKind.BUNDLE:
        try:
            await supplier.get_bundle(scope, deadline=deadline)
        except NotFoundError as error:
            raise UnknownScopeError(f"the supplier has no bundle {scope!r}", classification=_NO_BUNDLE) from error


def check_shape(request: SyncRequest) -> None:
    """Raises :class:`UnknownScopeError` if nothing can have such a name: control characters, ``..``, not encodable."""
    scope = request.scope
    if scope is not None and (not scope.strip() or printable(scope) != scope or scope.strip() in {".", ".."}):
        raise UnknownScopeError(f"{printable(repr(scope))} cannot be the name of a {request.kind.value}")


def unknown_group(scope: str, groups: Iterable[str]) -> UnknownScopeError:
    by_spelling = {same_spelling(group): group for group in groups}
    near = [by_spelling[found] for found in nearest(same_spelling(scope), by_spelling)]
    listed = near or list(by_spelling.values())[:MAX_LISTED]
    return UnknownScopeError(
        f"there is no group {scope!r}; {'nearest' if near else 'there are'}: {', '.join(map(repr, listed)) or 'none'}"
    )


def unknown_bundle(scope: str, names: Iterable[str]) -> UnknownScopeError:
    """The error of a bundle that neither the supplier nor the catalogue has."""
    near = nearest(scope, names)
    hint = f"; nearest: {', '.join(map(repr, near))}" if near else ""
    message = f"neither the supplier nor the catalogue has a bundle {scope!r}{hint}"
    return UnknownScopeError(message, classification=_NO_BUNDLE)


def _unknown_country(scope: str) -> UnknownScopeError:
    names: Mapping[str, str] = {name.casefold(): code for code, name in COUNTRIES.items()}
    near = [names[name] for name in nearest(scope.strip().casefold(), names)]
    near += [code for code in nearest(country_code(scope), COUNTRIES) if code not in near]
    hint = ", ".join(f"{code} ({COUNTRIES[code]})" for code in near[:SUGGESTIONS])
    return UnknownScopeError(
        f"{scope!r} is not a country code; " + (f"nearest: {hint}" if hint else "ISO 3166-1 alpha-2 is expected, as PT")
    )


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words most similar to ``word``, at most :data:`SUGGESTIONS`."""
    return difflib.get_close_matches(word[:200], list(known), n=SUGGESTIONS, cutoff=0.6)


def _of_snapshot(file: SnapshotFile) -> KnownScopes:
    countries = {code for bundle in file.bundles() for code in bundle.countries}
    return KnownScopes(tuple(file.meta.groups), countries)
