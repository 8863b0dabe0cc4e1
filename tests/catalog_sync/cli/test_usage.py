"""Wrong arguments, wrong settings, and getting started."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

import catalog_sync
from catalog_sync.cli.main import main
from support.cli import Cli

COMMANDS = ("demo", "run", "search", "show", "status", "simulate", "alerts", "doctor")
ACTIONS = ("list", "test", "ack", "close", "silence", "resend")
PATHS = ((), *((command,) for command in COMMANDS), *(("alerts", action) for action in ACTIONS))
PROGRAMS = {
    "catalog_sync": "catalog-sync",
    "catalog_sync.api.command": "catalog-api",
    "catalog_sync.worker": "catalog-worker",
    "catalog_sync.worker.beat": "catalog-beat",
    "catalog_sync.up": "up",
    "esim_go_simulator": "catalog-sync simulate",
}
ERROR_FIELDS = {"type", "class", "severity", "message", "retry_after_s", "correlation_id"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A command line without supplier and Redis."""
    return Cli(tmp_path / "state", None, "redis://127.0.0.1:1/0")


def test_help_names_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    assert all(re.search(rf"^ +{command} ", result.out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "--json" in result.out


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
@pytest.mark.parametrize("columns", [40, 60, 80])
def test_every_help_has_an_example_and_fits(
    path: tuple[str, ...], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*path, "--help"]) == 0
    text, examples = capsys.readouterr().out.split("  Examples:\n")
    assert all(line.startswith("    ") for line in examples.splitlines())
    assert " ".join(("catalog-sync", *path)) in examples
    assert "..." not in text.replace("[ARGS]...", "")
    assert "…" not in text
    if columns >= 60:
        assert max(map(cell_len, (text + examples).splitlines())) <= columns


def test_every_example_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    from catalog_sync.cli.commands import app
    from catalog_sync.terminal.arguments import parse

    for path in PATHS:
        main([*path, "--help"])
        for line in capsys.readouterr().out.split("  Examples:\n")[1].splitlines():
            program, *arguments = line.split()
            assert program == "catalog-sync"
            assert callable(parse(app, program, arguments))


def test_help_imports_neither_asyncio_nor_opentelemetry() -> None:
    code = (
        "import sys; from catalog_sync.cli.main import main; code = main(['--help'])\n"
        "heavy = {'asyncio', 'opentelemetry', 'httpx', 'redis', 'pydantic', 'rich', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(code or str(sorted(heavy)) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("module", "name"), PROGRAMS.items())
def test_every_program_has_a_version_and_refuses_wrong_arguments(module: str, name: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    told = run("--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"{name} {catalog_sync.__version__}\n", "")
    refused = run("--vresion", "--json")
    assert refused.returncode == 2
    assert refused.stderr == f"{name}: No such option: --vresion. Did you mean '--version'? See {name} --help\n"
    assert json.loads(refused.stdout)["error"]["type"] == "usage"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serch",), "catalog-sync: No such command 'serch'. Did you mean 'search'? See catalog-sync --help"),
        (
            ("alerts", "tset"),
            "catalog-sync alerts: No such command 'tset'. Did you mean 'test'? See catalog-sync alerts --help",
        ),
        (
            ("search", "--contry", "PT"),
            "catalog-sync search: No such option: --contry. Did you mean '--country'? See catalog-sync search --help",
        ),
        (
            ("search", "--limit"),
            "catalog-sync search: Option '--limit' requires an argument. See catalog-sync search --help",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_names_the_command_and_what_was_meant(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [
        ("catalog-sync se", 1, ["search"]),
        ("catalog-sync search --co", 2, ["--country"]),
        ("catalog-sync alerts ", 2, list(ACTIONS)),
        ("catalog-sync simulate --scenario fl", 3, ["flaky"]),
    ],
)
def test_a_shell_completes(words: str, position: int, offered: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "catalog_sync"],
        env={
            **os.environ,
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
            "_CATALOG_SYNC_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == offered


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("run", "--nonsense"),
        ("run", "extra"),
        ("run", "--group", "A", "--country", "FR"),
        ("run", "--group", " "),
        ("run", "--forc"),
        ("search", "--limit", "-1"),
        ("search", "--limit", "many"),
        ("search", "--min-days", "8", "--max-days", "7"),
        ("show",),
        ("simulate", "--rate", "fast"),
        ("run", "--if-due", "--bundle", "esim_1GB"),
        ("alerts", "ack"),
        ("alerts", "test", "--severity", "HUGE"),
        ("alerts", "silence", "3f2a9c", "--for", "soon"),
        ("alerts", "list", "3f2a9c"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1

    as_json = cli(*arguments, "--json")
    assert as_json.code == 2
    assert set(as_json.json["error"]) == ERROR_FIELDS
    assert as_json.json["error"]["type"] == "usage"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERROR_RETRY_MAX_ATTEMPTS", "0"),
        ("ERROR_RETRY_BASE_DELAY", "fast"),
        ("ERROR_RETRY_JITTER", "maybe"),
        ("ERROR_CIRCUIT_BREAKER_THRESHOLD", "-3"),
        ("CATALOG_PAGE_SIZE", "none"),
        ("CATALOG_SUPPLIER_RATE_PER_S", "-1"),
        ("ESIM_GO_BASE_URL", "ftp://example.com"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(cli: Cli, name: str, value: str) -> None:
    result = cli("run", "--json", **{name: value})
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert name in result.err
    assert value in result.err
    assert set(result.json["error"]) == ERROR_FIELDS
    assert result.json["error"]["type"] == "configuration"


@pytest.mark.parametrize("command", [("search",), ("show", "x"), ("status",)])
def test_a_wrong_setting_stops_every_command(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "--json", CATALOG_PAGE_SIZE="none")
    assert result.code == 2
    assert "CATALOG_PAGE_SIZE" in result.json["error"]["message"]


def test_a_secret_setting_is_not_repeated(cli: Cli) -> None:
    result = cli("run", "--json", ESIM_GO_API_KEY="two words of a secret")
    assert result.code == 2
    assert "ESIM_GO_API_KEY" in result.err
    assert "words" not in result.err + result.out


def test_run_without_a_key_names_the_variable(cli: Cli) -> None:
    result = cli("run", "--json", ESIM_GO_API_KEY="")
    assert result.code == 2
    assert result.json["error"]["type"] == "configuration"
    assert len(result.err.splitlines()) == 1
    assert "ESIM_GO_API_KEY" in result.err


def test_reading_needs_no_key(cli: Cli) -> None:
    assert cli("search", ESIM_GO_API_KEY="").code == 6


def test_the_unexpected_is_one_redacted_line_with_its_correlation_id() -> None:
    code = (
        "import sys, catalog_sync.cli.read as read; from catalog_sync.cli.main import main\n"
        "from otel_resilience.redaction import register_secret\n"
        "register_secret('hunter2-hunter2')\n"
        "def search(*_): raise ZeroDivisionError('the key hunter2-hunter2 broke it')\n"
        "read.search = search\n"
        "sys.exit(main(['search', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    plain = [line for line in lines if not line.startswith("{")]
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr
    assert len(plain) == 1
    found = re.search(r"correlation ID ([0-9a-f]{32})", plain[0])
    assert found
    assert f'"correlation_id": "{found[1]}"' in done.stdout
    assert any(found[1] in line and "ZeroDivisionError" in line for line in lines if line.startswith("{"))
