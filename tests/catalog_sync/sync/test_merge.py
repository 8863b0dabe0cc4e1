"""Which bundle is in which group."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.groups import GroupNames
from catalog_sync.sync.merge import Membership


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xyz")), max_size=60))
def test_membership_agrees_with_plain_sets(steps: list[tuple[bool, str, str]]) -> None:
    membership = Membership()
    model: defaultdict[str, set[str]] = defaultdict(set)
    for joins, group, name in steps:
        if joins:
            assert membership.join(group, name) == (name not in model[group])
            model[group].add(name)
        else:
            model[group].discard(name)
            membership.leave(group, name)
        for each in "xyz":
            assert set(membership.groups(each)) == {key for key, names in model.items() if each in names}
            assert (each in membership) == any(each in names for names in model.values())
        for key in "abc":
            assert set(membership.names(key)) == model[key]
        for keys in ("a", "ab", "abc"):
            assert membership.same_in(keys) == (bool(model["a"]) and all(model[key] == model["a"] for key in keys))


@pytest.mark.parametrize("spelling", ["Standard - Fixed", "Standard Fixed", "standard-fixed", "STANDARD_FIXED "])
def test_spellings_of_a_group_meet_in_the_listed_one(spelling: str) -> None:
    names = GroupNames(["Standard - Fixed", "Regional"])

    assert names.spelled(spelling) == "Standard - Fixed"
    assert names.listed(spelling) == "Standard - Fixed"


def test_an_unlisted_group_keeps_its_own_name() -> None:
    names = GroupNames(["Standard - Fixed"])

    assert names.spelled("Hidden") == "Hidden"
    assert names.listed("Hidden") is None
