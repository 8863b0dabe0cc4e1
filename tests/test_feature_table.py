"""The feature table: each of our entries names an existing test, each entry of another library its source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
TEXT = PAGE.read_text(encoding="utf-8")
OURS = "otel_resilience"
SITES = {
    "Polly and Http.Resilience": ("https://www.pollydocs.org/", "https://learn.microsoft.com/"),
    "resilience4j": ("https://resilience4j.readme.io/", "https://github.com/resilience4j/"),
    "failsafe-go": ("https://failsafe-go.dev/", "https://pkg.go.dev/github.com/failsafe-go/"),
    "stamina": ("https://stamina.hynek.me/",),
    "tenacity": ("https://tenacity.readthedocs.io/",),
}
NOTHING = "–"
SOURCES = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", TEXT, re.M))
TEST = re.compile(r"\[[^]]+\]\((\S+) \"([\w.]+)\"\)")
SOURCE = re.compile(r"\[[^]]+\]\[([\w-]+)\]")


def entries() -> list[tuple[str, str, str]]:
    """Row, column and text of every cell."""
    found = []
    columns: list[str] = []
    for line in TEXT.splitlines():
        if not line.startswith("|"):
            columns = []
        elif not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if columns:
                found += [(cells[0], column, cell) for column, cell in zip(columns[1:], cells[1:], strict=True)]
            else:
                columns = cells
    return found


ENTRIES = entries()
CELLS_OF_OURS = [(row, cell) for row, column, cell in ENTRIES if column == OURS]


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in tree.body if isinstance(node, functions)}
    for group in tree.body:
        if isinstance(group, ast.ClassDef):
            found |= {f"{group.name}.{node.name}" for node in group.body if isinstance(node, functions)}
    return found


def test_the_columns_are_ours_and_those_of_the_others() -> None:
    assert {column for _, column, _ in ENTRIES} == {OURS, *SITES}
    assert len(CELLS_OF_OURS) > 40


@pytest.mark.parametrize(("row", "cell"), CELLS_OF_OURS, ids=lambda text: text[:40])
def test_an_entry_of_ours_leads_to_tests_that_exist(row: str, cell: str) -> None:
    links = TEST.findall(cell)
    assert links, f"{row} is held by no test"
    assert len(links) == cell.count("["), f"a link of {row} has no test's name"
    for path, name in links:
        file = (PAGE.parent / path).resolve()
        assert file.name.startswith("test_")
        assert name in names_in(file), f"{file.name} has no {name}: change docs/features.md with it"


@pytest.mark.parametrize("column", SITES)
def test_an_entry_of_another_library_has_its_source(column: str) -> None:
    for row, _, cell in (entry for entry in ENTRIES if entry[1] == column):
        if cell == NOTHING:
            continue
        labels = SOURCE.findall(cell)
        assert labels, f"{row} says of {column} without a source: {cell}"
        assert [label for label in labels if not SOURCES[label].startswith(SITES[column])] == []


def test_every_source_is_cited() -> None:
    assert set(SOURCE.findall(TEXT)) == set(SOURCES)
