"""The catalogue as this process serves it: a copy of the live version in memory, renewed beside the requests.

No request waits for Redis: a request reads the copy that is there, and the copy says how trustworthy it is. So reads
stay as fast while a sync publishes, while Redis hangs, and while it is away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple, Protocol

from catalog_sync.domain.errors import CatalogSyncError, CatalogUnavailableError
from catalog_sync.domain.index import DIMENSIONS, Dimension, Filter, profile_of
from catalog_sync.domain.models import Bundle, CatalogueMeta, ErrorInfo, Source
from catalog_sync.observability.sdk import trace_of
from catalog_sync.store.errors import VersionGoneError
from catalog_sync.store.reader import CatalogReader
from catalog_sync.store.snapshot import SnapshotCorruptError, SnapshotFile
from catalog_sync.store.staging import decode
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.scopes import KnownScopes
from otel_resilience.correlation import new_correlation_id

POLL: Final = 1.0
"""Seconds between two looks at the pointer."""
TRUSTED_FOR: Final = 3.0
"""Seconds for which the copy counts as the live version after the pointer was last seen."""
WAIT: Final = 0.03
"""Seconds from the beginning of a look at the pointer in which requests wait for it; with no look for a poll they begin
one."""
CATCH_UP: Final = 1.0
"""Seconds that the answer about a finished sync waits for its version to be served here."""
FIRST_LOOK: Final = 1.0
"""Seconds that the start waits for the store before it turns to the snapshot."""

_SLICE = 50
"""Bundles decoded at a stretch; other requests get their turn in between."""
_log = logging.getLogger(__name__)


class Store(Protocol):
    """The part of the store that is copied."""

    async def current_version(self) -> str | None:
        """The version that the pointer names."""

    async def meta(self, version: str) -> CatalogueMeta:
        """What it says about itself."""

    def iter_raw(self, version: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        """All its bundles as stored."""


class Snapshots(Protocol):
    """The part of the snapshot that is read."""

    async def load(self) -> SnapshotFile | None:
        """The newest whole one."""


class Copy:
    """One version in memory; never changes. The part of the store that the reader needs.

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
        """The bundles of these names. Long lists let others run in between."""
        del version
        if len(names) >= 10 * _SLICE:
            await asyncio.sleep(0)
        return [self._bundles.get(name) for name in names]

    def places(self, wanted: Filter) -> Set[int]:
        """Where the bundles stand that ``wanted`` describes."""
        selected: Set[int] = self._all
        for dimension in DIMENSIONS:
            if wanted.asks_for(dimension):
                values = self._places[dimension].items()
                selected = selected & set().union(*(at for value, at in values if wanted.accepts(dimension, value)))
        return selected

    def places_of(self, names: Iterable[str]) -> Set[int]:
        """Where the bundles of these names stand."""
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
    """How the store was found at the last look."""

    reachable: bool
    seen_ago: float | None
    """Seconds since it last answered; ``None``: never."""
    error: ErrorInfo | None


class View(NamedTuple):
    """One version, what its answers count as at best, and a reader of it."""

    copy: Copy
    source: Source
    reader: CatalogReader


