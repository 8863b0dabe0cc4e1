"""Private names of OpenTelemetry are used in one file of the library, and in one of the test helpers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_resilience

SOURCE = Path(otel_resilience.__file__).parents[1]
ROOT = SOURCE.parent
ALLOWED = {
    "src/catalog_sync/observability/sdk/joining.py",
    "src/otel_resilience/telemetry/providers.py",
    "tests/support/otel_globals.py",
}
NOT_PRIVATE = {"_logs", "_log_exporter", "_log_encoder", "_incubating"}
"""Modules whose underscore only says that they may change: the Logs API, its exporters and their encoder, incubating
conventions."""
FILES = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def private(name: str) -> bool:
    return name.startswith("_") and name not in NOT_PRIVATE and not name.startswith("__")


def private_names(source: str) -> Iterator[str]:
    """Private modules of OpenTelemetry that are imported, and private names that are read from any of its modules."""
    if "opentelemetry" not in source:
        return
    tree = ast.parse(source)
    modules = {"opentelemetry"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name: alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}": alias.asname or alias.name for alias in node.names}
        else:
            continue
        for path, known_as in names.items():
            if path.partition(".")[0] == "opentelemetry":
                modules.add(known_as)
                if any(private(part) for part in path.split(".")):
                    yield path
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from opentelemetry import trace\ntrace._TRACER_PROVIDER", ["trace._TRACER_PROVIDER"]),
        ("import opentelemetry.trace as t\nt._TRACER_PROVIDER = None", ["t._TRACER_PROVIDER"]),
        ("import opentelemetry.trace\nopentelemetry.trace._x", ["opentelemetry.trace._x"]),
        ("from opentelemetry.metrics import _internal", ["opentelemetry.metrics._internal"]),
        ("from opentelemetry._logs._internal import Logger", ["opentelemetry._logs._internal.Logger"]),
        ("from opentelemetry import _logs\n_logs.get_logger", []),
        ("from opentelemetry.sdk._logs import LoggerProvider", []),
        ("from opentelemetry import trace\nself._tracer = trace.get_tracer(__name__)", []),
    ],
)
def test_the_check_finds_what_is_private(source: str, found: list[str]) -> None:
    assert list(private_names(source)) == found


def test_just_the_files_that_may_use_private_names_of_opentelemetry() -> None:
    found = {path.relative_to(ROOT).as_posix(): [*private_names(path.read_text(encoding="utf-8"))] for path in FILES}
    users = {name: names for name, names in found.items() if names}
    assert users.keys() == ALLOWED, users
