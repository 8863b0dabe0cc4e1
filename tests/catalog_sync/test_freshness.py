"""When a catalogue, or an answer from it, is no longer called fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.models import CatalogueMeta, GroupMeta, SyncKind
from catalog_sync.domain.times import rfc3339

if TYPE_CHECKING:
    from catalog_sync.domain.models import Source

NOW = 1_800_000_000.0
STALE_AFTER = 3600.0


def meta(*, stale: str | None = None, **ages: float) -> CatalogueMeta:
    """A catalogue fetched ten seconds ago, with groups of these ages in seconds."""
    groups = {name: GroupMeta(1, rfc3339(NOW - age), stale=name == stale) for name, age in ages.items()}
    return CatalogueMeta("v1", rfc3339(NOW - 10), len(groups), "", groups, 1, "0" * 32, SyncKind.FULL, None)


def judged(found: CatalogueMeta, source: Source = "fresh", *groups: str, **options: bool) -> Freshness:
    chosen = {name: found.groups[name] for name in groups} if groups else None
    return Freshness.of(found, source, now=NOW, stale_after=STALE_AFTER, groups=chosen, **options)


def test_a_catalogue_is_as_old_as_it_says_of_itself() -> None:
    assert judged(meta(a=20, b=30)) == Freshness("fresh", rfc3339(NOW - 10), 10.0)


@pytest.mark.parametrize(("age", "stale"), [(STALE_AFTER, False), (STALE_AFTER + 1, True)])
def test_data_older_than_allowed_is_stale(age: float, *, stale: bool) -> None:
    found = judged(meta(a=age, b=1), "fresh", "a", "b")
    assert (found.stale, found.age, found.as_of) == (stale, age, rfc3339(NOW - age))


def test_an_answer_is_about_its_groups_alone() -> None:
    found = meta(a=1, b=2, c=9_000_000, stale="c")
    assert judged(found, "fresh", "a", "b") == Freshness("fresh", rfc3339(NOW - 2), 2.0)
    assert judged(found, "fresh", "c").stale_groups == ("c",)
    assert judged(found).source == "stale"
    assert judged(found).stale_groups == ("c",)


def test_no_group_at_all_is_judged_by_the_catalogue() -> None:
    found = Freshness.of(meta(stale="a", a=1), "fresh", now=NOW, stale_after=STALE_AFTER, groups={})
    assert found == Freshness("fresh", rfc3339(NOW - 10), 10.0)


def test_a_stale_bundle_makes_the_answer_stale() -> None:
    assert judged(meta(a=1), "fresh", "a", stale_bundles=True).source == "stale"


@pytest.mark.parametrize("source", ["stale", "snapshot"])
def test_a_worse_source_is_never_improved_or_renamed(source: Source) -> None:
    assert judged(meta(a=1), source).source == source
    assert judged(meta(a=1, stale="a"), source).source == source
    assert judged(meta(a=1), source).stale


def test_a_clock_that_went_back_makes_no_negative_age() -> None:
    assert Freshness.of(meta(), "fresh", now=NOW - 100, stale_after=STALE_AFTER).age == 0
