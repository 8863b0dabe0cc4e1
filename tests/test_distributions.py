"""Both distributions as a user gets them: built, installed into an empty environment, used."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import catalog_sync
import otel_resilience
from support import pythons
from support.cli import API_KEY, running_supplier

ROOT = Path(__file__).parents[1]
LIBRARY, APPLICATION = ROOT / "src" / "otel_resilience", ROOT
NAMES = ("otel_resilience", "catalog_sync")
PATIENCE = 900
"""Seconds for one command: an index may be slow, or stall once, and the machine may be busy."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip"
"""What was fetched once serves every later test."""
pytestmark = pytest.mark.timeout(2 * PATIENCE)


def run(*command: str | Path, folder: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PIP_CACHE_DIR": str(CACHE),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **pip_variables(),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def pip_variables() -> dict[str, str]:
    """The variables with which this machine reaches packages; no others are passed on."""
    wanted = (
        "PIP_",
        "SSL_",
        "REQUESTS_",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "no_proxy",
        "NO_PROXY",
    )
    return {name: value for name, value in os.environ.items() if name.startswith(wanted)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel of each; the wheels are built from the sdists, as an index would."""
    folder = tmp_path_factory.mktemp("dist")
    for source in (LIBRARY, APPLICATION):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, folder=folder)
    found = {path.name.split("-")[0] + path.suffix: path for path in folder.iterdir()}
    assert sorted(found) == ["catalog_sync.gz", "catalog_sync.whl", "otel_resilience.gz", "otel_resilience.whl"]
    return found


def empty_environment(
    folder: Path,
    *packages: str | Path,
    constraints: Path = ROOT / "constraints.txt",
    interpreter: str | Path = sys.executable,
) -> Path:
    run(interpreter, "-m", "venv", "--without-pip", folder / "env", folder=folder)
    python = folder / "env" / "bin" / "python"
    pip = _environment_with_pip(folder.parent, interpreter)
    # What no test imports needs no compiling.
    run(pip, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--constraint", constraints,
        *packages, folder=folder)  # fmt: skip
    return python


@functools.cache
def _environment_with_pip(folder: Path, interpreter: str | Path) -> Path:
    """It installs into the others: setting pip up takes longer than what most of them are used for."""
    if interpreter == sys.executable and importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    home = folder / "installers" / str(interpreter).strip("/")
    run(interpreter, "-m", "venv", home, folder=folder)
    return home / "bin" / "python"


@pytest.mark.parametrize("name", NAMES)
def test_each_holds_its_licence_its_types_and_its_version(built: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(built[f"{name}.whl"]) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(each for each in names if each.endswith("/METADATA"))).decode()
    assert any(each.endswith("licenses/LICENSE") for each in names)
    assert f"{name}/py.typed" in names
    expected = otel_resilience.__version__ if name == "otel_resilience" else catalog_sync.__version__
    assert f"\nVersion: {expected}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    with tarfile.open(built[f"{name}.gz"]) as source:
        assert any(each.endswith("/LICENSE") for each in source.getnames())


def test_the_licence_is_the_same_in_both() -> None:
    assert (ROOT / "LICENSE").read_bytes() == (LIBRARY / "LICENSE").read_bytes()


def test_the_wheels_hold_their_own_packages_alone(built: dict[str, Path]) -> None:
    tops = {}
    for name in NAMES:
        with zipfile.ZipFile(built[f"{name}.whl"]) as wheel:
            tops[name] = {each.partition("/")[0] for each in wheel.namelist() if ".dist-info" not in each}
    assert tops == {"otel_resilience": {"otel_resilience"}, "catalog_sync": {"catalog_sync", "esim_go_simulator"}}


def test_the_library_works_in_an_empty_environment(built: dict[str, Path], tmp_path: Path) -> None:
    python = empty_environment(tmp_path, built["otel_resilience.whl"])
    script = """
import asyncio, importlib.metadata
from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig, __version__

policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(), deadline=5)
left = [ConnectionRefusedError(), None]

@policy
async def fetch():
    error = left.pop(0)
    if error is not None:
        raise error
    return "fetched"

print(asyncio.run(fetch()), __version__ == importlib.metadata.version("otel-resilience"))
print(sorted({name.lower().replace("_", "-") for name in
       (found.metadata["Name"] for found in importlib.metadata.distributions())} - {"pip", "setuptools"}))
"""
    said = run(python, "-W", "error", "-c", script, folder=tmp_path).splitlines()
    assert said[0] == "fetched True"
    assert said[1] == "['opentelemetry-api', 'otel-resilience', 'typing-extensions']"


def allowed_api() -> tuple[str, str]:
    """The oldest version of ``opentelemetry-api`` that the library allows, and the whole range."""
    project = tomllib.loads((LIBRARY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found,) = (each for each in project["dependencies"] if each.startswith("opentelemetry-api"))
    allowed = found.removeprefix("opentelemetry-api")
    return allowed.partition(",")[0].removeprefix(">="), allowed


TELEMETRY_SMOKE = """
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.version import __version__ as api_version

from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig, __version__
from otel_resilience.telemetry import providers
from otel_resilience.testing import RecordedTelemetry

policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(), idempotent=True)

