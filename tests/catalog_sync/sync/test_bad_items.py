"""A bad row, a bad group or a bad group name affects nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.models import Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.store import backend
from catalog_sync.store.backend import open_store
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.supplier.esim_go.envelope import parse_groups, parse_page
from catalog_sync.supplier.esim_go.responses import parse_json
from catalog_sync.supplier.port import Deadline, Page, RequestCounts, Scope
from catalog_sync.sync.service import SyncService
from support.settings import make_settings
from support.sync_world import World


class Listing:
    """A supplier of one page per group, given as the bytes on the wire."""

    policy: Any = None

    def __init__(self, **groups: list[Any]) -> None:
        self.groups: Any = {"groups": [{"name": name} for name in groups]}
        self.rows = groups
        self.counts = RequestCounts()

    async def list_groups(self, *, deadline: Deadline) -> list[str]:
        return parse_groups(received(self.groups))

    async def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        rows = self.rows[str(scope)]
        yield parse_page(received({"bundles": rows, "rows": len(rows), "pageCount": 1}), 1)


def received(document: Any) -> Any:
    body = json.dumps(document, default=str).encode()
    return parse_json(httpx.Response(200, headers={"content-type": "application/json"}, content=body))


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"name": f"esim_{number}", "duration": 7, "price": 6.9, "description": f"eSIM {number}", **changes}


async def sync(supplier: Any, state: Path, *, kind: SyncKind = SyncKind.FULL, scope: str | None = None) -> SyncReport:
    """In a process without Redis, whose only copy is the snapshot."""
    configured = make_settings("http://127.0.0.1:9", state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("catalog_sync.store.backend.shutil.which", lambda _: None)
        async with open_store(configured) as store:
            service = SyncService(configured, supplier, store, Snapshot(state))
            return await service.run(SyncRequest(kind, scope))


@pytest.mark.fault("S1")
async def test_one_row_of_21_with_half_an_emoji_is_set_aside_and_the_others_are_published(tmp_path: Path) -> None:
    rows = [*map(row, range(20)), row(20, description="Data plan \ud83d")]

    report = await sync(Listing(A=rows), tmp_path)

    assert (report.outcome, report.bundles, report.quarantined) == (Outcome.COMPLETE, 20, 1)
    (aside,) = report.quarantined_rows
    assert (aside.name, aside.reason) == ("esim_20", "bad_text")
    json.dumps(report.to_json(), ensure_ascii=False).encode()


@pytest.mark.fault("S1")
@pytest.mark.parametrize("rows", [2, 3, 5, 20])
async def test_one_bad_row_of_few_does_not_refuse_the_others(tmp_path: Path, rows: int) -> None:
    good = [*map(row, range(rows))]
    await sync(Listing(A=good), tmp_path)

    report = await sync(Listing(A=[*good[:-1], row(rows - 1, price="N/A")]), tmp_path)

    assert (report.outcome, report.bundles, report.quarantined) == (Outcome.COMPLETE, rows - 1, 1)


async def test_a_row_that_is_listed_twice_costs_nothing(tmp_path: Path) -> None:
    report = await sync(Listing(A=[*map(row, range(20)), row(3)]), tmp_path)
    assert (report.outcome, report.bundles, report.quarantined) == (Outcome.COMPLETE, 20, 0)
    assert [group.bundles for group in report.groups] == [20]


async def test_two_rows_of_one_name_that_differ_are_not_chosen_from(tmp_path: Path) -> None:
    report = await sync(Listing(A=[*map(row, range(20)), row(3, price=7.9)], B=[row(30)]), tmp_path)
    assert report.outcome is Outcome.PARTIAL
    assert [(group.name, group.status) for group in report.groups] == [("A", "failed"), ("B", "ok")]
    error = report.groups[0].error
    assert error is not None
    assert "20 different bundles came, the supplier claims 21" in error.message


async def test_one_bad_row_of_a_small_group_does_not_refuse_its_own_sync(tmp_path: Path) -> None:
    await sync(Listing(A=[*map(row, range(20))], B=[row(30), row(31)]), tmp_path)

    supplier = Listing(A=[], B=[row(30), row(31, price=None)])
    report = await sync(supplier, tmp_path, kind=SyncKind.GROUP, scope="B")

    assert (report.outcome, report.bundles, report.quarantined) == (Outcome.COMPLETE, 21, 1)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("size", [1, 20])
async def test_a_group_of_bad_rows_alone_fails_alone_and_keeps_its_last_good_data(tmp_path: Path, size: int) -> None:
    of_b = range(30, 30 + size)
    await sync(Listing(A=[*map(row, range(20))], B=[*map(row, of_b)]), tmp_path)

    report = await sync(
        Listing(A=[*map(row, range(20))], B=[row(number, description="\ud83d") for number in of_b]), tmp_path
    )

    assert (report.outcome, report.bundles) == (Outcome.PARTIAL, 20 + size)
    assert {group.name: group.status for group in report.groups} == {"A": "ok", "B": "stale"}


@pytest.mark.fault("S1")
@pytest.mark.parametrize("name", ["B \ud83d", None, "", 5])
async def test_a_group_whose_name_cannot_be_used_any_more_fails_alone(tmp_path: Path, name: object) -> None:
    rows = {"A": [*map(row, range(20))], "B": [row(30), row(31)]}
    await sync(Listing(**rows), tmp_path)
    supplier = Listing(**rows)
    supplier.groups["groups"][1]["name"] = name

    report = await sync(supplier, tmp_path)

    assert (report.outcome, report.bundles) == (Outcome.PARTIAL, 22)
    assert {group.name: group.status for group in report.groups} == {"A": "ok", "B": "stale"}
    assert report.error is not None
    assert "1 of 2 groups have no usable name" in report.error.message
    json.dumps(report.to_json(), ensure_ascii=False).encode()


async def test_a_new_group_without_a_usable_name_is_said_and_the_others_are_published(tmp_path: Path) -> None:
    supplier = Listing(A=[*map(row, range(20))])
    supplier.groups["groups"].append({"name": "half \ud83d"})

    report = await sync(supplier, tmp_path)

    assert (report.outcome, report.bundles) == (Outcome.PARTIAL, 20)
    assert report.error is not None
    assert "half \\ud83d" in report.error.message


async def test_a_group_that_vanishes_beside_an_unusable_name_is_still_guarded(tmp_path: Path) -> None:
    """With the snapshot gone there is nothing to keep of it."""
    await sync(Listing(A=[*map(row, range(20))], B=[row(30)]), tmp_path)
    supplier = Listing(A=[*map(row, range(20))], B=[])
    report = await sync(supplier, tmp_path)
    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "publish_refused"


odd_text = st.text(st.characters(exclude_categories=()), max_size=12)
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text | st.integers(10**400, 10**450),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=5,
)
known = st.sampled_from(["name", "duration", "price", "description", "groups", "countries", "speed", "currency"])


@pytest.mark.fault("S1")
@given(st.dictionaries(known | odd_text, odd_values, max_size=5) | odd_values, st.integers(0, 20))
@settings(max_examples=40)
async def test_whatever_one_row_holds_the_other_twenty_are_published(
    tmp_path_factory: pytest.TempPathFactory, odd: Any, place: int
) -> None:
    rows: list[Any] = [*map(row, range(20))]
    rows.insert(place, row(99, **odd) if isinstance(odd, dict) else odd)
    backend._servers.clear()

    report = await sync(Listing(A=rows), tmp_path_factory.mktemp("state"))

    assert report.outcome is Outcome.COMPLETE, report.error
    assert report.bundles + report.quarantined in {20, 21}
    assert report.bundles >= 20 - (report.quarantined == 0)
    json.dumps(report.to_json(), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["", ".", "..", "half \ud83d"])
async def test_a_name_that_is_not_part_of_an_address_is_not_sent(world: World, name: str) -> None:
    asked = len(world.simulator.requests)
    with pytest.raises(CatalogSyncError):
        await world.supplier.get_bundle(name, deadline=Deadline(5))
    assert len(world.simulator.requests) == asked
