"""What the pages for contributors name exists: boxes of diagrams in the code, paths in the tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PAGES = (PAGE, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")
SECTION = re.compile(r"below `(src/\w+)`.*?```mermaid\n(.*?)```", re.DOTALL)
BOX = re.compile(r'\["([^"<]+)<br/>([^"]+)"\]')
ENTRY_POINTS = {"src/otel_resilience": "execute", "src/catalog_sync": "parts"}
MADE_AT_RUNTIME = {".env", ".venv/", ".pre-commit-config.yaml"}


def pictures() -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in SECTION.finditer(PAGE.read_text(encoding="utf-8"))]


def defined(path: Path) -> Iterator[str]:
    """Every class, function, method and constant of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            )
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


BOXES = [(folder, name, file) for folder, picture in pictures() for name, file in BOX.findall(picture)]


def test_there_are_two_pictures() -> None:
    assert [folder for folder, _ in pictures()] == ["src/otel_resilience", "src/catalog_sync"]


@pytest.mark.parametrize(("folder", "name", "file"), BOXES, ids=lambda text: text.rpartition("/")[2])
def test_every_box_is_defined_where_the_picture_says(folder: str, name: str, file: str) -> None:
    path = ROOT / folder / file
    assert path.is_file()
    assert name in set(defined(path)), f"{file} defines no {name}: change docs/architecture.md with it"


@pytest.mark.parametrize(("folder", "picture"), pictures())
def test_every_box_can_be_reached(folder: str, picture: str) -> None:
    """An arrow that was mistyped makes a box without a name, or leaves one alone."""
    boxes = set(re.findall(r"(\w+)\[", picture))
    arrows = [re.split(r"\s*-\.?->(?:\|\"[^\"]*\"\|)?\s*", line.strip()) for line in picture.splitlines()[1:]]
    pairs = [(start.partition("[")[0], end.partition("[")[0]) for start, end in arrows]
    assert {name for pair in pairs for name in pair} == boxes
    assert {end for _, end in pairs} == boxes - {ENTRY_POINTS[folder]}


def paths_named(page: Path) -> list[str]:
    """What stands in backticks and looks like a file or a folder of this repository."""
    tops = {path.name for path in ROOT.iterdir()}
    words = re.findall(r"`([\w./*<>-]+)`", page.read_text(encoding="utf-8"))
    found = (word for word in words if "/" in word or re.search(r"\.(?:py|md|toml|txt|yaml|yml|example)$", word))
    return [word for word in found if word.partition("/")[0] in tops or "." in word.rpartition("/")[2]]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_path_that_it_names_exists(page: Path) -> None:
    named = [path for path in paths_named(page) if "<" not in path and path not in MADE_AT_RUNTIME]
    rooms = (ROOT, ROOT / "src/otel_resilience", ROOT / "src/catalog_sync")
    assert named
    assert [path for path in named if not any(list(room.glob(path)) for room in rooms)] == []
