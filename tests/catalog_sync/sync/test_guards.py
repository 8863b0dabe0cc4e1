"""The guards before publication."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

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


class TestWhatARefusalSays:
    """A person reads it in the report and the alert, and decides on ``--force``."""

    def said(self, check: Callable[[], None]) -> tuple[str, Mapping[str, object]]:
        with pytest.raises(PublishRefusedError) as caught:
            check()
        return str(caught.value), caught.value.context

    def test_of_bad_rows(self) -> None:
        assert self.said(lambda: guards.check_bad_rows(200, 13, 0.05)) == (
            "13 of 200 rows cannot be used (6.5%), 5.0% are tolerated",
            {"guard": "bad_rows", "rows": 200, "quarantined": 13},
        )

    def test_of_a_drop(self) -> None:
        assert self.said(lambda: guards.check_drop(100, 69, 0.3)) == (
            "the catalogue would shrink from 100 to 69 bundles (31.0%), 30.0% are tolerated; --force publishes it",
            {"guard": "drop", "before": 100, "after": 69},
        )

    def test_of_vanished_groups(self) -> None:
        assert self.said(lambda: guards.check_groups({"b": 2, "a": 5, "c": 1}, {"c": 1})) == (
            "no bundles any more in group 'a', group 'b'; --force publishes it",
            {"guard": "vanished_group", "groups": "a, b", "count": 2},
        )

    def test_of_groups_whose_last_good_data_cannot_be_kept(self) -> None:
        guards.check_all_fetched("the published catalogue is damaged", [])
        text, facts = self.said(lambda: guards.check_all_fetched("the published catalogue is damaged", ["b", "a"]))
        assert text == (
            "the published catalogue is damaged, so the last good data of group 'b', group 'a' cannot be kept; "
            "--force publishes without"
        )
        assert facts == {"guard": "damaged_catalogue", "groups": "b, a", "count": 2}

    def test_of_a_supplier_that_ignores_which_group_is_asked_for(self) -> None:
        guards.check_filtered(["a", "b"], 9)
        text, facts = self.said(lambda: guards.check_filtered(["a", "b"], 10))
        assert text == (
            "the supplier sends the same 10 bundles for every group, so each group would have them all; "
            "--force publishes it"
        )
        assert facts == {"guard": "group_ignored", "groups": "a, b", "bundles": 10}
        text, _ = self.said(lambda: guards.check_filtered(["a"], 12))
        assert "so group 'a' would have them all" in text

    def test_of_an_empty_catalogue(self) -> None:
        assert self.said(lambda: guards.check_not_empty(0)) == (
            "the supplier has no bundles at all; --force publishes the empty catalogue",
            {"guard": "empty"},
        )

    def test_names_ten_groups_in_its_facts_and_all_in_the_text(self) -> None:
        many = {f"group {number:02}": 1 for number in range(12)}
        for check in (lambda: guards.check_groups(many, {}), lambda: guards.check_all_fetched("damaged", list(many))):
            text, facts = self.said(check)
            assert facts["groups"] == ", ".join(sorted(many)[:10])
            assert facts["count"] == 12
            assert all(repr(name) in text for name in many)
        _, facts = self.said(lambda: guards.check_filtered(list(many), 10))
        assert facts["groups"] == ", ".join(sorted(many)[:10])


@pytest.mark.parametrize(
    ("rows", "quarantined", "refused"), [(2, 1, False), (2, 2, True), (40, 2, False), (40, 3, True)]
)
def test_one_bad_row_among_good_ones_is_always_tolerated_and_more_by_their_share(
    rows: int, quarantined: int, refused: bool
) -> None:
    with pytest.raises(PublishRefusedError) if refused else contextlib.nullcontext():
        guards.check_bad_rows(rows, quarantined, 0.05)
