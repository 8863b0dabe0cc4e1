"""Every command of the pages is run, in one shell per page; those within sentences exist."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from catalog_sync.cli.commands import app
from support.cli import API_KEY, Supplier, running_supplier
from support.doc_blocks import ROOT, Block, blocks, name, pages, pages_with, prose

EVERYWHERE = {"--help", "--version", "--install-completion", "--show-completion"}
PORTS = ("8080", "8099")
"""Which pages name; the tests take free ones instead."""
LONG = 280.0


class Shell:
    """A folder that looks like the root of the repository, with our programs first on the PATH and a supplier."""

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

    def _program(self, program: str, text: str) -> None:
        path = self._programs / program
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """The text with free ports."""
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def run(self, page: list[Block]) -> subprocess.CompletedProcess[str]:
        """Runs the blocks of one page in one shell."""
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
    """Commands unchanged; one with `# exit code N` must exit with N."""
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


@pytest.mark.parametrize("page", pages_with("sh"), ids=name)
def test_commands(page: Path, tmp_path: Path, supplier: Supplier) -> None:
    found = [block for block in blocks(page) if block.language == "sh" and block.runs]
    done = Shell(tmp_path, supplier).run(found)
    assert done.returncode == 0, f"{done.stdout}\n{done.args}"


def test_commands_within_sentences_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    wrong = []
    for page in pages():
        text = prose(page)
        wrong += [f"{name(page)}: make {each}" for each in re.findall(r"`make ([a-z-]+)", text) if each not in targets]
        for line in re.findall(r"`(?:\.venv/bin/)?catalog-sync ([^`]+)`", text):
            wrong += [f"{name(page)}: catalog-sync {line}: {problem}" for problem in _unknown(line.split())]
    assert wrong == []


def _unknown(words: list[str]) -> Iterator[str]:
    """Commands and options that do not exist."""
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
