"""Every block of code and every command of the pages is run, or says in a comment before it why not.

`<!-- not run: REASON -->`, `<!-- run by: tests/FILE -->`, `<!-- before: CODE -->` (runs first, is not shown), and
`<!-- in the background: URL -->` (runs until the page ends; what follows waits until the URL is answered).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from catalog_sync.cli.commands import app
from support.cli import API_KEY, Supplier, running_supplier
from support.doc_blocks import ROOT, Block, blocks, pages, prose

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
SHOWN = {"text", "promql", "mermaid"}
"""Outputs and drawings; queries are parsed by promtool in tests/grafana, diagrams drawn for the site."""
DATA: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}
RUN = {"python", "sh"}
EVERYWHERE = {"--help", "--version", "--install-completion", "--show-completion"}
PORTS = ("8080", "8099")
"""Which pages name; the tests take free ones instead."""
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
LONG = 300.0


def with_code(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language and runs(block) for block in blocks(page))]


def runs(block: Block) -> bool:
    return block.mark not in {"not run", "run by"}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_block_names_a_language_that_is_run_or_says_why_not() -> None:
    wrong = [f"{block}: {block.language or 'no language'}" for block in BLOCKS
             if runs(block) and block.language not in SHOWN | DATA.keys() | RUN | {"ini"}]  # fmt: skip
    assert wrong == []


def test_no_code_hides_in_an_indented_block() -> None:
    found = [f"{ids(page)}: {line}" for page in PAGES for line in re.findall(r"(?:^|\n)\n( {4}\S.*)", prose(page))]
    assert found == []


def test_marks_have_reasons_and_name_tests_that_know_the_page() -> None:
    for block in BLOCKS:
        if block.mark == "not run":
            assert len(block.text.split()) >= 2, block
        if block.mark == "run by":
            assert block.page.name in (ROOT / block.text).read_text(encoding="utf-8"), block


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in DATA and runs(each)], ids=str)
def test_data_can_be_read(block: Block) -> None:
    DATA[block.language](block.code)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "ini" and runs(each)], ids=str)
def test_settings_exist(block: Block) -> None:
    known = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for name in re.findall(r"^([A-Z_]+)=", block.code, re.M):
        assert f"`{name}`" in known, name


@pytest.mark.parametrize("page", with_code("python"), ids=ids)
def test_python(page: Path, tmp_path: Path) -> None:
    """The blocks of a page are one program; those of a page with tests, one file of tests."""
    code = "\n\n".join(
        (block.text + "\n" if block.mark == "before" else "") + block.code
        for block in blocks(page)
        if block.language == "python" and runs(block)
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


class Shell:
    """A folder that looks like the root of the repository, with our programs in front and a supplier to call."""

    def __init__(self, folder: Path, supplier: Supplier) -> None:
        self.folder = folder / "repository"
        self.folder.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in {".git", ".venv", ".env"}:
                (self.folder / entry.name).symlink_to(entry)
        self._programs = self.folder / ".venv/bin"
        self._programs.mkdir(parents=True)
        real = Path(sys.executable).parent
        small = 'if [ "$1" = simulate ]; then set -- "$@" --rate 0 --bundles 300; fi\n'
        self._program("catalog-sync", f'{small}exec {real}/catalog-sync "$@"')
        self._program("catalog-api", f'exec {real}/catalog-api "$@"')
        self._program("curl", f'exec {shutil.which("curl")} --fail-with-body "$@"')
        self._program("python", f'exec {sys.executable} "$@"')
        self._program("make", f'exec {shutil.which("make")} --no-print-directory --silent -n -C {ROOT} "$@" >/dev/null')
        self.ports = {port: _free_port() for port in PORTS}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CATALOG_", "ERROR_", "OTEL_"))
        }
        self.environment = {
            **kept,
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "CATALOG_ENV_FILE": "none",
            "CATALOG_STATE_DIR": str(folder / "state"),
            "CATALOG_API_PORT": self.ports["8080"],
            "CATALOG_SUPPLIER_RATE_PER_S": "0",
            "ESIM_GO_API_KEY": API_KEY,
            "ESIM_GO_BASE_URL": supplier.base_url,
            "ERROR_RETRY_BASE_DELAY": "10",
        }

    def _program(self, name: str, text: str) -> None:
        path = self._programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """The text with the ports that are free."""
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def run(self, page: list[Block]) -> subprocess.CompletedProcess[str]:
        """The blocks of one page in one shell."""
        lines = ["set -e"]
        for block in page:
            if block.mark == "before":
                lines.append(block.text)
            if block.mark == "in the background":
                lines += [f"{{ {block.code.strip()}\n}} >/dev/null 2>&1 &", self._until(block.text)]
            else:
                lines += _checked(block.code)
        return self._bash(self.here("\n".join(lines)))

    def _until(self, url: str) -> str:
        return f"for i in $(seq 600); do curl -s -o /dev/null {url} && break; sleep 0.1; done"

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=LONG)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        return subprocess.CompletedProcess(script, process.returncode, out)


def _checked(code: str) -> Iterator[str]:
    """Commands as they stand; one that says `# exit code N` must end with it."""
    for line in re.split(r"(?<!\\)\n", code.strip()):
        expected = re.search(r"# exit code (\d+)", line)
        if expected:
            yield f"set +e\n{line}\nended=$?; set -e; test $ended -eq {expected[1]}"
        else:
            yield line


@pytest.fixture(scope="module")
def supplier() -> Iterator[Supplier]:
    with running_supplier(300) as running:
        yield running


@pytest.mark.parametrize("page", with_code("sh"), ids=ids)
def test_commands(page: Path, tmp_path: Path, supplier: Supplier) -> None:
    found = [block for block in blocks(page) if block.language == "sh" and runs(block)]
    done = Shell(tmp_path, supplier).run(found)
    assert done.returncode == 0, f"{done.stdout}\n{done.args}"


def test_commands_within_sentences_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    wrong = []
    for page in PAGES:
        text = prose(page)
        wrong += [f"{ids(page)}: make {name}" for name in re.findall(r"`make ([a-z-]+)", text) if name not in targets]
        for line in re.findall(r"`(?:\.venv/bin/)?catalog-sync ([^`]+)`", text):
            wrong += [f"{ids(page)}: catalog-sync {line}: {problem}" for problem in _unknown(line.split())]
    assert wrong == []


def _unknown(words: list[str]) -> Iterator[str]:
    """Commands and options that there are not."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if word.startswith("--"):
            options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            if word.partition("=")[0] not in options | EVERYWHERE:
                yield word
        elif re.fullmatch(r"[a-z-]+", word) and hasattr(command, "commands"):
            if word not in command.commands:
                yield word
                return
            command = command.commands[word]


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])
