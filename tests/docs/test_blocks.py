"""Every code block of the pages is run, or a comment before it says why not; commands: test_commands.py.

`<!-- not run: REASON -->`, `<!-- run by: tests/FILE -->`, `<!-- before: CODE -->` (runs first, is not shown), and
`<!-- in the background: URL -->` (runs until the page ends; what follows waits until the URL is answered).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.doc_blocks import ROOT, Block, blocks, name, pages, pages_with, prose

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
SHOWN = {"text", "promql", "mermaid"}
"""Outputs and drawings; queries are parsed by promtool in tests/grafana, diagrams drawn for the site."""
DATA: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}
RUN = {"python", "sh"}
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
LONG = 300.0


def test_every_block_names_a_language_that_is_run_or_says_why_not() -> None:
    wrong = [f"{block}: {block.language or 'no language'}" for block in BLOCKS
             if block.runs and block.language not in SHOWN | DATA.keys() | RUN | {"ini"}]  # fmt: skip
    assert wrong == []


def test_no_code_hides_in_an_indented_block() -> None:
    found = [f"{name(page)}: {line}" for page in PAGES for line in re.findall(r"(?:^|\n)\n( {4}\S.*)", prose(page))]
    assert found == []


def test_marks_have_reasons_and_name_tests_that_know_the_page() -> None:
    for block in BLOCKS:
        if block.mark == "not run":
            assert len(block.text.split()) >= 2, block
        if block.mark == "run by":
            assert block.page.name in (ROOT / block.text).read_text(encoding="utf-8"), block


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in DATA and each.runs], ids=str)
def test_data_can_be_read(block: Block) -> None:
    DATA[block.language](block.code)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "ini" and each.runs], ids=str)
def test_settings_exist(block: Block) -> None:
    known = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for variable in re.findall(r"^([A-Z_]+)=", block.code, re.M):
        assert f"`{variable}`" in known, variable


@pytest.mark.parametrize("page", pages_with("python"), ids=name)
def test_python(page: Path, tmp_path: Path) -> None:
    """The blocks of a page are one program; those of a page with tests, one file of tests."""
    code = "\n\n".join(
        (block.text + "\n" if block.mark == "before" else "") + block.code
        for block in blocks(page)
        if block.language == "python" and block.runs
    )
    tests = "def test_" in code
    program = tmp_path / ("test_page.py" if tests else "page.py")
    program.write_text(code, encoding="utf-8")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *SCOPE] if tests else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *command, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
