"""Boundaries between packages: which may import which."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_resilience

SOURCE = Path(otel_resilience.__file__).parents[1]
LIBRARY = sorted((SOURCE / "otel_resilience").rglob("*.py"))
APPLICATION = sorted((SOURCE / "catalog_sync").rglob("*.py"))
SDK = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation")
INSTRUMENTATION = "otel_resilience/instrumentation/"
"""Needs ``opentelemetry-instrumentation``, and is imported by none of the rest."""
CLIENTS = {
    "otel_resilience/integrations/aiohttp.py": ("aiohttp",),
    "otel_resilience/integrations/httpx.py": ("httpx", "httpx2"),
    "otel_resilience/integrations/requests.py": ("requests", "urllib3"),
}
"""Modules that protect a client, and what they need."""
PROVIDER_SETTERS = {"set_tracer_provider", "set_meter_provider", "set_logger_provider", "set_global_textmap"}

BLOCK_EVERYTHING_ELSE = """
    import sys

    class OnlyTheApi:
        refused = []

        def find_spec(self, name, path=None, target=None):
            top = name.partition(".")[0]
            allowed = top in sys.stdlib_module_names or top in ("otel_resilience", "typing_extensions")
            allowed = allowed or top in ("importlib_metadata", "zipp")  # older versions of the API need them
            allowed = allowed or top in ("org", "_wmi")  # the standard library asks for Jython and for Windows
            if top == "opentelemetry":
                part = name.split(".")[1] if "." in name else ""
                allowed = part not in ("sdk", "exporter", "instrumentation", "proto", "semconv", "util")
                allowed = allowed or name.startswith("opentelemetry.util._")
                allowed = allowed or name in ("opentelemetry.util", "opentelemetry.util.re", "opentelemetry.util.types")
            if not allowed:
                self.refused.append(name)
                raise ImportError(f"{name} is not installed")
            return None

    for name in [name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names]:
        if not name.startswith("__"):
            del sys.modules[name]
    sys.meta_path.insert(0, OnlyTheApi())
