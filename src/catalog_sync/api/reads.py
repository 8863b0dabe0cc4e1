"""Reading the catalogue over HTTP: the same results as ``search`` and ``show``, from memory."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import Annotated, Any, Final, NamedTuple
from weakref import WeakValueDictionary

from fastapi import Query, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from catalog_sync.api.catalogue import LiveCatalogue, View
from catalog_sync.api.guards import client_of
from catalog_sync.api.making import Making, encode, encode_with, run_through
from catalog_sync.api.parameters import ListParameters, PathText, SearchParameters
from catalog_sync.api.sending import InFlight, SharedResponse
from catalog_sync.domain.freshness import from_future
from catalog_sync.domain.models import Source
from catalog_sync.domain.times import epoch
from catalog_sync.observability import instruments
from catalog_sync.store.reader import Answer, BundleAnswer
from catalog_sync.store.reader import Query as Search

CACHED_BYTES: Final = 32 * 1024 * 1024
"""Memory of the cached responses for the served version, everything kept for them included."""
MAX_HEADS: Final = 64
"""Sets of headers that responses share."""
PER_ANSWER: Final = 768
"""Bytes of a response besides its key and body: the objects that hold it, and its entry in the table."""
MAX_AGE: Final = 5
"""Seconds for which a client may reuse a fresh response."""

LIGHT: Final = 200
"""Bundles of an answer that is made at once; a longer one is made beside the event loop."""


class Head:
    """The headers that all responses for one version in one state share: made once, kept once."""

    __slots__ = ("headers", "not_modified", "source", "tag")

    def __init__(self, headers: Mapping[str, str], source: Source) -> None:
        self.source = source
        self.tag = headers["ETag"]
        self.not_modified = Response(None, 304, headers)
        found = Response(None, 200, headers, "application/json").raw_headers
        self.headers = [header for header in found if header[0] != b"content-length"]


class Made(NamedTuple):
    """A body, and what its headers say."""

    source: Source
    as_of: str
    stale: bool
    version: str
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Encoded:
    """A response, ready to be sent."""

    head: Head
    body: bytes
    route: BaseRoute
    """That answers it."""
    good_until: float
    """Seconds since the epoch after which its freshness must be judged again."""

    def size_under(self, key: str) -> int:
        """Bytes of memory that it takes under ``key``."""
        return sys.getsizeof(self.body) + sys.getsizeof(key) + PER_ANSWER


class _Cache:
    """The responses for one version in one state of the store; dropped as a whole when either changes."""

    def __init__(self) -> None:
        self._of: tuple[str, Source] | None = None
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._passing: WeakValueDictionary[str, Encoded] = WeakValueDictionary()
        """Those too large to be kept, while they are sent to anyone."""
        self._heads: dict[tuple[str, ...], Head] = {}
        self._size = 0

    def get(self, of: tuple[str, Source], key: str, now: float) -> Encoded | None:
        """A cached response that is still valid."""
        if of != self._of:
            self._of, self._size = of, 0
            # New ones: a cleared dict keeps the memory of its largest size.
            self._kept, self._heads, self._passing = OrderedDict(), {}, WeakValueDictionary()
            return None
        found = self._kept.get(key) or self._passing.get(key)
        return found if found is not None and now < found.good_until else None

    def put(self, of: tuple[str, Source], key: str, answer: Encoded) -> None:
        """Cache a response; the oldest ones go first."""
        size = answer.size_under(key)
        if of != self._of:
            return
        if size > CACHED_BYTES // 2:
            self._passing[key] = answer
            return
        before = self._kept.pop(key, None)
        self._size += size - (before.size_under(key) if before else 0)
        self._kept[key] = answer
        while self._size > CACHED_BYTES:
            oldest, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size_under(oldest)

    def head(self, headers: Mapping[str, str], source: Source) -> Head:
        """The shared head with these headers; responses differ in few timestamps, so there are few heads."""
        values = tuple(headers.values())
        head = self._heads.get(values)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            head = self._heads[values] = Head(headers, source)
        return head


class Reads:
    """The endpoints that read. ``wall_clock`` returns the time of day in seconds since the epoch."""

    def __init__(self, live: LiveCatalogue, making: Making, wall_clock: Callable[[], float], *, shared: bool) -> None:
        self._live = live
        self._making = making
        self._wall_clock = wall_clock
        self._cache = _Cache()
        self._in_flight = InFlight()
        self._cacheable = f"{'public' if shared else 'private'}, max-age={MAX_AGE}"

    async def bundles(self, request: Request, parameters: Annotated[SearchParameters, Query()]) -> Response:
        """Search bundles."""
        query = parameters.query()
        heavy = bool(query.words()) or not 0 < query.limit <= LIGHT
        return await self._respond(request, lambda view: _bundles(view, query), heavy=heavy)

    async def bundle(self, request: Request, name: PathText) -> Response:
        """One bundle by its case-sensitive name."""
        return await self._respond(request, lambda view: _bundle(view, name), heavy=False)

    async def countries(self, request: Request, parameters: Annotated[ListParameters, Query()]) -> Response:
        """Countries of the bundles that match."""
        query = parameters.query()
        return await self._respond(request, lambda view: _countries(view, query), heavy=True)

    async def groups(self, request: Request, parameters: Annotated[ListParameters, Query()]) -> Response:
        """Groups, with the number of bundles that match."""
        query = parameters.query()
        return await self._respond(request, lambda view: _groups(view, query), heavy=bool(query.words()))

    def cached(self, scope: Scope) -> Response | None:
        """The cached response to the same path and query, where the copy need not be refreshed first.

        They were validated before, so nothing is parsed.
        """
        if scope["method"] not in {"GET", "HEAD"} or not self._live.current:
            return None
        answer = self._cache.get(_state(self._live.view()), _key(scope), self._wall_clock())
        if answer is None:
            return None
        scope["route"] = answer.route
        instruments.count_read(answer.head.source)
        return self._sent(scope, answer)

    async def _respond(self, request: Request, make: Callable[[View], Made], *, heavy: bool) -> Response:
        """Raises ``CatalogUnavailableError``, and what :meth:`Making.make` raises."""
        await self._live.refresh_if_stale()
        view, scope = self._live.view(), request.scope
        state, key = _state(view), _key(scope)
        answer = self._cache.get(state, key, self._wall_clock())
        if answer is None:
            made = (
                make(view) if not heavy else await self._making.make((state, key), client_of(scope), lambda: make(view))
            )
            if state != _state(self._live.view()):  # another version is served by now
                return self._sent(scope, self._encoded(made, scope["route"]))
            answer = self._cache.get(state, key, self._wall_clock())
        else:
            instruments.count_read(answer.head.source)
        if answer is None:
            answer = self._encoded(made, scope["route"])
            self._cache.put(state, key, answer)
        return self._sent(scope, answer)

    def _sent(self, scope: Scope, answer: Encoded) -> Response:
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
        if known is not None and _matches(known.decode("latin-1"), answer.head.tag):
            return answer.head.not_modified
        return SharedResponse(answer.head.headers, answer.body, self._in_flight, keeps=answer)

    def _good_until(self, as_of: str, *, stale: bool) -> float:
        if not stale:
            return epoch(as_of) + self._live.stale_after
        # One from the future becomes an ordinary one when that time has come.
        return epoch(as_of) if from_future(as_of, self._wall_clock()) else math.inf

    def _encoded(self, made: Made, route: BaseRoute) -> Encoded:
        source, as_of, stale, version, body = made
        tag = f'"{version}"' if source == "fresh" else f'"{version}-{source}"'
        headers = {
            "ETag": tag,
            "Cache-Control": self._cacheable if source == "fresh" else "no-cache",
            "X-Catalog-Source": source,
            "X-Catalog-As-Of": as_of,
            "X-Catalog-Stale": "true" if stale else "false",
            "X-Catalog-Version": version,
        }
        return Encoded(self._cache.head(headers, source), body, route, self._good_until(as_of, stale=stale))


def _state(view: View) -> tuple[str, Source]:
    return view.copy.meta.version, view.source


def _key(scope: Scope) -> str:
    return f"{scope['path']}?{scope['query_string'].decode('latin-1')}"


def _bundles(view: View, query: Search) -> Made:
    found = run_through(view.reader.search(query))
    head = {name: getattr(found, name) for name in ("source", "as_of", "stale", "version", "total")}
    return _made(found, encode_with(head, "bundles", map(view.copy.encoded, found.bundles)))


def _bundle(view: View, name: str) -> Made:
    found = run_through(view.reader.show(name))
    return _made(found, encode(found.to_json()))


def _countries(view: View, query: Search) -> Made:
    places = _places(view, query)
    countries = [
        {"code": code, "bundles": count, "regions": view.copy.regions_of(code, places)}
        for code, count in view.copy.counts("countries", places).items()
    ]
    return _listing(view, query, "countries", countries)


def _groups(view: View, query: Search) -> Made:
    counts = view.copy.counts("groups", _places(view, query))
    groups = [
        {"name": name, "bundles": counts.get(name, 0), "as_of": meta.as_of, "stale": meta.stale}
        for name, meta in sorted(view.copy.meta.groups.items())
        if query.accepts("groups", name)
    ]
    return _listing(view, query, "groups", groups)


def _places(view: View, query: Search) -> Set[int]:
    """The places of all bundles that ``query`` describes, its text included."""
    if not query.words():
        return view.copy.places(query)
    found = run_through(view.reader.search(_without_page(query)))
    return view.copy.places_of(bundle.name for bundle in found.bundles)


def _listing(view: View, query: Search, name: str, rows: list[dict[str, Any]]) -> Made:
    """The metadata of a search for the same bundles, with other rows."""
    found = run_through(view.reader.search(_without_page(query, limit=1)))
    head = {"source": found.source, "as_of": found.as_of, "stale": found.stale, "version": found.version}
    return _made(found, encode_with({**head, "total": len(rows)}, name, map(encode, query.page(rows))))


def _made(found: Answer | BundleAnswer, body: bytes) -> Made:
    return Made(found.source, found.as_of, found.stale, found.version, body)


def _without_page(query: Search, *, limit: int = 0) -> Search:
    return Search(
        query.group, query.country, query.region, query.min_days, query.max_days, query.text, limit=limit, offset=0
    )


def _matches(known: str, tag: str) -> bool:
    """``If-None-Match`` compares weakly (RFC 9110, section 13.1.2)."""
    return known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}
