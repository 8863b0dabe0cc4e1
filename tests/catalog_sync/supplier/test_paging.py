"""Inconsistent pages are refused, and the number of requests ahead stays bounded."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from catalog_sync.domain.errors import CatalogueChangedError, InvalidDataError, UnusableGroupsError
from catalog_sync.domain.models import Bundle
from catalog_sync.supplier.esim_go.envelope import parse_groups, parse_page
from catalog_sync.supplier.esim_go.paging import follow_pages
from catalog_sync.supplier.port import Page


def page(number: int, *names: str, pages: int | None = 3, rows: int | None = 5) -> Page:
    return Page(number, pages, rows, [Bundle(name, "", (), (), None, 1, False, 1, "1", None, ()) for name in names], [])


class Catalogue:
    """Answers with the given pages; counts concurrent requests."""

    def __init__(self, *pages: Page) -> None:
        self.pages = {entry.number: entry for entry in pages}
        self.asked: list[int] = []
        self.under_way = 0
        self.most_under_way = 0

    async def fetch(self, number: int) -> Page:
        self.asked.append(number)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            return self.pages[number]
        finally:
            self.under_way -= 1

    async def names(self, *, page_size: int = 2, window: int = 4, max_pages: int = 100) -> list[str]:
        names: list[str] = []
        pages = follow_pages(self.pages[1], self.fetch, page_size=page_size, window=window, max_pages=max_pages)
        async with contextlib.aclosing(pages):
            async for entry in pages:
                names += [bundle.name for bundle in entry.bundles]
        return names


async def test_pages_are_followed_to_the_end_in_order() -> None:
    catalogue = Catalogue(page(1, "a", "b"), page(2, "c", "d"), page(3, "e"))

    assert await catalogue.names() == ["a", "b", "c", "d", "e"]
    assert catalogue.asked == [2, 3]


async def test_only_a_window_of_pages_is_requested_ahead() -> None:
    pages = [page(number, f"n{number}", pages=50, rows=50) for number in range(1, 51)]
    catalogue = Catalogue(*pages)

    assert len(await catalogue.names(page_size=1, window=3)) == 50
    assert catalogue.most_under_way == 3


async def test_leaving_early_stops_the_requests_ahead() -> None:
    catalogue = Catalogue(*(page(number, f"n{number}", pages=9, rows=9) for number in range(1, 10)))
    pages = follow_pages(catalogue.pages[1], catalogue.fetch, page_size=1, window=4, max_pages=100)
    async with contextlib.aclosing(pages):
        async for entry in pages:
            if entry.number == 2:
                break

    assert catalogue.under_way == 0
    assert len(catalogue.asked) < 9


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(page(2, "c", "d", pages=2), id="page count shrank"),
        pytest.param(page(2, "c", "d", rows=4), id="rows shrank"),
        pytest.param(page(2, "c", "d", rows=6), id="rows grew"),
        pytest.param(page(2, "a", "b"), id="a page repeats another"),
        pytest.param(page(2, "c"), id="fewer rows than claimed"),
    ],
)
async def test_a_catalogue_that_changes_while_it_is_paged_is_noticed(second: Page) -> None:
    with pytest.raises(CatalogueChangedError):
        await Catalogue(page(1, "a", "b"), second, page(3, "e")).names()


async def test_more_pages_than_the_cap_fail_instead_of_being_cut_off() -> None:
    with pytest.raises(InvalidDataError, match="limit of 2"):
        await Catalogue(page(1, "a", "b")).names(max_pages=2)


async def test_a_bare_array_ends_with_the_first_page_that_is_not_full() -> None:
    pages = [page(1, "a", "b", pages=None, rows=None), page(2, "c", pages=None, rows=None)]

    assert await Catalogue(*pages).names() == ["a", "b", "c"]
    pages = [page(1, "a", "b", "c", pages=None, rows=None), page(2, pages=None, rows=None)]
    assert await Catalogue(*pages).names() == ["a", "b", "c"]


async def test_a_bare_array_that_is_the_same_for_every_page_number_is_noticed() -> None:
    with pytest.raises(CatalogueChangedError, match="repeats"):
        await Catalogue(page(1, "a", "b", pages=None, rows=None), page(2, "a", "b", pages=None, rows=None)).names()


ROW = {"name": "a", "duration": 1, "price": 1}


@pytest.mark.parametrize(
    "data",
    [
        {"bundles": [], "rows": 5148, "pageCount": 103},
        {"bundles": [], "rows": 5148, "pageCount": 0},
        {"bundles": [], "rows": 5148},
        {"bundles": None},
        {"bundles": {}},
        {},
        {"bundles": [ROW, ROW], "rows": 1, "pageCount": 1},
        {"bundles": [ROW], "rows": "1", "pageCount": 1},
        {"bundles": [ROW], "rows": -1, "pageCount": 1},
        "bundles",
        None,
        5,
    ],
)
def test_an_envelope_that_contradicts_itself_is_confirmed_by_one_retry(data: object) -> None:
    with pytest.raises(InvalidDataError) as caught:
        parse_page(data, 1)

    assert caught.value.classification.max_retries == 1
    assert caught.value.error_type == "invalid_response"


@pytest.mark.parametrize(
    ("data", "rows", "pages"),
    [
        ({"bundles": [ROW], "rows": 1, "pageCount": 1, "pageSize": 50}, 1, 1),
        ([ROW], None, None),
        ({"bundles": [], "rows": 0, "pageCount": 0}, 0, 0),
        ([], None, None),
    ],
)
def test_envelopes_and_bare_arrays_are_pages(data: object, rows: int | None, pages: int | None) -> None:
    result = parse_page(data, 1)

    assert (result.rows, result.page_count) == (rows, pages)


@pytest.mark.fault("F15")
def test_a_renamed_field_is_a_schema_mismatch_and_not_repeated() -> None:
    with pytest.raises(InvalidDataError, match="'price'") as caught:
        parse_page([{"name": f"n{i}", "duration": 1, "cost": 1} for i in range(5)], 1)

    assert caught.value.error_type == "schema_mismatch"
    assert not caught.value.classification.retryable


@pytest.mark.parametrize(
    "data", [{"groups": [{"name": "A"}, {"name": "B"}]}, [{"name": "A"}, {"name": "B"}], ["A", "B", "A"]]
)
def test_groups_come_as_objects_or_as_a_bare_array(data: object) -> None:
    assert parse_groups(data) == ["A", "B"]


@pytest.mark.parametrize("data", [{}, {"groups": None}, {"groups": [{}]}, {"groups": [{"name": " "}]}, [], None, 5])
def test_an_unusable_group_list_is_an_error_never_a_silent_default(data: object) -> None:
    with pytest.raises(InvalidDataError):
        parse_groups(data)


@pytest.mark.parametrize(
    "bad", [{}, {"name": None}, {"name": " "}, {"name": "half \ud83d"}, {"name": "x" * 600}, 7, None]
)
def test_an_entry_without_a_usable_name_leaves_the_other_groups(bad: object) -> None:
    with pytest.raises(UnusableGroupsError, match="1 of 3 groups") as caught:
        parse_groups({"groups": [{"name": "A"}, bad, {"name": "B"}]})
    assert caught.value.usable == ("A", "B")
    assert str(caught.value).encode()
    assert not caught.value.classification.retryable
