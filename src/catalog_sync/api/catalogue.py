"""The catalogue as this process serves it: a copy of the live version in memory, refreshed in the background.

No request waits for Redis: it reads the copy in memory, and the response says how fresh that copy is. So reads stay
fast while a sync publishes, while Redis hangs, and while it is down.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from catalog_sync.api.making import encode
from catalog_sync.domain.errors import BundleNotFoundError, CatalogUnavailableError
from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.index import DIMENSIONS, Dimension, Filter, profile_of
from catalog_sync.domain.models import Bundle, CatalogueMeta, ErrorInfo, GroupMeta, Source
from catalog_sync.domain.pieces import in_pieces
from catalog_sync.observability.sdk import trace_of
from catalog_sync.store.client import text_of
from catalog_sync.store.errors import VersionGoneError
from catalog_sync.store.reader import Query, SnapshotReads, mentions
from catalog_sync.store.snapshot import SnapshotCorruptError
from catalog_sync.store.staging import decode
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.scopes import KnownScopes
from otel_resilience.correlation import new_correlation_id

T = TypeVar("T")

POLL: Final = 1.0
"""Interval in seconds of reading the pointer."""
TRUSTED_FOR: Final = 3.0
"""Seconds for which the copy counts as the live version after the pointer was last seen."""
WAIT: Final = 0.03
"""Seconds from the start of a refresh for which requests wait for it; one starts if there was none for :data:`POLL`."""
CATCH_UP: Final = 1.0
"""Maximum seconds that the response about a finished sync waits for its version to be served here."""
READING: Final = 5.0
"""Further seconds that it waits while that version is read, and that a read waits while nothing can be served."""
FIRST_REFRESH: Final = 1.0
"""Seconds that the start waits for the store before it reads the snapshot."""

MAX_ENCODED: Final = 20_000
"""Maximum number of bundles that are kept encoded, at about half a kilobyte each."""
MAX_KEPT: Final = 4 * 1024 * 1024
"""Bytes of selections and listings that are cached for further pages."""
SELECTION: Final = 2048
"""Estimated bytes of a cached selection besides its entries: the query, and the objects that hold it."""
ROW: Final = 256
"""Estimated bytes of a row of a listing."""
QUICK: Final = 10_000
"""Maximum number of bundles for which a selection or listing is made on the event loop, not in a thread."""

_log = logging.getLogger(__name__)


class Store(Protocol):
    """The part of the store that is copied."""

    async def current_version(self) -> str | None:
        """The version that the pointer names."""

    async def meta(self, version: str) -> CatalogueMeta:
        """Its metadata."""

    def iter_stored(self, version: str) -> AsyncIterator[Sequence[tuple[bytes, bytes, bytes]]]:
        """All its bundles as stored, each once, in pieces: name, text and the checksum of both."""


class InMemoryCatalogue:
    """One version in memory, immutable: its bundles in the order of their names, each identified by its place.

    For each value of each indexed property it keeps the set of the places of matching bundles, so that the cost of a
    search depends only on the entries that it touches, however many countries a bundle has. Recent selections are
    cached, so that the next page costs only what it shows.

    ``checksums`` are those of the bundles as stored, by name; without them the next version reuses no bundles.
    ``before`` is an earlier version that may share bundles with this one: their cached encodings are taken over.
    """

    def __init__(
        self,
        meta: CatalogueMeta,
        bundles: Iterable[Bundle],
        *,
        checksums: Mapping[str, bytes] | None = None,
        before: InMemoryCatalogue | None = None,
    ) -> None:
        self._bundles = sorted(bundles, key=_by_name)
        self._checksums = [checksums[bundle.name] for bundle in self._bundles] if checksums else []
        self._place_of = {bundle.name: place for place, bundle in enumerate(self._bundles)}
        self._all = frozenset(range(len(self._bundles)))
        self.stale = frozenset(place for place, bundle in enumerate(self._bundles) if bundle.stale)
        """The places of the bundles that a sync could not renew."""
        found: dict[Dimension, dict[str, set[int]]] = {dimension: {} for dimension in DIMENSIONS}
        for place, bundle in enumerate(self._bundles):
            profile = profile_of(bundle)
            for dimension, places in found.items():
                for value in profile.values(dimension):
                    places.setdefault(value, set()).add(place)
        self._places = found
        self._encoded: dict[int, bytes] = {} if before is None else before.encoded_of(self._bundles)
        self.describe(meta)

    def __len__(self) -> int:
        return len(self._bundles)

    def published_again(self, meta: CatalogueMeta) -> InMemoryCatalogue:
        """A version with exactly the same bundles: their data is shared."""
        again = copy.copy(self)
        again.describe(meta)
        return again

    def describe(self, meta: CatalogueMeta) -> None:
        """Takes over ``meta``, and forgets the lists that depend on the previous one."""
        self.meta = meta
        self._kept: dict[tuple[str, Filter], Sequence[Any]] = {}
        self._kept_size = 0
        self._spellings = {name: same_spelling(name) for name in meta.groups}

    def stored_as(self, name: str, checksum: bytes) -> Bundle | None:
        """The bundle of this name, if it is stored with this checksum."""
        place = self._place_of.get(name) if self._checksums else None
        return None if place is None or self._checksums[place] != checksum else self._bundles[place]

    def bundles(self) -> list[Bundle]:
        """All bundles, in a new list."""
        return list(self._bundles)

    def encoded_of(self, bundles: Iterable[Bundle]) -> dict[int, bytes]:
        """The cached encodings of these bundles, by their places."""
        encoded = dict(self._encoded)  # a copy, since other threads add to it
        found: dict[int, bytes] = {}
        for place, bundle in enumerate(bundles):
            earlier = self._place_of.get(bundle.name)
            if earlier is not None and self._bundles[earlier] is bundle and earlier in encoded:
                found[place] = encoded[earlier]
        return found

    @property
    def known_scopes(self) -> KnownScopes:
        """Its groups and countries."""
        return KnownScopes(self.meta.groups, self._places["countries"])

    def place_of(self, name: str) -> int:
        """The place of a bundle. Raises ``BundleNotFoundError``."""
        place = self._place_of.get(name)
        if place is None:
            raise BundleNotFoundError(f"the catalogue has no bundle {name!r}", context={"version": self.meta.version})
        return place

    def bundle(self, place: int) -> Bundle:
        """The bundle at a place."""
        return self._bundles[place]

    def rows(self, places: Iterable[int]) -> Iterator[bytes]:
        """The bundles at these places as they are sent; most are encoded once for all responses."""
        kept = self._encoded
        for place in places:
            yield kept.get(place) or self._encode(place)

    def _encode(self, place: int) -> bytes:
        body = self._bundles[place].to_json_text()
        if len(self._encoded) < MAX_ENCODED:
            self._encoded[place] = body
        return body

    def places(self, wanted: Filter) -> Set[int]:
        """The places of the bundles that match ``wanted``, ignoring its words."""
        selected: Set[int] = self._all
        for dimension in DIMENSIONS:
            if wanted.asks_for(dimension):
                values = self._places[dimension].items()
                selected = selected & set().union(*(at for value, at in values if wanted.accepts(dimension, value)))
        return selected

    def select(self, query: Query) -> Sequence[int]:
        """The places of all bundles that match ``query``, including its words, in order; not limited to a page."""
        words, wanted = query.words(), query.filter()
        selected: Sequence[int] = self._keep("select", wanted, lambda: self._sorted(wanted), 4)
        return [place for place in selected if mentions(self._bundles[place], words)] if words else selected

    def is_quick(self, query: Query, *, counted: bool = False) -> bool:
        """Whether :meth:`select`, or a listing if ``counted``, takes no more than a few milliseconds."""
        if query.words():
            return False
        return len(self) <= QUICK or (not counted and ("select", query.filter()) in self._kept)

    def group_rows(self, query: Query) -> Sequence[bytes]:
        """The groups that match ``query``, encoded, with the number of its bundles in each."""

        def make() -> list[bytes]:
            counts = self.counts("groups", self.select(query))
            return [
                encode({"name": name, "bundles": counts.get(name, 0), "as_of": meta.as_of, "stale": meta.stale})
                for name, meta in sorted(self.meta.groups.items())
                if query.accepts("groups", name)
            ]

        return make() if query.words() else self._keep("groups", query.filter(), make, ROW)

    def country_rows(self, query: Query) -> Sequence[bytes]:
        """The countries of the bundles that match ``query``, encoded, with the number of bundles in each."""

        def make() -> list[bytes]:
            selected = self.select(query)
            among = set(selected)
            return [
                encode({"code": code, "bundles": count, "regions": self._regions_of(code, among)})
                for code, count in self.counts("countries", selected).items()
            ]

        return make() if query.words() else self._keep("countries", query.filter(), make, ROW)

    def _sorted(self, wanted: Filter) -> Sequence[int]:
        places = self.places(wanted)
        return range(len(self)) if places is self._all else array("I", sorted(places))

    def _keep(self, what: str, wanted: Filter, make: Callable[[], Sequence[T]], item_size: int) -> Sequence[T]:
        """What ``make`` returns, cached. Two threads may add at the same time, so the bound is not exact."""
        found = self._kept.get((what, wanted))
        if found is None:
            found = make()
            size = len(found) * item_size + SELECTION
            if self._kept_size + size > MAX_KEPT:
                self._kept, self._kept_size = {}, 0
            if size <= MAX_KEPT:
                self._kept[what, wanted] = found
                self._kept_size += size
        return found

    def groups_of(self, names: Iterable[str]) -> dict[str, GroupMeta]:
        """The metadata of the groups with these names, in any spelling."""
        wanted = {same_spelling(name) for name in names}
        return {name: meta for name, meta in self.meta.groups.items() if self._spellings[name] in wanted}

    def counts(self, dimension: Dimension, selected: Sequence[int]) -> dict[str, int]:
        """How many of the bundles at these places have each value; values that none has are left out."""
        values = sorted(self._places[dimension].items())
        if len(selected) == len(self):
            return {value: len(at) for value, at in values}
        among = set(selected)
        counts = ((value, len(at & among)) for value, at in values)
        return {value: count for value, count in counts if count}

    def _regions_of(self, country: str, among: Set[int]) -> list[str]:
        covering = self._places["countries"][country] & among
        return [region for region, at in sorted(self._places["regions"].items()) if not at.isdisjoint(covering)]


@dataclasses.dataclass(frozen=True, slots=True)
class StoreState:
    """The state of the store at the last refresh."""

    reachable: bool
    seen_ago: float | None
    """Seconds since it last answered; ``None``: never."""
    error: ErrorInfo | None


class View(NamedTuple):
    """One version, and the freshness of its answers at best."""

    copy: InMemoryCatalogue
    source: Source


@dataclasses.dataclass(eq=False)
class LiveCatalogue:
    """Keeps a copy of the live version and knows where it comes from.

    ``store`` may be ``None``. ``clock`` is monotonic, ``wall_clock`` the time of day, both in seconds.
    """

    store: Store | None
    snapshot: SnapshotReads
    _: dataclasses.KW_ONLY
    stale_after: float
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    _copy: InMemoryCatalogue | None = None
    _from_snapshot: bool = False
    _live: bool = False
    """Whether the pointer named the copy when it was last seen."""
    _seen: float | None = None
    _refresh_started: float | None = None
    _error: ErrorInfo | None = None
    _failing: bool = False
    _refreshing: asyncio.Task[None] | None = None
    _loading: bool = False
    """Whether a version was found and is being read."""

    @property
    def copy(self) -> InMemoryCatalogue:
        """The version that is served. Raises ``CatalogUnavailableError`` if there is none."""
        if self._copy is None:
            raise CatalogUnavailableError(
                "there is no catalogue to read: "
                + ("nothing was published yet" if self._error is None else "the store cannot be read")
            )
        return self._copy

    @property
    def meta(self) -> CatalogueMeta | None:
        """The metadata of the served version."""
        return None if self._copy is None else self._copy.meta

    @property
    def known_scopes(self) -> KnownScopes | None:
        """The groups and countries of the served version, for which syncs may be requested."""
        return None if self._copy is None else self._copy.known_scopes

    @property
    def source(self) -> Source:
        """The freshness of answers at best: ``fresh`` only while the pointer has been seen recently."""
        if self._from_snapshot:
            return "snapshot"
        return "fresh" if self._live and self._reachable(self._seen_ago()) else "stale"

    def store_state(self) -> StoreState:
        """The last known state of the store, without asking it."""
        ago = self._seen_ago()
        return StoreState(self._reachable(ago), ago, self._error)

    def _seen_ago(self) -> float | None:
        return None if self._seen is None else self.clock() - self._seen

    def _reachable(self, ago: float | None) -> bool:
        return not self._failing and ago is not None and ago <= TRUSTED_FOR

    def view(self) -> View:
        """The version served now, for the whole of one request. Raises ``CatalogUnavailableError``."""
        return View(self.copy, self.source)

    @property
    def current(self) -> bool:
        """Whether :meth:`refresh_if_stale` would neither start a refresh nor wait for one."""
        if self._copy is None or self._refresh_started is None:
            return False
        ago = self.clock() - self._refresh_started
        return ago < POLL or (ago > WAIT and self._refreshing is not None and not self._refreshing.done())

    async def refresh_if_stale(self) -> None:
        """Refreshes the copy if the last refresh is too long ago, waiting for it no longer than :data:`WAIT`."""
        if self.current:
            return
        refresh = self.refresh()
        # Only requests that arrive soon after its start wait for a refresh that hangs.
        left = WAIT - (self.clock() - self._refresh_started) if self._refresh_started is not None else WAIT
        if left > 0:
            await asyncio.wait([refresh], timeout=left)
        if self._copy is None and self._loading:
            await asyncio.wait([refresh], timeout=READING)

    async def catch_up(self, version: str) -> None:
        """Serves ``version``, which has just been published, waiting for it no longer than :data:`CATCH_UP`."""
        # A running refresh may have started before the publication; the next one did not.
        for _ in range(2):
            if self._copy is None or self._copy.meta.version != version:
                refresh = self.refresh()
                await asyncio.wait([refresh], timeout=CATCH_UP / 2)
                if self._loading:
                    await asyncio.wait([refresh], timeout=READING)

    def refresh(self) -> asyncio.Task[None]:
        """The task that refreshes the copy: the running one, or a new one."""
        if self._refreshing is None or self._refreshing.done():
            self._refresh_started = self.clock()
            self._refreshing = asyncio.create_task(self._refresh())
        return self._refreshing

    async def start(self) -> None:
        """Loads the first copy: from the store if it answers soon, else from the snapshot."""
        await asyncio.wait([self.refresh()], timeout=FIRST_REFRESH)
        if self._copy is None:
            await self._read_snapshot()

    async def poll(self, interval: float = POLL) -> None:
        """Refreshes the copy until cancelled."""
        while True:
            await asyncio.wait([self.refresh()])
            await asyncio.sleep(interval)

    async def aclose(self) -> None:
        """Cancels a running refresh."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> None:
        with trace_of(new_correlation_id(), sampled=False):  # no spans for a read every second; logs have its ID
            try:
                await self._read_store()
            except Exception as error:  # noqa: BLE001  whatever it is, the store could not be read, and health says so
                self._note(error)
                await self._read_snapshot()
            else:
                if self._failing:
                    _log.info("the store answers again")
                self._failing, self._error = False, None

    async def _read_store(self) -> None:
        if self.store is None:
            await self._read_snapshot()
            return
        for last in (False, True):
            version = await self.store.current_version()
            self._seen = self.clock()
            if version is None:
                self._live = False
                await self._read_snapshot()
                return
            try:
                # Read each time: it says whether the version still has all its parts.
                meta = await self.store.meta(version)
                if self._copy is not None and not self._from_snapshot and self._copy.meta == meta:
                    self._live = True
                    return
                before, self._copy = self._copy, await self._load(self.store, meta)
            except VersionGoneError:
                # Replaced while it was read: the pointer is read once more.
                if last:
                    raise
            else:
                self._from_snapshot, self._live = False, True
                spare = [] if before is None else before.bundles()
                before = None
                await _free_in_pieces(spare)
                return

    async def _load(self, store: Store, meta: CatalogueMeta) -> InMemoryCatalogue:
        self._loading = True
        try:
            return await self._read_version(store, meta)
        finally:
            self._loading = False

    async def _read_version(self, store: Store, meta: CatalogueMeta) -> InMemoryCatalogue:
        """Reads a version; bundles that are unchanged remain the same objects."""
        version, before = meta.version, self._copy
        bundles: list[Bundle] = []
        checksums: dict[str, bytes] = {}
        changed = False
        async for piece in store.iter_stored(version):
            for name, text, checksum in piece:
                key = text_of(name, "the name of a stored bundle")
                bundle = None if before is None else before.stored_as(key, checksum)
                if bundle is None:
                    changed = True
                    bundle = decode(key, text)
                bundles.append(bundle)
                checksums[key] = checksum
        if len(bundles) != meta.bundles:
            raise VersionGoneError(f"version {version} is incomplete", context={"version": version})
        if before is not None and not changed and len(bundles) == len(before):
            return before.published_again(meta)
        earlier = [before]

        def make() -> InMemoryCatalogue:
            # The thread may keep its arguments alive for a while: not the earlier version, which is freed in pieces.
            return InMemoryCatalogue(meta, bundles, checksums=checksums, before=earlier.pop())

        # Sorting and indexing never yields to the event loop, so it runs in a thread.
        return await asyncio.to_thread(make)

    async def _read_snapshot(self) -> None:
        """Serves the snapshot if nothing else is available, or only an older snapshot."""
        if self._copy is not None and not self._from_snapshot:
            return
        file = await self.snapshot.load()
        if file is None or (self._copy is not None and self._copy.meta.version == file.meta.version):
            return
        try:
            self._copy = await asyncio.to_thread(lambda: InMemoryCatalogue(file.meta, file.bundles()))
        except (SnapshotCorruptError, OSError) as error:
            _log.warning("the snapshot cannot be read: %s", type(error).__name__)
            return
        self._from_snapshot = True

    def _note(self, error: Exception) -> None:
        self._error = error_info(error)
        if not self._failing:
            _log.warning("the store cannot be read, the last good copy is served: %s", self._error.message)
        self._failing = True


async def _free_in_pieces(bundles: list[Bundle]) -> None:
    """Frees bundles in pieces: freeing a large catalogue in one step would block the event loop."""
    async for piece in in_pieces(range(len(bundles)), 1000):
        del bundles[-len(piece) :]


def _by_name(bundle: Bundle) -> str:
    return bundle.name
