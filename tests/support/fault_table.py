"""The table of faults: which rows there are, which tests prove them, and how those ended.

A test names its rows with ``@pytest.mark.fault("F01", "L4")``. The page docs/faults.md is made of those marks without
running anything; ``--fault-table=FILE`` (``-`` for the terminal) adds how the tests of each row ended.
"""

from __future__ import annotations

import ast
import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "faults.md"

_INTRODUCTION = """\
# Faults and the tests that prove them

This page lists the faults that were provoked, the behaviour that is expected for each, and the tests that prove it.
`make docs` generates it from the marks of the tests. `make faults` runs these tests and prints the table with their
results; CI prints it at the end of its run.
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One fault: ``name`` (``F01``), what was tried and what must hold."""

    name: str
    fault: str
    holds: str


def groups() -> dict[str, tuple[Row, ...]]:
    """All rows by the title of their group, in the order of the page."""
    listed = tomllib.loads((TESTS / "fault_rows.toml").read_text(encoding="utf-8"))
    return {group["title"]: tuple(Row(*row) for row in group["rows"]) for group in listed["group"]}


def rows() -> dict[str, Row]:
    """All rows by name."""
    return {row.name: row for group in groups().values() for row in group}


def proofs() -> dict[str, list[tuple[Path, str]]]:
    """By name used in a mark, the test files and test functions, found by reading the sources."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "mark.fault(" in source:
            for name, test in _marked(ast.parse(source).body):
                found.setdefault(name, []).append((path, test))
    return found


def _marked(body: list[ast.stmt], inherited: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _marked(node.body, (*inherited, *_names(node)))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            for name in (*inherited, *_names(node)):
                yield name, node.name


def _names(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The rows that the marks of one test or class name, those of its parameters included.

    A helper named ``fault`` makes marked parameters; its first argument names the rows, apart by spaces.
    """
    calls = [part for decorator in node.decorator_list for part in ast.walk(decorator) if isinstance(part, ast.Call)]
    marks = [argument for call in calls if ast.unparse(call.func) == "pytest.mark.fault" for argument in call.args]
    marked = [call.args[0] for call in calls if ast.unparse(call.func) == "fault"]
    return sorted({name for argument in (*marks, *marked) for name in ast.literal_eval(argument).split()})


def page() -> str:
    """docs/faults.md as it should be."""
    proven = proofs()
    lines = [_INTRODUCTION]
    for title, members in groups().items():
        lines += [f"## {title}", "", "| row | fault | expected behaviour | proven by |", "|---|---|---|---|"]
        for row in members:
            tests = ", ".join(
                f"[{test.removeprefix('test_')}](../{path.relative_to(ROOT)})"
                for path, test in proven.get(row.name, ())
            )
            lines.append(f"| {row.name} | {row.fault} | {row.holds} | {tests or '—'} |")
        lines.append("")
    return "\n".join(lines)


def result_table(results: Mapping[str, Mapping[str, int]]) -> str:
    """The rows with how their tests ended. ``results``: for each row, how many tests ended with which outcome."""
    lines = ["| row | fault | expected behaviour | tests |", "|---|---|---|---|"]
    for row in rows().values():
        ended = results.get(row.name, {})
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ended.items())) or "not run"
        lines.append(f"| {row.name} | {row.fault} | {row.holds} | {counts} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
