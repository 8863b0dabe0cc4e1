"""A command does not load, create or look for anything that it does not need."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import typer.main

from catalog_sync.cli.commands import app
from catalog_sync.terminal.arguments import parse
from catalog_sync.terminal.output import UsageError
from support.cli import Cli

UNUSED = (
    "aiohttp", "celery", "fakeredis", "fastapi", "httpcore", "httpx", "opentelemetry.exporter",
    "opentelemetry.instrumentation.httpx", "opentelemetry.instrumentation.redis", "opentelemetry.sdk._logs",
    "opentelemetry.sdk.trace", "requests", "rich.console", "rich.table",
)  # fmt: skip
"""By commands that read. redis-py brings the metrics of the SDK along where that is installed."""
CODE = """
import gc, json, os, sys
from catalog_sync.cli import main
sys.argv = ["catalog-sync", *{arguments!r}]
sys.stdout, before = open(os.devnull, "w"), sys.stdout
code = main.main()
json.dump({{"code": code, "modules": list(sys.modules), "frozen": gc.get_freeze_count(),
           "threshold": gc.get_threshold()[0]}}, before)
"""


@pytest.mark.parametrize("arguments", [["search", "--country", "PT"], ["show", "none"], ["status"]], ids=" ".join)
def test_reading_loads_no_client_of_the_supplier_no_tracing_and_no_tables(cli: Cli, arguments: Sequence[str]) -> None:
    code = CODE.format(arguments=[*arguments, "--json"])
    env = {**os.environ, **cli.env, "CATALOG_ENV_FILE": "none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=60)
    seen = json.loads(done.stdout)
    assert seen["code"] == (0 if arguments == ["status"] else 6)
    unused = tuple(name + "." for name in UNUSED)
    assert [name for name in seen["modules"] if f"{name}.".startswith(unused)] == []
    assert seen["threshold"] == 50_000, "a long sync lets too much garbage lie"
    assert seen["frozen"] > 10_000, "the interpreter looks for garbage among all modules as it ends"


def test_a_sync_looks_for_little_garbage_at_a_time(cli: Cli) -> None:
    env = {**os.environ, **cli.env, "CATALOG_ENV_FILE": "none"}
    code = CODE.format(arguments=["run", "--json"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=60)
    seen = json.loads(done.stdout)
    assert seen["code"] == 0
    assert seen["threshold"] <= 5_000, "a look holds the event loop up, and with it requests whose permit has come"
    assert seen["frozen"] > 50_000, "what was loaded for the sync is looked at again and again"


def test_called_from_a_program_it_leaves_the_collector_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import gc, os; before = gc.get_threshold(), dict(os.environ); from catalog_sync.cli.main import main;"
        " main(['--version']); assert (gc.get_threshold(), dict(os.environ)) == before and not gc.get_freeze_count()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["search", "--country", "PT"], 1),
        (["status"], 1),
        (["alerts", "test"], 6),
        (["--version"], 15),
        ([], 15),
        (["serch"], 15),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_only_the_command_that_is_called_is_made(
    arguments: list[str], made: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: list[str] = []
    make = typer.main.get_command_from_info

    def count(command_info: typer.models.CommandInfo, **options: object) -> object:
        names.append(str(command_info.name or command_info.callback))
        return make(command_info, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(typer.main, "get_command_from_info", count)
    with contextlib.suppress(UsageError):  # wrong arguments are among the cases
        parse(app, "catalog-sync", arguments)
    assert len(names) == made, names
