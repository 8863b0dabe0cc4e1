"""The rule of the shared rate limit, with time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.supplier.turns import ALONE_AFTER, LONGEST_TURN, MARGIN, Spacing, Turns

NOW = 1000.0
TEN = Spacing.of(10)


def test_the_spacing_of_a_rate() -> None:
    assert (TEN.limit, TEN.window, TEN.gap) == pytest.approx((10, 1 + MARGIN, (1 + MARGIN) / 10))
    slow = Spacing.of(0.5)
    assert (slow.limit, slow.window, slow.gap) == pytest.approx((1, 2 * (1 + MARGIN), 2 * (1 + MARGIN)))


def test_a_process_alone_sends_at_once_and_reserves_a_window_at_most() -> None:
    turns = Turns()
    for number in range(20):
        turn = turns.take(NOW + number / 1000, "a", TEN, cost=1)
        assert (turn.wait, turn.kept, turn.processes) == (0, True, 1)
    assert turns.next_turn == pytest.approx(NOW + 0.019 + TEN.window)


def test_several_take_turns_at_even_distances() -> None:
    turns = Turns()
    turns.take(NOW - 0.1, "a", TEN)
    turns.take(NOW - 0.05, "b", TEN)
    waits = [turns.take(NOW + index / 1000, name, TEN, cost=1) for index, name in enumerate("abab")]
    begins = [index / 1000 + turn.wait for index, turn in enumerate(waits)]
    assert begins == pytest.approx([0, TEN.gap, 2 * TEN.gap, 3 * TEN.gap])
    assert all(turn.kept and turn.processes == 2 for turn in waits)


def test_a_turn_that_is_too_far_away_is_not_kept() -> None:
    turns = Turns(next_turn=NOW + 1, processes={"b": NOW - 0.1})
    turn = turns.take(NOW, "a", TEN, cost=1)
    assert turn.wait == pytest.approx(1)
    assert not turn.kept
    assert turns.next_turn == NOW + 1
    assert turns.take(NOW + 1 - LONGEST_TURN, "a", TEN, cost=1).kept


def test_a_look_takes_no_turn() -> None:
    turns = Turns(next_turn=NOW + 0.2, processes={"b": NOW - 0.1})
    assert not turns.take(NOW, "a", TEN).kept
    assert turns.next_turn == NOW + 0.2


def test_a_process_that_requested_nothing_for_a_while_counts_as_gone() -> None:
    turns = Turns(processes={"b": NOW})
    assert turns.take(NOW + ALONE_AFTER - 0.01, "a", TEN).processes == 2
    assert turns.take(NOW + ALONE_AFTER, "a", TEN).processes == 1


def test_a_pause_holds_for_all_and_the_longest_counts() -> None:
    turns = Turns()
    turns.take(NOW, "a", TEN, pause=60)
    turns.take(NOW + 1, "b", TEN, pause=5)
    turn = turns.take(NOW + 10, "b", TEN, cost=1)
    assert turn.wait == pytest.approx(50)
    assert not turn.kept


def test_times_of_a_clock_that_was_set_back_are_not_believed() -> None:
    turns = Turns(next_turn=NOW + 1e6, processes={"b": NOW + 1e6, "c": NOW - 0.1})
    turn = turns.take(NOW, "a", TEN, cost=1)
    assert turn.processes == 2
    assert turn.wait == pytest.approx(TEN.window + LONGEST_TURN)


def test_it_is_kept_as_json() -> None:
    turns = Turns(NOW, NOW + 5.25, {"a": NOW - 0.125})
    assert Turns.load(turns.dump()) == turns


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"next_turn": null, "paused_until": 0, "processes": {}}',
     b'{"next_turn": NaN, "paused_until": 0, "processes": {}}',
     b'{"next_turn": 0, "paused_until": 0, "processes": []}',
     b'{"next_turn": 0, "paused_until": 0, "processes": {"a": Infinity}}'],
)  # fmt: skip
def test_what_is_not_usable_counts_as_new(text: bytes) -> None:
    assert Turns.load(text) == Turns()


@given(
    st.sampled_from([0.5, 2.0, 10.0, 40.0]),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=60),
)
def test_several_never_get_more_than_the_limit_within_a_window(rate: float, plan: list[tuple[int, str]]) -> None:
    """The turns of processes that all stay in touch."""
    spacing = Spacing.of(rate)
    turns = Turns()
    now = NOW
    begins: list[float] = []
    for elapsed, name in plan:
        now += elapsed / 100 / rate
        turns.processes.update(dict.fromkeys("abc", now - 0.001))
        turn = turns.take(now, name, spacing, cost=1)
        if turn.kept:
            begins.append(now + turn.wait)
    for index, start in enumerate(begins):
        assert sum(1 for at in begins[index:] if at < start + spacing.window - 1e-6) <= spacing.limit
