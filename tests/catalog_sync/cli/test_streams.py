"""Streams that are closed, full, abandoned by their reader or unable to encode: a clear end, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import Cli

PROGRAMS = (
    "catalog_sync",
    "catalog_sync.api.command",
    "catalog_sync.worker",
    "catalog_sync.worker.beat",
    "catalog_sync.up",
)
COMMANDS = ("--version", "--help", "run --help", "syncs", "serach")


def shell(line: str, state: Path) -> tuple[int, str, str]:
    """One line of a shell in which ``$SYNC`` is the command line, without supplier and Redis."""
    cli = Cli(state, None, "redis://127.0.0.1:1/0")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CATALOG_", "ERROR_", "OTEL_"))},
        **cli.env,
        "CATALOG_ENV_FILE": "none",
        "SYNC": f"{shlex.quote(sys.executable)} -m",
    }
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=env,
        capture_output=True,
        text=True,
        errors="replace",  # in whatever encoding it is
        timeout=200,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.fault("U10")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_as_ever_where_its_output_is_closed(command: str, tmp_path: Path) -> None:
    code = shell(f"$SYNC catalog_sync {command}", tmp_path)[0]
    for closed in (">&-", ">&- 2>&- <&-"):
        assert shell(f"$SYNC catalog_sync {command} {closed}", tmp_path)[0] == code


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_so_does_every_program(program: str, option: str, tmp_path: Path) -> None:
    assert shell(f"$SYNC {program} {option} >&-", tmp_path)[0] == 0
    assert shell(f"$SYNC {program} {option} | exec true", tmp_path)[0] in (0, 141)


@pytest.mark.parametrize("command", ["--version", "--help", "run --help", "syncs", "alerts", "trace --help"])
def test_a_full_disk_behind_the_output_is_told(command: str, tmp_path: Path) -> None:
    """In one line: it is no unexpected error of the command, and the log is spared it."""
    for buffering in ("", "PYTHONUNBUFFERED=1 "):
        code, _, told = shell(f"unset REDIS_URL; {buffering}$SYNC catalog_sync {command} >/dev/full", tmp_path)
        assert (code, told) == (1, f"the output cannot be written: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_so_it_is_by_every_program(program: str, tmp_path: Path) -> None:
    code, _, told = shell(f"$SYNC {program} --help >/dev/full", tmp_path)
    assert (code, told) == (1, f"the output cannot be written: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.parametrize("command", ["syncs", "serach", "run", "search --json"])
def test_a_full_disk_behind_the_messages_changes_neither_output_nor_exit_code(command: str, tmp_path: Path) -> None:
    without = "unset ESIM_GO_API_KEY REDIS_URL; "
    code, out, _ = shell(f"{without}$SYNC catalog_sync {command}", tmp_path)
    for full in ("2>/dev/full", "2>&-"):
        there, shown, _ = shell(f"{without}$SYNC catalog_sync {command} {full}", tmp_path)
        assert there == code
        assert "--json" in command or shown == out  # JSON has a correlation ID of its own


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["--help", "syncs", "serach"])
def test_an_encoding_that_lacks_characters_is_not_an_error(command: str, encoding: str, tmp_path: Path) -> None:
    code = shell(f"$SYNC catalog_sync {command}", tmp_path)[0]
    line = f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING={encoding} $SYNC catalog_sync {command}"
    assert shell(line, tmp_path)[0] == code


def test_the_size_of_the_terminal_is_asked_by_way_of_the_streams(tmp_path: Path) -> None:
    """Some ask the streams that Python opened: both are open and the same."""
    code, out, told = shell(
        '$SYNC timeit -n1 -r1 -s "import sys; from catalog_sync.terminal.streams import prepare_streams as p; p(); p()"'
        ' "print(sys.__stdout__.fileno(), sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr)"',
        tmp_path,
    )
    assert (code, out.splitlines()[0]) == (0, "1 True True"), told


def test_what_an_encoding_lacks_reads_well_and_leaves_json_json(tmp_path: Path) -> None:
    text = 'a · b → "caf\u00e9 \U0001f600 世"'
    (tmp_path / "write.py").write_text(
        "import sys\nfrom catalog_sync.terminal.streams import prepare_streams\nprepare_streams()\n"
        f"sys.stdout.write({text!a})\n"
    )
    ascii_only = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii"
    code, out, told = shell(f"{ascii_only} {shlex.quote(sys.executable)} {tmp_path}/write.py", tmp_path)
    assert (code, out) == (0, 'a - b -> "caf\\u00e9 \\ud83d\\ude00 \\u4e16"'), told
    assert json.loads(out.partition("-> ")[2]) == "caf\u00e9 \U0001f600 世"
