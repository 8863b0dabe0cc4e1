"""Syncs of one group, country or bundle leave the rest of the catalogue unchanged."""

from __future__ import annotations

from collections import Counter

import pytest

from catalog_sync.domain.models import Bundle, Outcome, SyncKind, SyncRequest
from support.sync_world import BUNDLES, World


def busiest_country(bundles: dict[str, Bundle]) -> str:
    return Counter(code for bundle in bundles.values() for code in bundle.countries).most_common(1)[0][0]


async def test_a_group_sync_renews_its_group_and_leaves_the_others(world: World) -> None:
    await world.sync()
    before, meta_before = await world.bundles(), await world.meta()
    group, other = list(meta_before.groups)[:2]
    members = [name for name, bundle in before.items() if bundle.groups == (group,)]
    others = [name for name, bundle in before.items() if bundle.groups == (other,)]
    world.simulator.edit_catalogue(withdraw=[members[0], others[0]])

    report = await world.sync(SyncKind.GROUP, group)

    assert report.outcome is Outcome.COMPLETE
    assert [entry.name for entry in report.groups] == [group]
    assert set(await world.bundles()) == set(before) - {members[0]}
    meta = await world.meta()
    assert meta.groups[group].as_of > meta_before.groups[group].as_of
    assert meta.groups[other] == meta_before.groups[other]
    assert meta.last_full_sync == meta_before.last_full_sync
    assert meta.kind is SyncKind.GROUP


async def test_a_group_may_be_named_in_another_spelling(world: World) -> None:
    await world.sync()
    group = next(iter((await world.meta()).groups))

    report = await world.sync(SyncKind.GROUP, group.replace(" - ", " ").upper())

    assert report.outcome is Outcome.COMPLETE
    assert report.groups[0].name == group


async def test_an_unknown_group_is_told_with_the_known_ones(world: World) -> None:
    report = await world.sync(SyncKind.GROUP, "No such group")

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert "Standard - Fixed" in report.error.message
    assert await world.store.current() is None


async def test_a_group_sync_cures_a_stale_group(world: World) -> None:
    await world.sync()
    world.simulator.set_scenario("group-denied")
    await world.sync()
    (stale,) = [name for name, group in (await world.meta()).groups.items() if group.stale]
    world.simulator.set_scenario("calm")

    report = await world.sync(SyncKind.GROUP, stale)

    assert report.outcome is Outcome.COMPLETE
    assert not any(group.stale for group in (await world.meta()).groups.values())
    assert not any(bundle.stale for bundle in (await world.bundles()).values())
    assert len(await world.bundles()) == BUNDLES


async def test_a_group_sync_that_fails_publishes_nothing(world: World) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario({"rules": [{"fault": "status", "status": 500, "when": {"endpoint": "catalogue"}}]})

    report = await world.sync(SyncKind.GROUP, next(iter(before.groups)))

    assert report.outcome is Outcome.FAILED
    assert await world.meta() == before


async def test_a_country_sync_withdraws_what_did_not_come_again(world: World) -> None:
    await world.sync()
    before = await world.bundles()
    country = busiest_country(before)
    of_country = sorted(name for name, bundle in before.items() if country in bundle.countries)
    elsewhere = next(name for name, bundle in before.items() if country not in bundle.countries)
    world.simulator.edit_catalogue(withdraw=[of_country[0], elsewhere])

    report = await world.sync(SyncKind.COUNTRY, country.lower())

    assert report.outcome is Outcome.COMPLETE
    assert set(await world.bundles()) == set(before) - {of_country[0]}
    assert (await world.bundles())[of_country[1]] == before[of_country[1]]


async def test_a_country_page_that_fails_leaves_the_whole_country_as_it_was(world: World) -> None:
    """The original stored the pages it had as the whole country and logged success."""
    await world.sync()
    before, meta = await world.bundles(), await world.meta()
    country = busiest_country(before)
    world.simulator.set_scenario({"rules": [{"fault": "status", "status": 500, "when": {"page": 2}}]})

    async with world.other_client(page_size=10) as client:
        report = await client.sync(SyncKind.COUNTRY, country)

    assert report.outcome is Outcome.FAILED
    assert await world.meta() == meta


async def test_a_country_of_more_than_one_page_is_fetched_to_its_end(world: World) -> None:
    """The original asked for 50 rows and looked for 100 to see whether there is more: always page one only."""
    await world.sync()
    before = await world.bundles()
    country = busiest_country(before)
    expected = sum(country in bundle.countries for bundle in before.values())

    async with world.other_client(page_size=10) as client:
        report = await client.sync(SyncKind.COUNTRY, country)

    assert expected > 10
    assert report.outcome is Outcome.COMPLETE
    assert report.attempts == -(-expected // 10)
    assert await world.bundles() == before


async def test_a_bundle_sync_renews_one_bundle(world: World) -> None:
    await world.sync()
    before = await world.bundles()
    name = sorted(before)[7]

    report = await world.sync(SyncKind.BUNDLE, name)

    assert report.outcome is Outcome.COMPLETE
    assert report.attempts == 1
    after = await world.bundles()
    assert set(after) == set(before)
    assert after[name].groups == before[name].groups
    assert after[name].price == before[name].price


async def test_a_bundle_that_is_gone_is_removed(world: World) -> None:
    await world.sync()
    before = await world.bundles()
    name = sorted(before)[7]
    world.simulator.edit_catalogue(withdraw=[name])

    report = await world.sync(SyncKind.BUNDLE, name)

    assert report.outcome is Outcome.COMPLETE
    assert set(await world.bundles()) == set(before) - {name}


async def test_a_bundle_that_nobody_knows_is_told(world: World) -> None:
    await world.sync()
    before = await world.meta()

    report = await world.sync(SyncKind.BUNDLE, "esim_typo")

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "bundle_not_found"
    assert await world.meta() == before


@pytest.mark.parametrize(("kind", "scope"), [(SyncKind.FULL, "PT"), (SyncKind.GROUP, None), (SyncKind.BUNDLE, None)])
def test_kind_and_scope_must_fit(kind: SyncKind, scope: str | None) -> None:
    with pytest.raises(ValueError, match="scope"):
        SyncRequest(kind, scope)
