"""The mutator of Lua scripts changes one place at a time and knows which scripts share a part."""

from __future__ import annotations

import pytest
from tools.mutants.lua import changed, changes, pieces, with_piece


def mutants(line: str) -> set[str]:
    return {change.after for change in changes(line)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("if held then return 0 end", {"", "if true then return 0 end", "if false then return 0 end"}),
        ("if a <= b then", {"if true then", "if a < b then"}),
        ("if a ~= 'x' and b then", {"if a == 'x' and b then", "if a ~= 'XXxXX' and b then", "if a ~= 'x' or b then"}),
        ("if not held then return end", {"if held then return end"}),
        ("redis.call('SET', KEYS[2], token)", {"", "redis.call('SET', KEYS[3], token)"}),
        (
            "for i = 5, 9 do redis.call('PERSIST', KEYS[i]) end",
            {"", "for i = 5, 10 do redis.call('PERSIST', KEYS[i]) end"},
        ),
        ("return {'ok', token}", {"return false", "return {'XXokXX', token}"}),
        ("local top = math.max(a + 1, b)", {"local top = false", "local top = math.min(a + 1, b)"}),
    ],
)
def test_the_operators(line: str, expected: set[str]) -> None:
    found = mutants(line)
    assert expected <= found
    assert line not in found


def test_names_of_commands_stay() -> None:
    assert not any("XX" in mutant for mutant in mutants("redis.call('PERSIST', KEYS[1])"))


def test_one_line_is_changed_and_the_others_stay() -> None:
    script = "\nlocal a = 1\nreturn a\n"
    texts = [changed(script, change) for change in changes(script)]
    assert "\nlocal a = 2\nreturn a\n" in texts
    assert "\nlocal a = 1\nreturn false\n" in texts
    assert script not in texts


def test_a_shared_part_is_changed_in_every_script_that_has_it() -> None:
    scripts = {"_PART": "local x = 1\n", "ONE": "local x = 1\nreturn x\n", "OTHER": "return 2\n"}
    assert pieces(scripts) == {"_PART": "local x = 1\n", "ONE": "return x\n", "OTHER": "return 2\n"}
    assert with_piece(scripts, "local x = 1\n", "local x = 2\n") == {
        "_PART": "local x = 2\n",
        "ONE": "local x = 2\nreturn x\n",
    }
