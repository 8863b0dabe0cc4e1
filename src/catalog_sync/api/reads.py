"""Reading the catalogue over HTTP: the same results as ``search`` and ``show``, from memory."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Annotated, Final, NamedTuple
from weakref import WeakValueDictionary

from fastapi import Query, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from catalog_sync.api.catalogue import InMemoryCatalogue, LiveCatalogue, View
from catalog_sync.api.guards import HEADERS, client_of
from catalog_sync.api.making import Making, encode, with_rows
from catalog_sync.api.parameters import ListParameters, PathText, SearchParameters
from catalog_sync.api.sending import InFlight, SharedResponse, length_of
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.models import Source
from catalog_sync.domain.times import epoch
from catalog_sync.observability import instruments
from catalog_sync.store.reader import Query as Search

CACHED_BYTES: Final = 32 * 1024 * 1024
"""Maximum memory of the cached responses for the served version, with everything that belongs to them."""
MAX_HEADS: Final = 64
"""Maximum sets of headers that responses share."""
PER_ANSWER: Final = 832
"""Bytes of a response besides its key and body: the objects that hold it, and its entry in the table."""
MAX_AGE: Final = 5
"""Seconds for which a client may reuse a fresh response."""

LIGHT: Final = 200
"""Maximum bundles of a response that is made on the event loop; a longer one is made in a thread."""


_KEY: Final = "catalog_sync.key"


class Head:
    """The common head of all responses with the same freshness, created once."""

    __slots__ = ("good_until", "headers", "not_modified", "opening", "source", "tag")

    def __init__(self, judged: Freshness, version: str, good_until: float, *, cacheable: str) -> None:
        source, as_of = judged.source, judged.as_of
        self.source = source
        self.good_until = good_until
        """Seconds since the epoch after which it must be re-evaluated."""
        self.tag = f'"{version}"' if source == "fresh" else f'"{version}-{source}"'
        headers = {
            "ETag": self.tag,
            "Cache-Control": cacheable if source == "fresh" else "no-cache",
            "X-Catalog-Source": source,
            "X-Catalog-As-Of": as_of,
            "X-Catalog-Stale": "true" if judged.stale else "false",
            "X-Catalog-Version": version,
        }
        self.not_modified = Response(None, 304, headers)
        found = Response(None, 200, headers, "application/json").raw_headers
        self.headers = [header for header in found if header[0] != b"content-length"]
        said = {"source": source, "as_of": as_of, "stale": judged.stale, "version": version}
        self.opening = encode(said)[:-1]
        """The start of a body."""


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Encoded:
    """A response, ready to be sent."""

    head: Head
    body: bytes
    length: tuple[bytes, bytes]
    """The header."""
    route: BaseRoute
    """The route that answers it."""

    def size_under(self, key: str) -> int:
        """Bytes of memory that it takes under ``key``."""
        return sys.getsizeof(self.body) + sys.getsizeof(key) + PER_ANSWER


class _Cache:
    """The responses for one version in one state of the store; dropped as a whole when either changes."""

    def __init__(self) -> None:
        self._of: tuple[str, Source] | None = None
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._passing: WeakValueDictionary[str, Encoded] = WeakValueDictionary()
        """Responses too large to be kept, while they are being sent to any client."""
        self._heads: dict[bytes, Head] = {}
        self._head_for: dict[Hashable, Head] = {}
        self._size = 0

    def get(self, of: tuple[str, Source], key: str, now: float) -> Encoded | None:
        """A cached response that is still valid."""
        if of != self._of:
            self._of, self._size = of, 0
            # New dictionaries: a cleared one keeps the memory of its largest size.
            self._kept, self._passing = OrderedDict(), WeakValueDictionary()
            self._heads, self._head_for = {}, {}
            return None
        found = self._kept.get(key) or self._passing.get(key)
        return found if found is not None and now < found.head.good_until else None

    def put(self, of: tuple[str, Source], key: str, answer: Encoded) -> None:
        """Caches a response; the oldest ones are evicted first."""
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

    def head_for(self, of: tuple[str, Source], what: Hashable, now: float, judge: Callable[[], Head]) -> Head:
        """The head of responses about ``what``; re-evaluated if the last evaluation is too old.

        Responses differ in few timestamps, so there are few heads; may be called from any thread.
        """
        if of != self._of:
            return judge()
        head_for, heads = self._head_for, self._heads
        head = head_for.get(what)
        if head is None or now >= head.good_until:
            head = judge()
            same = heads.get(head.opening)
            if same is not None and same.good_until == head.good_until:
                head = same
            for table in (heads, head_for):
                if len(table) >= MAX_HEADS:
                    table.clear()
            heads[head.opening] = head
            head_for[what] = head
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
        long = not 0 < query.limit <= LIGHT
        return await self._respond(
            request, lambda view: self._bundles(view, query), lambda copy: long or not copy.is_quick(query)
        )

    async def bundle(self, request: Request, name: PathText) -> Response:
        """One bundle by its case-sensitive name."""
        return await self._respond(request, lambda view: self._bundle(view, name), lambda _: False)

    async def countries(self, request: Request, parameters: Annotated[ListParameters, Query()]) -> Response:
        """Countries of the bundles that match."""
        query = parameters.query()
        return await self._respond(
            request, lambda view: self._listing(view, query, "countries", view.copy.country_rows(query)), lambda _: True
        )

    async def groups(self, request: Request, parameters: Annotated[ListParameters, Query()]) -> Response:
        """Groups, with the number of bundles that match."""
        query = parameters.query()
        return await self._respond(
            request,
            lambda view: self._listing(view, query, "groups", view.copy.group_rows(query)),
            lambda copy: not copy.is_quick(query, counted=True),
        )

    def cached(self, scope: Scope) -> Response | None:
        """The cached response to the same path and query, unless the copy has to be refreshed first.

        The parameters were validated before, so nothing is parsed.
        """
        if scope["method"] not in {"GET", "HEAD"} or not self._live.current:
            return None
        answer = self._cache.get(_state(self._live.view()), _key(scope), self._wall_clock())
        return None if answer is None else self._sent(scope, answer)

    async def _respond(
        self, request: Request, make: Callable[[View], Made], heavy: Callable[[InMemoryCatalogue], bool]
    ) -> Response:
        """Answers a request; if ``heavy``, in a thread.

        Raises ``CatalogUnavailableError``, and what :meth:`Making.make` raises."""
        await self._live.refresh_if_stale()
        view, scope = self._live.view(), request.scope
        state, key = _state(view), _key(scope)
        answer = self._cache.get(state, key, self._wall_clock())
        if answer is None:
            if heavy(view.copy):
                made = await self._making.make((state, key), client_of(scope), lambda: make(view))
                # All who waited for it share the result, and another version may be served by now.
                answer = self._cache.get(state, key, self._wall_clock())
            else:
                made = make(view)
            if answer is None:
                answer = Encoded(made.head, made.body, length_of(made.body), scope["route"])
                if state == _state(self._live.view()):
                    self._cache.put(state, key, answer)
        return self._sent(scope, answer)

    def _sent(self, scope: Scope, answer: Encoded) -> Response:
        scope["route"] = answer.route
        head = answer.head
        instruments.count_read(head.source)
        known = scope[HEADERS].get(b"if-none-match")
        if known is not None and _matches(known.decode("latin-1"), head.tag):
            return head.not_modified
        return SharedResponse(head.headers, answer.body, self._in_flight, length=answer.length, keeps=answer)

    def _bundles(self, view: View, query: Search) -> Made:
        found = view.copy.select(query)
        page = query.page(found)
        head = self._head(view, query, stale=bool(view.copy.stale) and not view.copy.stale.isdisjoint(page))
        rows = view.copy.rows(page)
        return Made(head, with_rows(b'%b,"total":%d,' % (head.opening, len(found)), "bundles", rows))

    def _bundle(self, view: View, name: str) -> Made:
        place = view.copy.place_of(name)
        bundle = view.copy.bundle(place)
        head = self._head_of(view, bundle.groups, bundle.groups, stale=bundle.stale)
        return Made(head, b'%b,"bundle":%b}' % (head.opening, next(view.copy.rows([place]))))

    def _listing(self, view: View, query: Search, name: str, rows: Sequence[bytes]) -> Made:
        stale = bool(view.copy.stale) and not view.copy.stale.isdisjoint(view.copy.select(query))
        head = self._head(view, query, stale=stale)
        return Made(head, with_rows(b'%b,"total":%d,' % (head.opening, len(rows)), name, query.page(rows)))

    def _head(self, view: View, query: Search, *, stale: bool) -> Head:
        """The head of a response about the groups that match ``query``; ``stale``: whether some bundles in it are."""
        if query.group is None:
            return self._head_of(view, None, view.copy.meta.groups, stale=stale)
        return self._head_of(view, same_spelling(query.group), [query.group], stale=stale)

    def _head_of(self, view: View, what: Hashable, groups: Iterable[str], *, stale: bool) -> Head:
        now = self._wall_clock()

        def judge() -> Head:
            stale_after, about = self._live.stale_after, view.copy.groups_of(groups)
            judged = Freshness.of(
                view.copy.meta, view.source, now=now, stale_after=stale_after, groups=about, stale_bundles=stale
            )
            return Head(judged, view.copy.meta.version, self._good_until(judged), cacheable=self._cacheable)

        return self._cache.head_for(_state(view), (what, stale), now, judge)

    def _good_until(self, judged: Freshness) -> float:
        if not judged.stale:
            return epoch(judged.as_of) + self._live.stale_after
        # A time in the future becomes an ordinary one once it has come.
        return epoch(judged.as_of) if judged.from_future else math.inf


class Made(NamedTuple):
    """A body and its head."""

    head: Head
    body: bytes


def _state(view: View) -> tuple[str, Source]:
    return view.copy.meta.version, view.source


def _key(scope: Scope) -> str:
    key: str | None = scope.get(_KEY)
    if key is None:
        key = scope[_KEY] = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    return key


def _matches(known: str, tag: str) -> bool:
    """``If-None-Match`` compares weakly (RFC 9110, section 13.1.2)."""
    return known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}
