"""Reading the catalogue over HTTP: the same answers as ``search`` and ``show``, as fast as memory."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from catalog_sync.api.catalogue import LiveCatalogue, View
from catalog_sync.api.parameters import no_parameters, search_query
from catalog_sync.api.sending import Sent, UnderWay
from catalog_sync.domain.models import Source
from catalog_sync.domain.times import epoch
from catalog_sync.observability import instruments
from catalog_sync.store.reader import Query

CACHED_BYTES: Final = 32 * 1024 * 1024
"""Of memory that kept answers to the served version take, all that is kept for them included."""
MAX_HEADS: Final = 64
"""Sets of headers that are shared by answers."""
PER_ANSWER: Final = 768
"""Bytes that an answer takes besides its key and its body: the objects that hold it, and its place in the table."""
MAX_AGE: Final = 5
"""Seconds for which a client may use a fresh answer without asking again."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Head:
    """What all answers have in common that were made of one version in one state: made once, kept once."""

    __slots__ = ("headers", "not_modified", "source", "tag")

    def __init__(self, headers: Mapping[str, str], source: Source) -> None:
        self.source = source
        self.tag = headers["ETag"]
        self.not_modified = Response(None, 304, headers)
        self.headers = Response(None, 200, headers, "application/json").raw_headers


class Encoded(NamedTuple):
    """An answer as it is sent, again and again."""

    head: Head
    body: bytes
    good_until: float
    """Seconds since the epoch after which it must be judged again."""

    def size_under(self, key: str) -> int:
        """Bytes of memory that it takes where it is kept under ``key``."""
        return sys.getsizeof(self.body) + sys.getsizeof(key) + PER_ANSWER


class _Answers:
    """The answers to one version in one state of the store; thrown away as a whole when either changes."""

    def __init__(self) -> None:
        self._of: tuple[str, Source] | None = None
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._heads: dict[tuple[str, ...], Head] = {}
        self._size = 0

    def get(self, of: tuple[str, Source], key: str, now: float) -> Encoded | None:
        """A kept answer that is still true."""
        if of != self._of:
            self._of, self._size = of, 0
            # New ones: what is cleared keeps its table at the size of its fullest day.
            self._kept, self._heads = OrderedDict(), {}
            return None
        found = self._kept.get(key)
        return found if found is not None and now < found.good_until else None

    def put(self, of: tuple[str, Source], key: str, answer: Encoded) -> None:
        """Keep an answer; the ones that were kept first go first."""
        size = answer.size_under(key)
        if of != self._of or size > CACHED_BYTES // 8:
            return
        before = self._kept.pop(key, None)
        self._size += size - (before.size_under(key) if before else 0)
        self._kept[key] = answer
        while self._size > CACHED_BYTES:
            oldest, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size_under(oldest)

    def head(self, headers: Mapping[str, str], source: Source) -> Head:
        """The one head with these headers; an answer is fresh or stale as of few times, so there are few heads."""
        values = tuple(headers.values())
        head = self._heads.get(values)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            head = self._heads[values] = Head(headers, source)
        return head


class Reads:
    """The endpoints that read. ``wall_clock`` tells the time of day in seconds since the epoch."""

    def __init__(self, live: LiveCatalogue, wall_clock: Callable[[], float], *, shared: bool) -> None:
        self._live = live
        self._wall_clock = wall_clock
        self._answers = _Answers()
        self._under_way = UnderWay()
        self._cacheable = f"{'public' if shared else 'private'}, max-age={MAX_AGE}"

    async def bundles(self, request: Request) -> Response:
        """``GET /bundles``."""

        async def search(view: View) -> Mapping[str, Any]:
            query = search_query(request.scope["query_string"])
            return (await view.reader.search(query)).to_json()

        return await self._answer(request, search)

    async def bundle(self, request: Request) -> Response:
        """``GET /bundles/{name}``."""

        async def show(view: View) -> Mapping[str, Any]:
            no_parameters(request.scope["query_string"])
            return (await view.reader.show(request.path_params["name"])).to_json()

        return await self._answer(request, show)

    async def countries(self, request: Request) -> Response:
        """``GET /countries``."""

        async def count(view: View) -> Mapping[str, Any]:
            query = search_query(request.scope["query_string"], limit=0)
            places = await _places(view, query)
            countries = [
                {"code": code, "bundles": count, "regions": view.copy.regions_of(code, places)}
                for code, count in view.copy.counts("countries", places).items()
            ]
            return await _listing(view, query, "countries", countries)

        return await self._answer(request, count)

    async def groups(self, request: Request) -> Response:
        """``GET /groups``."""

        async def count(view: View) -> Mapping[str, Any]:
            query = search_query(request.scope["query_string"], limit=0)
            counts = view.copy.counts("groups", await _places(view, query))
            groups = [
                {"name": name, "bundles": counts.get(name, 0), "as_of": meta.as_of, "stale": meta.stale}
                for name, meta in sorted(view.copy.meta.groups.items())
                if query.accepts("groups", name)
            ]
            return await _listing(view, query, "groups", groups)

        return await self._answer(request, count)

    async def _answer(self, request: Request, make: Callable[[View], Awaitable[Mapping[str, Any]]]) -> Response:
        """``make`` also reads the parameters: an answer that is kept was asked for in the same words before."""
        await self._live.look_soon()
        view = self._live.view()
        of = (view.copy.meta.version, view.source)
        scope = request.scope
        key = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        answer = self._answers.get(of, key, self._wall_clock())
        if answer is None:
            answer = self._encoded(await make(view))
            self._answers.put(of, key, answer)
        else:
            instruments.count_read(answer.head.source)
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
        if known is not None and _matches(known.decode("latin-1"), answer.head.tag):
            return answer.head.not_modified
        return Sent(answer.head.headers, answer.body, self._under_way)

    def _encoded(self, document: Mapping[str, Any]) -> Encoded:
        source, as_of, stale, version = (document[name] for name in ("source", "as_of", "stale", "version"))
        body = _encode(document).encode()
        tag = f'"{version}"' if source == "fresh" else f'"{version}-{source}"'
        headers = {
            "ETag": tag,
            "Cache-Control": self._cacheable if source == "fresh" else "no-cache",
            "X-Catalog-Source": source,
            "X-Catalog-As-Of": as_of,
            "X-Catalog-Stale": "true" if stale else "false",
            "X-Catalog-Version": version,
        }
        return Encoded(
            self._answers.head(headers, source),
            body,
            epoch(as_of) + self._live.stale_after if not stale else float("inf"),
        )


async def _places(view: View, query: Query) -> Set[int]:
    """Where all bundles stand that ``query`` describes, its text included."""
    if not query.words():
        return view.copy.places(query)
    found = await view.reader.search(_without_page(query))
    return view.copy.places_of(bundle.name for bundle in found.bundles)


async def _listing(view: View, query: Query, name: str, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
    """What a search of the same bundles says about itself, with other rows."""
    head = (await view.reader.search(_without_page(query, limit=1))).to_json()
    del head["bundles"]
    return {**head, "total": len(rows), name: list(query.page(rows))}


def _without_page(query: Query, *, limit: int = 0) -> Query:
    return Query(
        query.group, query.country, query.region, query.min_days, query.max_days, query.text, limit=limit, offset=0
    )


def _matches(known: str, tag: str) -> bool:
    """``If-None-Match`` compares weakly (RFC 9110, section 13.1.2)."""
    return known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}
