"""With mutants pytest runs the fast tests first, and any failing example suffices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tools.mutants import plugin


def quick() -> None:
    pass


@given(st.integers())
def with_examples(number: int) -> None:
    pass


def test_tests_with_examples_run_last_and_the_others_in_their_order() -> None:
    names = ["slow", "first", "slower", "second", "no function"]
    items: list[Any] = [SimpleNamespace(name=name, obj=with_examples if "slow" in name else quick) for name in names]
    del items[-1].obj
    plugin.pytest_collection_modifyitems(items)
    assert [item.name for item in items] == ["first", "second", "no function", "slow", "slower"]


def test_no_smaller_example_is_looked_for_and_all_else_stays() -> None:
    before = settings.get_current_profile_name()
    here = settings()
    try:
        plugin.pytest_configure()
        found = settings()
    finally:
        settings.load_profile(before)
    assert set(found.phases) == {Phase.explicit, Phase.generate}
    assert (found.derandomize, found.deadline, found.max_examples) == (
        here.derandomize,
        here.deadline,
        here.max_examples,
    )
