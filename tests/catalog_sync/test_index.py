"""The index gives the same answers as a scan of all bundles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.index import DIMENSIONS, CatalogueIndex, Filter
from catalog_sync.domain.models import Bundle
from support.published import make_bundle

GROUPS = ("Standard Fixed", "Standard - Unlimited Lite", "Regional Bundles")
COUNTRIES = ("PT", "NO", "SE", "US-HI", "CYP")
REGIONS = ("Europe", "Asia", "North America")

bundles = st.lists(
    st.builds(
        make_bundle,
        name=st.sampled_from([f"esim_{number}" for number in range(30)]),
        groups=st.lists(st.sampled_from(GROUPS), max_size=2, unique=True).map(tuple),
        countries=st.lists(st.sampled_from(COUNTRIES), max_size=3, unique=True).map(tuple),
        region=st.sampled_from([None, *REGIONS]),
        duration_days=st.sampled_from([1, 3, 7, 30, 90]),
    ),
    max_size=40,
)
filters = st.builds(
    lambda group, country, region, days: Filter(
        group, country, region, min(days) if days else None, max(days) if days else None
    ),
    st.sampled_from([None, *GROUPS, "standard-fixed", "STANDARD UNLIMITED LITE", "no such group"]),
    st.sampled_from([None, *COUNTRIES, "pt", "us-hi", "XX"]),
    st.sampled_from([None, *REGIONS, "europe", "north-america"]),
    st.lists(st.integers(0, 100), max_size=2),
)


def naive(catalogue: dict[str, Bundle], wanted: Filter) -> list[str]:
    def fits(bundle: Bundle) -> bool:
        group = wanted.group is None or same_spelling(wanted.group) in map(same_spelling, bundle.groups)
        country = wanted.country is None or wanted.country.upper() in bundle.countries
        region = wanted.region is None or same_spelling(wanted.region) == same_spelling(bundle.region or "")
        low, high = wanted.min_days or 0, 10**9 if wanted.max_days is None else wanted.max_days
        return group and country and region and low <= bundle.duration_days <= high

    return sorted(name for name, bundle in catalogue.items() if fits(bundle))


@given(bundles, st.sets(st.sampled_from([f"esim_{number}" for number in range(30)])), filters)
def test_queries_equal_a_naive_filter(rows: list[Bundle], withdrawn: set[str], wanted: Filter) -> None:
    index = CatalogueIndex()
    catalogue: dict[str, Bundle] = {}
    for row in rows:
        stored = index.add(row)
        catalogue[stored.name] = stored
    for name in withdrawn:
        index.discard(name)
        catalogue.pop(name, None)
    assert index.match(wanted) == naive(catalogue, wanted)
    assert index.names() == sorted(catalogue)


@given(bundles)
def test_the_index_survives_its_way_through_the_hashes(rows: list[Bundle]) -> None:
    index = CatalogueIndex()
    for row in rows:
        index.add(row)
    again = CatalogueIndex()
    for dimension in DIMENSIONS:
        for value, names in index.entries(dimension):
            again.tag(dimension, value, names)
    assert again.names() == index.names()
    for dimension in DIMENSIONS:
        assert {value: set(names) for value, names in again.entries(dimension)} == {
            value: set(names) for value, names in index.entries(dimension)
        }
    assert again.names_sha256() == index.names_sha256()


def test_domain_4_4_1_indexes_of_several_groups_do_not_overwrite_each_other() -> None:
    index = CatalogueIndex()
    index.add(make_bundle("a", groups=("Standard Fixed",), countries=("PT",)))
    index.add(make_bundle("b", groups=("Regional Bundles",), countries=("PT",)))
    assert index.match(Filter(country="PT")) == ["a", "b"]


def test_a_bundle_that_comes_from_two_groups_belongs_to_both() -> None:
    index = CatalogueIndex()
    index.add(make_bundle("a", groups=("Standard Fixed",)))
    stored = index.add(make_bundle("a", groups=("Regional Bundles",)))
    assert set(stored.groups) == {"Standard Fixed", "Regional Bundles"}
    assert index.match(Filter(group="standard-fixed")) == index.match(Filter(group="regional bundles")) == ["a"]
    assert index.group_counts() == {"Standard Fixed": 1, "Regional Bundles": 1}


def test_a_discarded_bundle_is_in_no_posting() -> None:
    index = CatalogueIndex()
    index.add(make_bundle("a"))
    index.add(make_bundle("b"))
    index.discard("a")
    index.discard("never there")
    assert [names for dimension in DIMENSIONS for _, names in index.entries(dimension)] == [["b"]] * 4
    assert len(index) == 1


def test_contradicting_durations_are_refused() -> None:
    with pytest.raises(ValueError, match="min_days"):
        Filter(min_days=8, max_days=7)
