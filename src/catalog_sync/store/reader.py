"""Reading the catalogue: the published version, else this process's last good answer, else the snapshot.

Every answer says where it comes from and how old it is. If nothing can be read there is an error, never an empty list.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

from catalog_sync.domain.errors import BundleNotFoundError, CatalogSyncError, CatalogUnavailableError, permanent
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.index import Filter, profile_of
from catalog_sync.domain.json_form import JsonForm
from catalog_sync.domain.models import Bundle, CatalogueMeta, Source
from catalog_sync.observability import instruments
from catalog_sync.store.errors import CorruptEntryError, VersionGoneError
from catalog_sync.store.snapshot import SnapshotCorruptError, SnapshotFile
from otel_resilience import classify

T = TypeVar("T")

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 50
REMEMBERED_ANSWERS = 256
"""Maximum answers that a process remembers for an outage."""
REMEMBERED_BUNDLES = 1000
"""Maximum bundles of a remembered answer; larger ones are not kept."""
_CHUNK = 1000
_by_name = attrgetter("name")


class CatalogTooOldError(CatalogSyncError, default=permanent("catalog_too_old")):
    """The data is older than the caller accepts, for example for prices."""


class StoreReads(Protocol):
    """The part of the store that is read."""

    async def current(self) -> CatalogueMeta | None:
        """The metadata of the live version."""

    async def select(self, version: str, wanted: Filter) -> list[str]:
        """The names that match ``wanted``, sorted."""

    async def get_bundles(self, version: str, names: Sequence[str]) -> list[Bundle | None]:
        """The bundles with these names."""


class SnapshotReads(Protocol):
    """The part of the snapshot that is read."""

    async def load(self) -> SnapshotFile | None:
        """The newest complete snapshot."""


@dataclasses.dataclass(frozen=True, slots=True)
class Query(Filter):
    """Which bundles are wanted, sorted by name. ``limit`` 0 means all.

    Every word of ``text`` must occur in the name or the description, in any case. Raises ``ValueError`` for a negative
    limit or offset, and if ``min_days`` is greater than ``max_days``.
    """

    text: str | None = None
    limit: int = DEFAULT_LIMIT
    offset: int = 0

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for a negative limit or offset."""
        Filter.__post_init__(self)
        if self.limit < 0 or self.offset < 0:
            raise ValueError("limit and offset must not be negative")

    def filter(self) -> Filter:
        """The conditions without words and page: equal queries of this kind match the same bundles."""
        return Filter(self.group, self.country, self.region, self.min_days, self.max_days)

    def words(self) -> list[str]:
        """The words to search for, normalised for comparison."""
        return (self.text or "").casefold().split()

    def page(self, items: Sequence[T]) -> Sequence[T]:
        """The requested page of ``items``."""
        return items[self.offset :] if self.limit == 0 else items[self.offset : self.offset + self.limit]


