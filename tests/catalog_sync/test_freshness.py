"""When a catalogue, or an answer from it, is no longer fresh."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

import pytest

from catalog_sync.domain.freshness import Freshness, age_of
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


def test_the_clock_of_another_machine_may_be_a_little_ahead() -> None:
    found = Freshness.of(meta(), "fresh", now=NOW - 20, stale_after=STALE_AFTER)
    assert (found.source, found.age, found.problem) == ("fresh", 0.0, None)


@pytest.mark.fault("S5")
@pytest.mark.parametrize("ahead", [60.0, 86_400.0, 10 * 365 * 86_400.0])
def test_data_from_the_future_is_not_fresh_and_of_unknown_age(ahead: float) -> None:
    found = Freshness.of(meta(), "fresh", now=NOW - 10 - ahead, stale_after=STALE_AFTER)
    assert (found.source, found.age) == ("stale", 0.0)
    assert "in the future" in str(found.problem)
    assert found.older_than(1e12)
    assert age_of(found.as_of, datetime.datetime.fromtimestamp(NOW - 10 - ahead, datetime.UTC)) is None


@pytest.mark.fault("S5")
def test_one_group_from_the_future_makes_its_answers_stale_and_is_the_one_that_is_shown() -> None:
    found = meta(a=20, b=-3600)
    assert judged(found, "fresh", "a").source == "fresh"
    both = judged(found, "fresh", "a", "b")
    assert (both.source, both.as_of, both.from_future) == ("stale", rfc3339(NOW + 3600), True)


def test_what_is_wrong_with_it_is_said_with_the_time() -> None:
    found = Freshness.of(meta(), "fresh", now=NOW - 3600, stale_after=STALE_AFTER)
    assert found.problem == (
        f"as_of {rfc3339(NOW - 10)} is in the future: the clock of the machine that published it, or ours, is wrong"
    )
    assert judged(meta()).problem is None


def test_thirty_seconds_ahead_are_the_clock_of_another_machine_and_more_are_not() -> None:
    for ahead, future in ((30.0, False), (30.5, True)):
        found = Freshness.of(meta(), "fresh", now=NOW - 10 - ahead, stale_after=STALE_AFTER)
        assert (found.from_future, found.age) == (future, 0.0)
        moment = datetime.datetime.fromtimestamp(NOW - 10 - ahead, datetime.UTC)
        assert age_of(rfc3339(NOW - 10), moment) == (None if future else 0.0)


def test_the_age_at_a_time() -> None:
    assert age_of(rfc3339(NOW - 10), datetime.datetime.fromtimestamp(NOW, datetime.UTC)) == 10.0


def test_older_than_it_may_be_is_more_than_that() -> None:
    assert not judged(meta()).older_than(10.0)
    assert judged(meta()).older_than(9.9)


def test_stale_groups_are_listed_in_order_and_those_of_other_answers_are_not() -> None:
    found = meta(b=1, a=1, c=1)
    groups = {name: GroupMeta(1, rfc3339(NOW), stale=name != "c") for name in found.groups}
    assert judged(dataclasses.replace(found, groups=groups)).stale_groups == ("a", "b")
    assert judged(dataclasses.replace(found, groups=groups), "fresh", "b", "c").stale_groups == ("b",)
    assert not judged(dataclasses.replace(found, groups=groups), "fresh", "c").stale


def test_a_catalogue_from_the_past_with_a_fresh_source_is_stale_by_its_age_alone() -> None:
    old = dataclasses.replace(meta(a=1), as_of=rfc3339(NOW - STALE_AFTER - 1))
    assert judged(old).source == "stale"
    assert judged(old, "fresh", "a").source == "fresh"


def test_a_time_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        judged(dataclasses.replace(meta(), as_of="yesterday"))


def test_groups_are_compared_by_the_moment_and_not_by_how_it_is_written() -> None:
    earlier, later = "2027-01-15T08:59:00+01:00", "2027-01-15T08:00:00Z"
    groups = {"a": GroupMeta(1, earlier, stale=False), "b": GroupMeta(1, later, stale=False)}
    now = datetime.datetime.fromisoformat(later).timestamp()
    found = Freshness.of(meta(), "fresh", now=now + 5, stale_after=STALE_AFTER, groups=groups)
    assert (found.as_of, found.age) == (earlier, 65.0)
    found = Freshness.of(meta(), "fresh", now=now - 31, stale_after=STALE_AFTER, groups=groups)
    assert (found.as_of, found.from_future) == (later, True)
