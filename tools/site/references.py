"""Writes docs/command-line.md from the commands themselves, and docs/http-calls.md from the OpenAPI document.

PYTHONPATH=tests python -m tools.site.references
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import typer.main

from catalog_sync import exit_codes
from catalog_sync.api import command as api
from catalog_sync.cli import main as cli
from catalog_sync.cli.commands import app
from catalog_sync.worker import __main__ as worker
from catalog_sync.worker import beat
from support.api_world import openapi_document

DOCS: Final = Path(__file__).parents[2] / "docs"
COLUMNS: Final = "96"
_COMMAND_LINE: Final = """\
This page has the help of every command of `catalog-sync` and of the other programs. `make docs` generates it from the
programs themselves.
"""
_EXIT_CODES: Final = f"""\
| exit code of `run` | outcome |
|---|---|
| {exit_codes.OK} | COMPLETE |
| {exit_codes.FAILED} | FAILED: nothing was published, readers keep the old version |
| {exit_codes.USAGE} | invalid usage or configuration; one line names the variable |
| {exit_codes.PARTIAL} | PARTIAL: some groups keep their last good data, marked stale |
| {exit_codes.SKIPPED_LOCKED} | SKIPPED_LOCKED: another run holds the lock; the report names it and its start |
| {exit_codes.LOCK_UNAVAILABLE} | LOCK_UNAVAILABLE: Redis cannot be reached |
| 129, 130, 143 | stopped by SIGHUP (the terminal was closed), SIGINT, SIGTERM; the lock was released |

Every command takes `--json`: stdout is then one JSON object and nothing else. On failure it has an `error`:
`{{type, class, severity, message, retry_after_s, correlation_id}}`. `search` and `show`
end with {exit_codes.NO_CATALOGUE} if there is no catalogue to read. A search for a group or country that does not exist
finds nothing, and a line on stderr lists similar names. For a misspelt command or option a similar one is suggested.
`catalog-sync --install-completion` sets up tab completion in bash, zsh, fish or PowerShell (`--show-completion` prints
the script instead). The programs are configured with environment variables ([configuration.md](configuration.md)).
"""
_PROGRAMS: Final[dict[str, Callable[[list[str]], int]]] = {
    "catalog-api": api.main,
    "python -m catalog_sync.worker": worker.main,
    "python -m catalog_sync.worker.beat": beat.main,
}


def command_line() -> str:
    """The page of all programs with their commands."""
    lines = ["# Command line", "", _COMMAND_LINE, _EXIT_CODES]
    for words in _commands(typer.main.get_command(app), ()):
        lines += _section(" ".join(["catalog-sync", *words]), cli.main, list(words))
    for name, main in _PROGRAMS.items():
        lines += _section(name, main, [])
    return "\n".join(lines)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


def _section(title: str, main: Callable[[list[str]], int], words: Sequence[str]) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "TERM": "dumb"}):
        main([*words, "--help"])
    return [f"## {title}", "", "```text", out.getvalue().strip(), "```", ""]


def http_calls() -> str:
    """The page of all calls."""
    document = openapi_document()
    lines = [
        "# HTTP API reference",
        "",
        "This page lists every call of the HTTP API with its parameters and responses; [api.md](api.md) explains how",
        "to use the API. `make docs` generates this page from the document that `GET /openapi.json` serves.",
        "",
    ]
    lines += [document["info"]["description"], ""]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            lines += _call(f"{method.upper()} {path}", operation, document)
    return "\n".join(lines)


def _call(title: str, operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    lines = [f"## {title}", "", operation["summary"].strip(), ""]
    if operation.get("security") == [{"token": []}]:
        lines += ["Needs the token.", ""]
    rows = [
        (f"`{each['name']}`", each["in"], _type(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    rows += _fields(body, document) if body else []
    if rows:
        lines += ["| parameter | in | type | |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += ["| status | response |", "|---|---|"]
    lines += [f"| {status} | {answer['description']} |" for status, answer in sorted(operation["responses"].items())]
    return [*lines, ""]


def _fields(schema: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Of the JSON object in the body of a request."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found = document["components"]["schemas"].get(name, schema)
    return [
        (f"`{field}`", "body", _type(inner), inner.get("description", ""))
        for field, inner in found.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    return str(schema.get("const") or schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])


PAGES: Final = {"command-line.md": command_line, "http-calls.md": http_calls}


def main() -> None:
    """Writes both."""
    for name, render in PAGES.items():
        (DOCS / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
