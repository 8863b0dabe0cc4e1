"""Mutants of Lua scripts that stand as strings in a Python module. Each changes one place of one line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

_TOKEN = re.compile(
    r"""(?P<string>'[^']*')|(?P<number>\b\d+\b)|(?P<operator>==|~=|<=|>=|\.\.|[-+*/^<>])|(?P<name>[A-Za-z_][\w.]*)"""
)
_SWAPPED = {
    "==": "~=", "~=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "+": "-", "-": "+", "*": "/", "/": "*",
    "and": "or", "or": "and", "math.max": "math.min", "math.min": "math.max", "true": "false", "false": "true",
}  # fmt: skip
_CALL = re.compile(r"redis\.p?call\($")
_CONDITION = re.compile(r"\bif (?P<condition>.+?) then\b")
_STATEMENT = re.compile(r"^\s*(?:redis\.call\(.*\)|for .* do .* end|if .* then .* end)$")
_RETURN = re.compile(r"\breturn (?P<value>.+?)(?= end\b|$)")
_VALUE = re.compile(r"^\s*local \w+ = (?P<value>.+)$")


@dataclasses.dataclass(frozen=True)
class Change:
    """One line of a script, before and after."""

    number: int
    before: str
    after: str


def changes(script: str) -> Iterator[Change]:
    """Every change that one of the operators makes, each once."""
    for number, line in enumerate(script.splitlines()):
        for after in dict.fromkeys(_mutated(line)):
            if after != line:
                yield Change(number, line, after)


def changed(script: str, change: Change) -> str:
    """The script with the change."""
    lines = script.splitlines(keepends=True)
    lines[change.number] = lines[change.number].replace(change.before, change.after)
    return "".join(lines)


def pieces(scripts: Mapping[str, str]) -> dict[str, str]:
    """The text of each script without the parts that have a name of their own."""
    alone = {}
    for name, text in scripts.items():
        shared = [other for key, other in scripts.items() if key != name and other in text]
        for other in shared:
            text = text.replace(other, "")
        alone[name] = text
    return alone


def with_piece(scripts: Mapping[str, str], before: str, after: str) -> dict[str, str]:
    """The scripts that hold a piece, with another in its place."""
    return {name: text.replace(before, after) for name, text in scripts.items() if before in text}


def _mutated(line: str) -> Iterator[str]:
    if _STATEMENT.match(line):
        yield ""
    for found in _CONDITION.finditer(line):
        for constant in ("true", "false"):
            yield _replaced(line, found.span("condition"), constant)
    for pattern in (_RETURN, _VALUE):
        for found in pattern.finditer(line):
            yield _replaced(line, found.span("value"), "false")
    if " not " in line:
        yield line.replace(" not ", " ", 1)
    yield from _tokens_mutated(line)


def _tokens_mutated(line: str) -> Iterator[str]:
    for found in _TOKEN.finditer(line):
        text = found.group()
        if found["number"]:
            yield _replaced(line, found.span(), str(int(text) + 1))
        elif found["string"]:
            # Another name of a command is an error in every test.
            if not _CALL.search(line[: found.start()]):
                yield _replaced(line, found.span(), f"'XX{text[1:-1]}XX'")
        elif text in _SWAPPED:
            yield _replaced(line, found.span(), _SWAPPED[text])


def _replaced(line: str, span: tuple[int, int], text: str) -> str:
    return line[: span[0]] + text + line[span[1] :]
