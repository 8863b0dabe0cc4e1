"""The catalogue as this process serves it: a copy of the live version in memory, refreshed in the background.

No request waits for Redis: it reads the copy in memory, and the response says how fresh that copy is. So reads stay
fast while a sync publishes, while Redis hangs, and while it is down.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final, NamedTuple, Protocol

from catalog_sync.api.making import encode
from catalog_sync.domain.errors import CatalogUnavailableError
from catalog_sync.domain.index import DIMENSIONS, Dimension, Filter, profile_of
from catalog_sync.domain.models import Bundle, CatalogueMeta, ErrorInfo, Source
from catalog_sync.observability.sdk import trace_of
from catalog_sync.store.client import text_of
from catalog_sync.store.errors import VersionGoneError
from catalog_sync.store.reader import CatalogReader, SnapshotReads
from catalog_sync.store.snapshot import RawVersions, SnapshotCorruptError
from catalog_sync.store.staging import decode
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.scopes import KnownScopes
from otel_resilience.correlation import new_correlation_id

POLL: Final = 1.0
"""Seconds between two reads of the pointer."""
TRUSTED_FOR: Final = 3.0
"""Seconds for which the copy counts as the live version after the pointer was last seen."""
WAIT: Final = 0.03
"""Seconds from the start of a refresh for which requests wait for it; after :data:`POLL` without one they start one."""
CATCH_UP: Final = 1.0
"""Seconds for which the response about a finished sync waits until its version is served here."""
READING: Final = 5.0
"""Seconds for which it waits further while that version is being read, and a read while there is nothing to serve."""
FIRST_REFRESH: Final = 1.0
"""Seconds for which the start waits for the store before it reads the snapshot."""

MAX_ENCODED: Final = 20_000
"""Bundles that are kept encoded, about half a kilobyte each."""

_SLICE = 50
"""Bundles decoded without a break; other requests run in between."""
_log = logging.getLogger(__name__)


class Store(RawVersions, Protocol):
    """The part of the store that is copied."""

    async def current_version(self) -> str | None:
        """The version that the pointer names."""

    async def meta(self, version: str) -> CatalogueMeta:
        """What it says about itself."""


class InMemoryCatalogue:
    """One version in memory, immutable; offers the part of the store that the reader needs.

    For each value of each indexed property the places of its bundles are kept as a set, so that a search costs the
    entries that it touches, however many countries a bundle has.
    """

    def __init__(self, meta: CatalogueMeta, bundles: Iterable[Bundle]) -> None:
        self.meta = meta
        ordered = sorted(bundles, key=lambda bundle: bundle.name)
        self._bundles = {bundle.name: bundle for bundle in ordered}
        self._names = list(self._bundles)
        self._all = frozenset(range(len(self._names)))
        found: dict[Dimension, dict[str, set[int]]] = {dimension: {} for dimension in DIMENSIONS}
        for place, bundle in enumerate(self._bundles.values()):
            profile = profile_of(bundle)
            for dimension, places in found.items():
                for value in profile.values(dimension):
                    places.setdefault(value, set()).add(place)
        self._places = found
        self._encoded: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._names)

    @property
    def known_scopes(self) -> KnownScopes:
        """Its groups and countries."""
        return KnownScopes(self.meta.groups, self._places["countries"])

    async def current(self) -> CatalogueMeta:
        """What the version says about itself."""
        return self.meta

    async def select(self, version: str, wanted: Filter) -> list[str]:
        """The names that ``wanted`` describes, sorted."""
        del version
        places = self.places(wanted)
        return self._names if places is self._all else [self._names[place] for place in sorted(places)]

    async def get_bundles(self, version: str, names: Sequence[str]) -> list[Bundle | None]:
        """The bundles of these names."""
        del version
        return [self._bundles.get(name) for name in names]

    def encoded(self, bundle: Bundle) -> bytes:
        """One of its bundles as it is sent; most are encoded once for all answers."""
        body = self._encoded.get(bundle.name)
        if body is None:
            body = encode(bundle.to_json())
            if len(self._encoded) < MAX_ENCODED:
                self._encoded[bundle.name] = body
        return body

    def places(self, wanted: Filter) -> Set[int]:
        """The places of the bundles that ``wanted`` describes."""
        selected: Set[int] = self._all
        for dimension in DIMENSIONS:
            if wanted.asks_for(dimension):
                values = self._places[dimension].items()
                selected = selected & set().union(*(at for value, at in values if wanted.accepts(dimension, value)))
        return selected

    def places_of(self, names: Iterable[str]) -> Set[int]:
        """The places of the bundles of these names."""
        wanted = set(names)
        return {place for place, name in enumerate(self._names) if name in wanted}

    def counts(self, dimension: Dimension, among: Set[int]) -> dict[str, int]:
        """For each value how many of the bundles at these places have it; values that none has are left out."""
        counts = ((value, len(at & among)) for value, at in sorted(self._places[dimension].items()))
        return {value: count for value, count in counts if count}

    def regions_of(self, country: str, among: Set[int]) -> list[str]:
        """The regions of the bundles at these places that cover ``country``."""
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
    """One version, what its answers count as at best, and a reader of it."""

    copy: InMemoryCatalogue
    source: Source
    reader: CatalogReader


@dataclasses.dataclass(eq=False)
class LiveCatalogue:
    """Keeps a copy of the live version and says where it comes from.

    ``store`` may be ``None`` where there is none. ``clock`` is monotonic, ``wall_clock`` the time of day, both in
    seconds.
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
        """The version that is served. Raises ``CatalogUnavailableError`` where there is none."""
        if self._copy is None:
            raise CatalogUnavailableError(
                "there is no catalogue to read: "
                + ("nothing was published yet" if self._error is None else "the store cannot be read")
            )
        return self._copy

    @property
    def meta(self) -> CatalogueMeta | None:
        """What the served version says about itself."""
        return None if self._copy is None else self._copy.meta

    @property
    def known_scopes(self) -> KnownScopes | None:
        """The groups and countries of the served version, of which syncs may be requested."""
        return None if self._copy is None else self._copy.known_scopes

    @property
    def source(self) -> Source:
        """What answers count as at best: ``fresh`` only while the pointer has been seen lately."""
        if self._from_snapshot:
            return "snapshot"
        return "fresh" if self._live and self.store_state().reachable else "stale"

    def store_state(self) -> StoreState:
        """How the store was last found; nothing is asked."""
        ago = None if self._seen is None else self.clock() - self._seen
        late = ago is None or ago > TRUSTED_FOR
        return StoreState(not self._failing and not late, ago, self._error)

    def view(self) -> View:
        """What is served now, for the whole of one request. Raises ``CatalogUnavailableError``."""
        copy, source = self.copy, self.source
        reader = CatalogReader(copy, None, stale_after=self.stale_after, clock=self.wall_clock, source=source)
        return View(copy, source, reader)

    @property
    def current(self) -> bool:
        """Whether :meth:`refresh_if_stale` would neither start a refresh nor wait for one."""
        if self._copy is None or self._refresh_started is None:
            return False
        ago = self.clock() - self._refresh_started
        return ago < POLL or (ago > WAIT and self._refreshing is not None and not self._refreshing.done())

    async def refresh_if_stale(self) -> None:
        """Refresh the copy where the last refresh is long ago, waiting for it no longer than :data:`WAIT`."""
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
        """Serve ``version``, which has just been published, waiting for it no longer than :data:`CATCH_UP`."""
        # A running refresh may have started before the publication; the next one did not.
        for _ in range(2):
            if self._copy is None or self._copy.meta.version != version:
                refresh = self.refresh()
                await asyncio.wait([refresh], timeout=CATCH_UP / 2)
                if self._loading:
                    await asyncio.wait([refresh], timeout=READING)

    def refresh(self) -> asyncio.Task[None]:
        """Refresh the copy: the running task, or a new one."""
        if self._refreshing is None or self._refreshing.done():
            self._refresh_started = self.clock()
            self._refreshing = asyncio.create_task(self._refresh())
        return self._refreshing

    async def start(self) -> None:
        """The first copy: from the store where it answers soon, else from the snapshot."""
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
                self._copy = await self._load(self.store, meta)
            except VersionGoneError:
                # Replaced while it was read: the pointer is read once more.
                if last:
                    raise
            else:
                self._from_snapshot, self._live = False, True
                return

    async def _load(self, store: Store, meta: CatalogueMeta) -> InMemoryCatalogue:
        self._loading = True
        try:
            return await self._read_version(store, meta)
        finally:
            self._loading = False

    async def _read_version(self, store: Store, meta: CatalogueMeta) -> InMemoryCatalogue:
        version = meta.version
        bundles: dict[str, Bundle] = {}
        async for page in store.iter_raw(version):
            for place, (name, text) in enumerate(page.items()):
                if place % _SLICE == 0:
                    await asyncio.sleep(0)
                key = text_of(name, "the name of a stored bundle")
                bundles[key] = decode(key, text)
        if len(bundles) != meta.bundles:
            raise VersionGoneError(f"version {version} is incomplete", context={"version": version})
        # Sorting and indexing does not yield: a thread lets requests run meanwhile.
        return await asyncio.to_thread(InMemoryCatalogue, meta, bundles.values())

    async def _read_snapshot(self) -> None:
        """Serve the snapshot where nothing else is available, or only an older snapshot."""
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
