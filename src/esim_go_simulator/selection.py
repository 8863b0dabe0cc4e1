"""The list endpoint's parameters, and the view of a catalogue with bundles and groups removed or added."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from esim_go_simulator.catalogue import Catalogue, Facets
from esim_go_simulator.datafile import RowCatalogue

_KEPT_SELECTIONS: Final = 32

ORDERS: Final[Mapping[str, Callable[[Facets], Any]]] = {
    "name": lambda facets: facets.name,
    "bundlename": lambda facets: facets.name,
    "description": lambda facets: facets.description,
    "groups": lambda facets: facets.groups,
    "countries": lambda facets: facets.countries,
    "dataamount": lambda facets: facets.data_mb,
    "duration": lambda facets: facets.days,
    "price": lambda facets: facets.price,
    "autostart": lambda facets: facets.autostart,
    "unlimited": lambda facets: facets.unlimited,
}
"""Columns of ``orderBy``, in lower case."""


class BadQueryError(ValueError):
    """A parameter has no valid value; the message is the supplier's."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters of ``GET /catalogue``."""

    page: int = 1
    per_page: int = 50
    order_by: str | None = None
    descending: bool = False
    group: str | None = None
    countries: frozenset[str] = frozenset()
    region: str | None = None
    description: str | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], *, max_per_page: int) -> ListQuery:
        """From the query string. Raises :class:`BadQueryError`; unknown parameters are ignored."""
        order_by = query.get("orderBy") or None
        if order_by is not None and order_by.lower() not in ORDERS:
            raise BadQueryError("Invalid orderBy value")
        direction = query.get("direction", "asc").lower()
        if direction not in {"asc", "desc"}:
            raise BadQueryError("Invalid direction value")
        codes = (code.strip().upper() for code in query.get("countries", "").split(","))
        return cls(
            page=_whole(query, "page", 1, 10**9),
            per_page=_whole(query, "perPage", 50, max_per_page),
            order_by=order_by.lower() if order_by else None,
            descending=direction == "desc",
            group=query.get("group") or None,
            countries=frozenset(code for code in codes if code),
            region=query.get("region") or None,
            description=query.get("description") or None,
        )

    def filters(self) -> ListQuery:
        """A copy without the page: queries with equal filters select the same bundles."""
        return dataclasses.replace(self, page=1, per_page=50)

    def acceptor(self) -> Callable[[Facets], bool]:
        """A function that says whether a bundle is selected."""
        text = _wildcard(self.description) if self.description else None
        region = self.region.lower() if self.region else None

        def accept(facets: Facets) -> bool:
            if self.group is not None and self.group not in facets.groups:
                return False
            if self.countries and self.countries.isdisjoint(facets.countries):
                return False
            if region is not None and region not in {name.lower() for name in facets.regions}:
                return False
            return text is None or text.search(facets.description) is not None

        return accept