def run():
    left = [ConnectionRefusedError(), None]

    def fetch():
        error = left.pop(0)
        if error is not None:
            raise error

    policy.execute(fetch, name="fetch")

assert not providers.any_set()
with RecordedTelemetry().recording() as recorded:
    assert providers.any_set() and providers.metrics_set()
    run()
assert [span.name for span in recorded.spans] == ["attempt", "attempt", "supplier fetch"]
for scope in [span.instrumentation_scope for span in recorded.spans]:
    assert (scope.name, scope.version) == ("otel_resilience", __version__), scope
events = ["resilience.error.classified", "resilience.attempt.failed", "resilience.retry.scheduled"]
assert recorded.event_names() == events, recorded.event_names()
(point,) = recorded.points("resilience.operation.attempts")
assert (point.value, point.attributes["resilience.outcome"]) == (2, "ok_after_retry")
(errors,) = recorded.points("resilience.errors")
assert (errors.value, errors.attributes["error.type"]) == (1, "connection_error")
states = recorded.points("resilience.circuit_breaker.status")
assert sum(state.value for state in states) == 1

assert not providers.any_set() and providers.global_logger_provider() is None
logs = LoggerProvider(shutdown_on_exit=False)
set_logger_provider(logs)
assert providers.any_set() and providers.global_logger_provider() is logs
assert not providers.metrics_set()
metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
assert providers.metrics_set()
trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
assert providers.any_set()
run()
assert not providers.instrumentation_is_suppressed()
with providers.suppressed_instrumentation():
    assert providers.instrumentation_is_suppressed()
print(api_version)
"""


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_the_library_emits_its_telemetry_with_every_version_that_it_allows(
    built: dict[str, Path], tmp_path: Path, end: str
) -> None:
    oldest, allowed = allowed_api()
    wanted = f"=={oldest}.*" if end == "oldest" else allowed
    constraints = tmp_path / "constraints.txt"
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith("opentelemetry-")), encoding="utf-8")
    python = empty_environment(
        tmp_path,
        built["otel_resilience.whl"],
        f"opentelemetry-api{wanted}",
        f"opentelemetry-sdk{wanted}",
        constraints=constraints,
    )
    said = run(python, "-W", "error", "-c", TELEMETRY_SMOKE, folder=tmp_path).strip()
    if end == "oldest":
        assert said.startswith(f"{oldest}.")


@pytest.mark.parametrize("version", pythons.others())
def test_both_work_with_every_supported_python_that_is_installed(
    built: dict[str, Path], tmp_path: Path, version: str
) -> None:
    interpreter = pythons.find(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed")
    python = empty_environment(tmp_path, *(built[f"{name}.whl"] for name in NAMES), interpreter=interpreter)
    run(python, "-W", "error", "-c", TELEMETRY_SMOKE, folder=tmp_path)
    with running_supplier(60) as supplier:
        settings = {
            "CATALOG_STATE_DIR": str(tmp_path / "state"),
            "ESIM_GO_API_KEY": API_KEY,
            "ESIM_GO_BASE_URL": supplier.base_url,
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        program: list[str | Path] = ["/usr/bin/env", *given, python, "-W", "error"]
        said = run(*program, "-m", "catalog_sync", "run", "--json", folder=tmp_path)
        assert first_object(said)["outcome"] == "COMPLETE"
        found = run(*program, "-m", "catalog_sync", "search", "--json", "--limit", "1", folder=tmp_path)
    assert first_object(found)["total"] == 60


def first_object(printed: str) -> dict[str, Any]:
    """Standard output is one object of JSON; the lines after it are standard error."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(printed)[0]
    return found


def test_the_application_works_in_an_empty_environment(built: dict[str, Path], tmp_path: Path) -> None:
    python = empty_environment(tmp_path, built["otel_resilience.whl"], built["catalog_sync.whl"])
    program = python.with_name("catalog-sync")
    assert run(program, "--version", folder=tmp_path).strip() == f"catalog-sync {catalog_sync.__version__}"
    run(program, "search", "--json", folder=tmp_path, code=6)
    for command, package, extra in (
        ((program, "demo"), "aiohttp", "demo"),
        ((program, "simulate"), "aiohttp", "demo"),
        ((python.with_name("catalog-api"),), "", "api"),
        ((python, "-m", "catalog_sync.worker"), "celery", "worker"),
        ((python, "-m", "catalog_sync.worker.beat"), "celery", "worker"),
    ):
        said = run("/usr/bin/env", "REDIS_URL=redis://127.0.0.1:1", "ESIM_GO_API_KEY=a-key-of-length", *command,
                   folder=tmp_path, code=2)  # fmt: skip
        last = said.splitlines()[-1]
        assert "Traceback" not in said
        assert package in last
        assert f"is not installed; pip install 'catalog-sync[{extra}]' brings it" in last