@dataclasses.dataclass(frozen=True, slots=True)
class _Read(JsonForm):
    source: Source
    as_of: str
    """When the oldest of the relevant groups was fetched, RFC 3339."""
    stale: bool
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class SearchResult(_Read):
    """What a search found."""

    total: int
    """The number of matching bundles without limit and offset."""
    bundles: tuple[Bundle, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BundleResult(_Read):
    """One bundle."""

    bundle: Bundle


class _Found(NamedTuple):
    """What was read, before its freshness is judged."""

    meta: CatalogueMeta
    total: int
    bundles: tuple[Bundle, ...]


@dataclasses.dataclass(eq=False)
class CatalogReader:
    """Reads the catalogue. ``stale_after`` in seconds, ``clock`` gives the current time in seconds since the epoch.

    ``source`` is the best freshness of answers from ``store``, for a store that is itself a copy.
    """

    store: StoreReads | None
    snapshot: SnapshotReads | None
    _: dataclasses.KW_ONLY
    stale_after: float
    clock: Callable[[], float]
    source: Source = "fresh"
    _last_good: OrderedDict[Query | str, _Found] = dataclasses.field(default_factory=OrderedDict)
    _last_version: str | None = None

    async def search(self, query: Query, *, max_age: float | None = None) -> SearchResult:
        """The bundles that match ``query``.

        Raises :class:`CatalogUnavailableError` if there is nothing to read, :class:`CatalogTooOldError` if the
        data is older than ``max_age`` seconds.
        """

        async def from_store(store: StoreReads, meta: CatalogueMeta) -> _Found:
            return await _search_store(store, meta, query)

        def from_snapshot(file: SnapshotFile) -> _Found:
            return _search_bundles(file.meta, file.bundles(), query)

        found, source = await self._read(query, from_store, from_snapshot)
        wanted = [name for name in found.meta.groups if query.accepts("groups", name)]
        judged = self._judge(found, wanted, source, max_age)
        instruments.count_read(judged.source)
        return SearchResult(judged.source, judged.as_of, judged.stale, found.meta.version, found.total, found.bundles)

    async def show(self, name: str, *, max_age: float | None = None) -> BundleResult:
        """The bundle with this case-sensitive name.

        Raises :class:`BundleNotFoundError` if a complete catalogue does not have it, otherwise like :meth:`search`.
        """

        async def from_store(store: StoreReads, meta: CatalogueMeta) -> _Found:
            bundles = tuple(b for b in await store.get_bundles(meta.version, [name]) if b is not None)
            if not bundles:
                if await store.current() != meta:
                    raise VersionGoneError(f"version {meta.version} is not in Redis any more")
                if name in await store.select(meta.version, Filter()):
                    raise VersionGoneError(f"version {meta.version} lacks a bundle that it names")
            return _Found(meta, len(bundles), bundles)

        def from_snapshot(file: SnapshotFile) -> _Found:
            bundles = tuple(bundle for bundle in file.bundles() if bundle.name == name)
            return _Found(file.meta, len(bundles), bundles)

        found, source = await self._read(name, from_store, from_snapshot)
        if not found.bundles:
            raise BundleNotFoundError(f"the catalogue has no bundle {name!r}", context={"version": found.meta.version})
        bundle = found.bundles[0]
        judged = self._judge(found, bundle.groups, source, max_age)
        instruments.count_read(judged.source)
        return BundleResult(judged.source, judged.as_of, judged.stale, found.meta.version, bundle)

    async def groups(self) -> tuple[str, ...]:
        """The groups of the catalogue. Raises :class:`CatalogUnavailableError` if there is nothing to read."""

        async def from_store(_: StoreReads, meta: CatalogueMeta) -> _Found:
            return _Found(meta, 0, ())

        found, _ = await self._read("", from_store, lambda file: _Found(file.meta, 0, ()))
        return tuple(found.meta.groups)

    async def _read(
        self,
        key: Query | str,
        from_store: Callable[[StoreReads, CatalogueMeta], Awaitable[_Found]],
        from_snapshot: Callable[[SnapshotFile], _Found],
    ) -> tuple[_Found, Source]:
        reason: Exception | None = None
        if self.store is not None:
            try:
                found = await self._read_store(self.store, from_store)
            except CatalogSyncError as error:
                verdict = classify(error)
                log.warning("the store cannot be read (%s, %s): %s", verdict.error_type, verdict.severity, error)
                reason = error
            else:
                if found is not None:
                    self._remember(key, found)
                    return found, self.source
        file = None if self.snapshot is None else await self.snapshot.load()
        kept = self._last_good.get(key) if reason is not None else None
        if kept is not None and (file is None or file.meta.version == kept.meta.version):
            return kept, "stale"
        for _ in range(2):
            if file is None or self.snapshot is None:
                break
            try:
                return await asyncio.to_thread(from_snapshot, file), "snapshot"
            except (SnapshotCorruptError, OSError) as error:
                # A new file may have replaced it while it was read.
                log.warning("the snapshot cannot be read: %s", error)
                reason = reason or error
                file = await self.snapshot.load()
        if kept is not None:
            return kept, "stale"
        raise CatalogUnavailableError(
            "there is no catalogue to read: "
            + ("nothing was published yet" if reason is None else "the store cannot be read and there is no snapshot")
        ) from reason

    @staticmethod
    async def _read_store(
        store: StoreReads, read: Callable[[StoreReads, CatalogueMeta], Awaitable[_Found]]
    ) -> _Found | None:
        """Reads one version; if that is deleted meanwhile, the pointer is read once more."""
        try:
            meta = await store.current()
            return None if meta is None else await read(store, meta)
        except VersionGoneError as error:
            log.debug("the pointer is read again: %s", error)
        meta = await store.current()
        return None if meta is None else await read(store, meta)

    def _remember(self, key: Query | str, found: _Found) -> None:
        if found.meta.version != self._last_version:
            self._last_good.clear()
            self._last_version = found.meta.version
        if len(found.bundles) <= REMEMBERED_BUNDLES:
            self._last_good[key] = found
            self._last_good.move_to_end(key)
            if len(self._last_good) > REMEMBERED_ANSWERS:
                self._last_good.popitem(last=False)

    def _judge(self, found: _Found, groups: Iterable[str], source: Source, max_age: float | None) -> Freshness:
        spellings = {same_spelling(name) for name in groups}
        judged = Freshness.of(
            found.meta,
            source,
            now=self.clock(),
            stale_after=self.stale_after,
            groups={name: meta for name, meta in found.meta.groups.items() if same_spelling(name) in spellings},
            stale_bundles=any(bundle.stale for bundle in found.bundles),
        )
        if max_age is not None and judged.older_than(max_age):
            raise CatalogTooOldError(
                judged.problem or f"the catalogue is {judged.age:.0f} s old, at most {max_age:.0f} s are accepted",
                context={"as_of": judged.as_of, "version": found.meta.version},
            )
        return judged


async def _search_store(store: StoreReads, meta: CatalogueMeta, query: Query) -> _Found:
    names = await store.select(meta.version, query)
    if query.words():
        return await _search_text(store, meta, query, names)
    bundles = await _all_of(store, meta, query, query.page(names))
    return _Found(meta, len(names), tuple(bundles))


async def _search_text(store: StoreReads, meta: CatalogueMeta, query: Query, names: Sequence[str]) -> _Found:
    words = query.words()
    end = None if query.limit == 0 else query.offset + query.limit
    total = 0
    kept: list[Bundle] = []
    for start in range(0, len(names), _CHUNK):
        for bundle in await _all_of(store, meta, query, names[start : start + _CHUNK]):
            if mentions(bundle, words):
                if total >= query.offset and (end is None or total < end):
                    kept.append(bundle)
                total += 1
    return _Found(meta, total, tuple(kept))


async def _all_of(store: StoreReads, meta: CatalogueMeta, query: Query, names: Sequence[str]) -> list[Bundle]:
    found = await store.get_bundles(meta.version, names)
    bundles = [bundle for bundle in found if bundle is not None]
    if len(bundles) != len(found):
        raise VersionGoneError(f"version {meta.version} lacks bundles that its index names")
    if not all(query.matches(profile_of(bundle)) for bundle in bundles):
        raise CorruptEntryError(f"the index of version {meta.version} names bundles that do not belong there")
    return bundles


def _search_bundles(meta: CatalogueMeta, bundles: Iterable[Bundle], query: Query) -> _Found:
    """The same without an index, in one pass; keeps only what it returns."""
    words = query.words()
    total = 0

    def matching() -> Iterable[Bundle]:
        nonlocal total
        for bundle in bundles:
            if query.matches(profile_of(bundle)) and mentions(bundle, words):
                total += 1
                yield bundle

    if query.limit == 0:
        ordered = sorted(matching(), key=_by_name)
    else:
        ordered = heapq.nsmallest(query.offset + query.limit, matching(), key=_by_name)
    return _Found(meta, total, tuple(ordered[query.offset :]))


def mentions(bundle: Bundle, words: Sequence[str]) -> bool:
    """Whether each of ``words``, from :meth:`Query.words`, occurs in the name or the description."""
    if not words:
        return True
    haystack = f"{bundle.name}\n{bundle.description}".casefold()
    return all(word in haystack for word in words)