"""


def run(script: str) -> None:
    code = textwrap.dedent(BLOCK_EVERYTHING_ELSE) + textwrap.dedent(script)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_library_works_with_the_api_alone() -> None:
    run(
        """
        from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig, classify, correlation_id

        policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(), deadline=5)
        outcomes = [ConnectionResetError(), None]

        def operation():
            error = outcomes.pop(0)
            if error is not None:
                raise error
            return correlation_id()

        assert len(policy.execute(operation)) == 32
        assert classify(ValueError()).unclassified
        assert OnlyTheApi.refused == [], OnlyTheApi.refused
        """
    )


def test_every_module_of_it_can_be_imported_with_the_api_alone() -> None:
    run(
        """
        import importlib, pkgutil
        import otel_resilience

        names = [found.name for found in pkgutil.walk_packages(otel_resilience.__path__, "otel_resilience.")]
        clients = {f"otel_resilience.integrations.{client}" for client in ("aiohttp", "httpx", "requests")}
        assert clients < set(names)
        names = [name for name in names if name not in clients]
        assert "otel_resilience.testing" in names and "otel_resilience.classification.rules.psycopg" in names
        for name in names:
            needs_more = name.startswith("otel_resilience.instrumentation.") or name == "otel_resilience.testing.plugin"
            if not needs_more:  # OpenTelemetry's instrumentor; pytest
                importlib.import_module(name)
        loaded = {name.partition(".")[0] for name in sys.modules}
        assert not loaded & {"catalog_sync", "httpx", "redis", "pydantic", "aiohttp", "rich"}
        assert not loaded & {"requests", "urllib3", "httpx2", "botocore", "grpc", "google", "psycopg", "psycopg2"}
        assert not loaded & {"asyncpg", "sqlalchemy", "pymysql", "pymongo", "kafka", "openai", "elasticsearch"}
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
        assert OnlyTheApi.refused == [], OnlyTheApi.refused
        """
    )


def test_the_transport_of_httpx_names_both_libraries_where_neither_is_installed() -> None:
    run(
        """
        try:
            import otel_resilience.integrations.httpx
        except ImportError as error:
            assert "httpx or httpx2: pip install 'otel-resilience[httpx]'" in str(error), error
        else:
            raise AssertionError("imported")
        """
    )


def test_the_alert_service_works_with_the_api_alone() -> None:
    run(
        """
        import logging
        from otel_resilience import Severity
        from otel_resilience.alerting import Alert, AlertConfig, AlertService, Route
        from otel_resilience.alerting.channels import LogChannel

        told = []
        handler = logging.Handler()
        handler.emit = told.append
        logging.getLogger("otel_resilience.alerts").addHandler(handler)
        with AlertService(AlertConfig(), [Route(LogChannel())]) as service:
            service.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH))
        assert len(told) == 1, told
        assert OnlyTheApi.refused == [], OnlyTheApi.refused
        """
    )


NEVER_AT_FIRST = {
    "base64", "datetime", "decimal", "difflib", "email", "hashlib", "hmac", "html", "http", "importlib.metadata",
    "ipaddress", "json", "secrets", "urllib.parse", "uuid", "opentelemetry.baggage", "otel_resilience.alerting",
    "otel_resilience.demo", "otel_resilience.instrumentation", "otel_resilience.integrations",
    "otel_resilience.limits.concurrency", "otel_resilience.limits.config", "otel_resilience.limits.rate",
    "otel_resilience.limits.threads", "otel_resilience.policy.attempts", "otel_resilience.policy.environment",
    "otel_resilience.policy.hedging", "otel_resilience.policy.off_switch", "otel_resilience.policy.registry",
    "otel_resilience.policy.results", "otel_resilience.storage", "otel_resilience.testing",
}  # fmt: skip
"""What no program needs that imports the library and makes a call that succeeds."""


def newly_loaded(code: str) -> set[str]:
    """The modules that ``code`` loads beyond those of asyncio and of OpenTelemetry's API."""
    script = f"""
        import asyncio, sys
        from opentelemetry import _logs, metrics, trace
        before = set(sys.modules)
        {code}
        print(*(set(sys.modules) - before))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split())


def test_importing_the_library_alone_loads_its_table_of_names() -> None:
    assert newly_loaded("import otel_resilience") == {
        "otel_resilience",
        "otel_resilience._internal",
        "otel_resilience._internal.lazy",
        "otel_resilience._internal.version",
    }


def test_a_first_call_loads_only_what_it_needs() -> None:
    loaded = newly_loaded(
        "from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig;"
        " policy = Policy('supplier', retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30);"
        " policy.execute(lambda: 'plans')"
    )
    assert "otel_resilience.policy.call" in loaded
    assert not loaded & NEVER_AT_FIRST


@pytest.mark.parametrize(
    "package", ["otel_resilience", "otel_resilience.alerting", "otel_resilience.alerting.channels"]
)
def test_names_are_found_where_checkers_of_types_see_them(package: str) -> None:
    module = importlib.import_module(package)
    source = ast.parse(inspect.getsource(module))
    (block,) = (each for each in source.body if isinstance(each, ast.If) and isinstance(each.test, ast.Name))
    seen = {
        alias.name: node.module.removeprefix(f"{package}.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    assert {name: home for home, names in module._HOMES.items() if home for name in names.split()} == seen
    assert set(seen) <= set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Polcy'"):
        module.Polcy  # noqa: B018


LAZY = [
    str(path.parent.relative_to(SOURCE)).replace("/", ".")
    for path in LIBRARY
    if path.name == "__init__.py" and "lazy_names(" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("package", LAZY)
def test_names_that_are_loaded_later_are_shown_and_imported_as_all_others(package: str) -> None:
    shown: dict[str, object] = {}
    exec(f"from {package} import *", shown)
    names = importlib.import_module(package).__all__
    assert set(names) <= set(shown)
    assert dir(importlib.import_module(package)) == sorted(names)


def test_help_shows_the_names_and_an_import_loads_what_it_names() -> None:
    assert "class Policy" in pydoc.plain(pydoc.render_doc(otel_resilience))
    assert not newly_loaded("import otel_resilience; otel_resilience.errors.CircuitOpenError") & NEVER_AT_FIRST


def test_the_library_is_typed() -> None:
    assert (SOURCE / "otel_resilience" / "py.typed").is_file()


def test_all_lists_what_exists() -> None:
    assert sorted(set(otel_resilience.__all__)) == sorted(otel_resilience.__all__)
    for name in otel_resilience.__all__:
        assert getattr(otel_resilience, name) is not None


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether the import runs when the file is imported."""

    def visit(node: ast.AST, at_import_time: bool) -> Iterator[tuple[str, bool]]:  # internal
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from ((f"{node.module}.{alias.name}", at_import_time) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from visit(statement, False)
            for statement in node.orelse:
                yield from visit(statement, at_import_time)
        else:
            inner = at_import_time and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inner)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_the_library_knows_nothing_of_the_application() -> None:
    for path in LIBRARY:
        found = [name for name, _ in imports(path) if name.partition(".")[0] == "catalog_sync"]
        assert not found, (relative(path), found)


def test_the_library_depends_on_the_api_alone_at_import_time() -> None:
    for path in LIBRARY:
        allowed = ("opentelemetry", "otel_resilience", "__future__", *CLIENTS.get(relative(path), ()))
        for name, at_import_time in imports(path):
            top, use = name.partition(".")[0], (relative(path), name)
            if relative(path) == "otel_resilience/testing/plugin.py" and top == "pytest":
                continue
            if at_import_time:
                assert top in sys.stdlib_module_names or top in allowed, use
                assert not name.startswith(SDK) or relative(path).startswith(INSTRUMENTATION), use
            elif name.startswith(SDK):
                assert relative(path).startswith("otel_resilience/testing/"), use


def test_one_room_of_the_application_sets_up_the_sdk() -> None:
    for path in APPLICATION:
        if relative(path).startswith("catalog_sync/observability/sdk"):
            continue
        found = [name for name, _ in imports(path) if name.startswith(SDK)]
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        touched = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & PROVIDER_SETTERS
        assert not [*found, *touched], relative(path)


def test_pure_modules_have_no_clock_no_io_and_no_telemetry() -> None:
    for name in (
        "circuitbreaker/window",
        "circuitbreaker/machine",
        "circuitbreaker/config",
        "retries/backoff",
        "retries/bucket",
    ):
        imported = {module for module, _ in imports(SOURCE / "otel_resilience" / f"{name}.py")}
        assert not {module.partition(".")[0] for module in imported} & {
            "asyncio",
            "opentelemetry",
            "os",
            "random",
            "socket",
            "threading",
            "time",
        }
