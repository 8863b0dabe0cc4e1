"""Wrong arguments, wrong settings, and the way in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import Cli

COMMANDS = ("demo", "run", "search", "show", "status", "simulate", "doctor")
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


def test_help_imports_neither_asyncio_nor_opentelemetry() -> None:
    code = (
        "import sys; from catalog_sync.cli.main import main; code = main(['--help'])\n"
        "heavy = {'asyncio', 'opentelemetry', 'httpx', 'redis', 'pydantic', 'rich', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(code or str(sorted(heavy)) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"catalog-sync \d+\.\d+\.\d+\S*\n", cli("--version").out)


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
