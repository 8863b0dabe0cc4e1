"""The guards in front of publication."""

from __future__ import annotations

import pytest

from catalog_sync.domain.errors import PublishRefusedError
from catalog_sync.sync import guards


@pytest.mark.parametrize(("rows", "quarantined"), [(0, 0), (100, 0), (100, 5), (20, 1), (5, 1), (2, 1)])
def test_few_bad_rows_are_tolerated(rows: int, quarantined: int) -> None:
    guards.check_bad_rows(rows, quarantined, 0.05)


@pytest.mark.parametrize(("rows", "quarantined"), [(100, 6), (20, 2), (1, 1)])
def test_too_many_bad_rows_refuse_the_publication(rows: int, quarantined: int) -> None:
    with pytest.raises(PublishRefusedError, match="cannot be used") as caught:
        guards.check_bad_rows(rows, quarantined, 0.05)
    assert caught.value.error_type == "publish_refused"


def test_with_a_ratio_of_zero_no_bad_row_is_tolerated() -> None:
    with pytest.raises(PublishRefusedError):
        guards.check_bad_rows(100, 1, 0.0)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 10), (100, 70), (100, 500)])
def test_growth_and_a_small_drop_pass(before: int, after: int) -> None:
    guards.check_drop(before, after, 0.3)


@pytest.mark.parametrize(("before", "after"), [(100, 69), (100, 0), (1, 0)])
def test_a_large_drop_refuses_the_publication(before: int, after: int) -> None:
    with pytest.raises(PublishRefusedError, match="--force"):
        guards.check_drop(before, after, 0.3)


@pytest.mark.parametrize("after", [{"a": 5}, {"a": 5, "b": 0}])
def test_a_vanished_group_refuses_the_publication(after: dict[str, int]) -> None:
    with pytest.raises(PublishRefusedError, match="group 'b'"):
        guards.check_groups({"a": 5, "b": 2}, after)


def test_a_group_that_was_always_empty_may_vanish_and_new_ones_may_come() -> None:
    guards.check_groups({"a": 5, "b": 0}, {"a": 4, "c": 1})


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(PublishRefusedError, match="no bundles at all"):
        guards.check_not_empty(0)
    guards.check_not_empty(1)
