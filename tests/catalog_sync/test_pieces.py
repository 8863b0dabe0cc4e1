"""Work in pieces: nothing is lost or reordered, and other tasks run in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.pieces import PIECE, in_pieces
from support.turns import Turns


@given(st.integers(0, 30), st.integers(1, 12))
async def test_everything_comes_once_and_in_order(count: int, size: int) -> None:
    pieces = [piece async for piece in in_pieces(range(count), size)]
    assert [each for piece in pieces for each in piece] == list(range(count))
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(pieces)


async def test_others_run_between_two_pieces() -> None:
    turns = Turns()
    step = turns.counting(int)
    async with turns.watched():
        async for piece in in_pieces(range(10 * PIECE)):
            for each in piece:
                step(each)
    assert (turns.steps, turns.longest) == (10 * PIECE, PIECE)