class LiveCatalogue:
    """Keeps a copy of the live version and says where it comes from.

    ``store`` may be ``None`` where there is none. ``clock`` is monotonic, ``wall_clock`` the time of day, both in
    seconds.
    """

    def __init__(
        self,
        store: Store | None,
        snapshot: Snapshots,
        *,
        stale_after: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self.stale_after = stale_after
        self._clock = clock
        self._wall_clock = wall_clock
        self._copy: Copy | None = None
        self._from_snapshot = False
        self._live = False
        """Whether the pointer named the copy when it was last seen."""
        self._seen: float | None = None
        self._began: float | None = None
        self._error: ErrorInfo | None = None
        self._failing = False
        self._look: asyncio.Task[None] | None = None

    @property
    def copy(self) -> Copy:
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
        """The groups and countries of the served version, of which syncs may be asked for."""
        return None if self._copy is None else self._copy.known_scopes

    @property
    def source(self) -> Source:
        """What answers count as at best: ``fresh`` only while the pointer has been seen lately."""
        if self._from_snapshot:
            return "snapshot"
        return "fresh" if self._live and self.store_state().reachable else "stale"

    def store_state(self) -> StoreState:
        """How the store was last found; nothing is asked."""
        ago = None if self._seen is None else self._clock() - self._seen
        late = ago is None or ago > TRUSTED_FOR
        return StoreState(not self._failing and not late, ago, self._error)

    def view(self) -> View:
        """What is served now, for the whole of one request. Raises ``CatalogUnavailableError``."""
        copy, source = self.copy, self.source
        reader = CatalogReader(copy, None, stale_after=self.stale_after, clock=self._wall_clock, source=source)
        return View(copy, source, reader)

    async def look_soon(self) -> None:
        """Renew the copy where the last look is long ago, waiting for it no longer than :data:`WAIT`."""
        now = self._clock()
        if self._copy is not None and self._began is not None and now - self._began < POLL:
            return
        look = self.look()
        # A look that hangs is waited for by those who come soon after its beginning, not by everybody.
        left = WAIT - (self._clock() - self._began) if self._began is not None else WAIT
        if left > 0:
            await asyncio.wait([look], timeout=left)

    async def catch_up(self, version: str) -> None:
        """Serve ``version``, which has just been published, waiting for it no longer than :data:`CATCH_UP`."""
        # A look under way may have begun before the publication; the next one did not.
        for _ in range(2):
            if self._copy is None or self._copy.meta.version != version:
                await asyncio.wait([self.look()], timeout=CATCH_UP / 2)

    def look(self) -> asyncio.Task[None]:
        """A look at the pointer: the one under way, or a new one."""
        if self._look is None or self._look.done():
            self._began = self._clock()
            # Of its own context: a request that happens to start it is not its parent.
            self._look = asyncio.create_task(self._renew())
        return self._look

    async def start(self) -> None:
        """The first copy: from the store where it answers soon, else from the snapshot."""
        look = self.look()
        await asyncio.wait([look], timeout=FIRST_LOOK)
        if self._copy is None:
            await self._read_snapshot()

    async def keep_looking(self, poll: float = POLL) -> None:
        """Renews the copy until cancelled."""
        while True:
            await asyncio.wait([self.look()])
            await asyncio.sleep(poll)

    async def aclose(self) -> None:
        """Ends a look under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    async def _renew(self) -> None:
        with trace_of(new_correlation_id(), sampled=False):  # a look every second is no news; logs still have its ID
            try:
                await self._read_store()
            except CatalogSyncError as error:
                self._note(error)
                await self._read_snapshot()
            else:
                if self._failing:
                    _log.info("the store answers again")
                self._failing, self._error = False, None

    async def _read_store(self) -> None:
        if self._store is None:
            await self._read_snapshot()
            return
        for last in (False, True):
            version = await self._store.current_version()
            self._seen = self._clock()
            if version is None:
                self._live = False
                await self._read_snapshot()
                return
            if self._copy is not None and not self._from_snapshot and self._copy.meta.version == version:
                self._live = True
                return
            try:
                self._copy = await self._load(self._store, version)
            except VersionGoneError:
                # Published anew while it was read: the pointer is read once more.
                if last:
                    raise
            else:
                self._from_snapshot, self._live = False, True
                return

    async def _load(self, store: Store, version: str) -> Copy:
        meta = await store.meta(version)
        bundles: dict[str, Bundle] = {}
        async for page in store.iter_raw(version):
            for place, (name, text) in enumerate(page.items()):
                if place % _SLICE == 0:
                    await asyncio.sleep(0)
                key = name.decode()
                bundles[key] = decode(key, text)
        if len(bundles) != meta.bundles:
            raise VersionGoneError(f"version {version} lacks a part", context={"version": version})
        # Sorting and indexing is one stretch of work: a thread lets requests run meanwhile.
        return await asyncio.to_thread(Copy, meta, bundles.values())

    async def _read_snapshot(self) -> None:
        """Serve the snapshot where nothing better is there: nothing at all, or only an older snapshot."""
        if self._copy is not None and not self._from_snapshot:
            return
        file = await self._snapshot.load()
        if file is None or (self._copy is not None and self._copy.meta.version == file.meta.version):
            return
        try:
            self._copy = await asyncio.to_thread(lambda: Copy(file.meta, file.bundles()))
        except (SnapshotCorruptError, OSError) as error:
            _log.warning("the snapshot cannot be read: %s", type(error).__name__)
            return
        self._from_snapshot = True

    def _note(self, error: CatalogSyncError) -> None:
        self._error = error_info(error)
        if not self._failing:
            _log.warning("the store cannot be read, the last good copy is served: %s", self._error.message)
        self._failing = True