def _whole(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= highest:
        raise BadQueryError(f"Invalid {name} value")
    return int(text)


def _wildcard(pattern: str) -> re.Pattern[str]:
    """``*`` matches anything; without one the text may occur anywhere."""
    parts = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.compile(f"^{parts}$" if "*" in pattern else parts, re.IGNORECASE | re.DOTALL)


class CatalogueEdits(BaseModel):
    """Changes to the bundles for sale, on top of the catalogue the simulator started with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    drop_groups: tuple[str | int, ...] = ()
    """Groups that are removed with their bundles: names, or positions in the list of groups (-1: the last)."""
    withdraw: tuple[str, ...] = ()
    """Names of bundles that are removed."""
    withdraw_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """This share of each group's bundles is removed, the last ones."""
    add: tuple[dict[str, Any], ...] = Field(default=(), max_length=10_000)
    """Bundles that are added at the end."""

    def merged(self, other: CatalogueEdits) -> CatalogueEdits:
        """Both edits combined."""
        return CatalogueEdits(
            drop_groups=self.drop_groups + other.drop_groups,
            withdraw=self.withdraw + other.withdraw,
            withdraw_ratio=max(self.withdraw_ratio, other.withdraw_ratio),
            add=self.add + other.add,
        )


NO_EDITS: Final = CatalogueEdits()


class CatalogueView:
    """A catalogue with edits applied; results of queries are cached."""

    def __init__(self, base: Catalogue, edits: CatalogueEdits = NO_EDITS) -> None:
        self._base = base
        self._added = RowCatalogue([_json(bundle) for bundle in edits.add])
        self._dropped = frozenset(_resolve(base.groups, edits.drop_groups))
        self.edits = edits
        self._gone = self._find_gone(edits)
        self._selections: OrderedDict[ListQuery, array[int]] = OrderedDict()
        names = (*base.groups, *self._added.groups)
        self.groups: tuple[str, ...] = tuple(name for name in dict.fromkeys(names) if name not in self._dropped)

    def __len__(self) -> int:
        return len(self.select(ListQuery()))

    def select(self, query: ListQuery) -> array[int]:
        """The indices of the selected bundles, all pages, in order."""
        key = query.filters()
        found = self._selections.get(key)
        if found is None:
            found = self._select(key)
            self._selections[key] = found
            if len(self._selections) > _KEPT_SELECTIONS:
                self._selections.popitem(last=False)
        else:
            self._selections.move_to_end(key)
        return found

    def row(self, index: int) -> bytes:
        """The JSON text of a bundle."""
        size = len(self._base)
        return self._base.row(index) if index < size else self._added.row(index - size)

    def find(self, name: str) -> bytes | None:
        """The JSON text of the bundle of that name, if it is sold."""
        index = self._base.find(name)
        if (
            index is not None
            and index not in self._gone
            and not self._dropped.intersection(self._base.facets(index).groups)
        ):
            return self._base.row(index)
        added = self._added.find(name)
        return None if added is None else self._added.row(added)

    def _select(self, query: ListQuery) -> array[int]:
        wanted = query.acceptor()

        def accept(facets: Facets) -> bool:
            return wanted(facets) and self._dropped.isdisjoint(facets.groups)

        by_text = query.description is not None
        found = self._base.matching(accept, by_text=by_text)
        if self._gone:
            found = array("I", (index for index in found if index not in self._gone))
        size = len(self._base)
        found.extend(size + index for index in self._added.matching(accept, by_text=by_text))
        if query.order_by is not None:
            column = ORDERS[query.order_by]
            order = sorted(found, key=lambda index: column(self._facets(index)), reverse=query.descending)
            return array("I", order)
        return found[::-1] if query.descending else found

    def _facets(self, index: int) -> Facets:
        size = len(self._base)
        return self._base.facets(index) if index < size else self._added.facets(index - size)

    def _find_gone(self, edits: CatalogueEdits) -> frozenset[int]:
        gone: set[int] = set()
        for name in edits.withdraw:
            index = self._base.find(name)
            if index is not None:
                gone.add(index)
        if edits.withdraw_ratio > 0:
            for group in self._base.groups:
                members = self._base.matching(ListQuery(group=group).acceptor(), by_text=False)
                gone.update(members[len(members) - math.floor(len(members) * edits.withdraw_ratio) :])
        return frozenset(gone)


def page_body(view: CatalogueView, query: ListQuery, *, keep: float = 1.0) -> tuple[list[bytes], int, int]:
    """The rows of a page, the number of pages and the number of rows. ``keep`` is the share of the rows still there."""
    selected = view.select(query)
    rows = len(selected) if keep >= 1.0 else math.ceil(len(selected) * keep)
    start = (query.page - 1) * query.per_page
    indices = selected[start : min(start + query.per_page, rows)]
    return [view.row(index) for index in indices], -(-rows // query.per_page), rows


def envelope(rows: list[bytes], page_count: int, row_count: int, page_size: int) -> bytes:
    """The list endpoint's answer around rows of JSON text."""
    tail = b'],"pageCount":%d,"rows":%d,"pageSize":%d}' % (page_count, row_count, page_size)
    return b'{"bundles":[' + b",".join(rows) + tail


def resolve_group(groups: tuple[str, ...], wanted: str | int) -> str | None:
    """A group by name or by position; positions beyond the ends mean the first and the last one."""
    if isinstance(wanted, str):
        return wanted
    if not groups:
        return None
    at = wanted if wanted >= 0 else len(groups) + wanted
    return groups[min(max(at, 0), len(groups) - 1)]


def _resolve(groups: tuple[str, ...], wanted: tuple[str | int, ...]) -> set[str]:
    return {name for entry in wanted if (name := resolve_group(groups, entry)) is not None}


def _json(bundle: dict[str, Any]) -> bytes:
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode()
