"""Both distributions as a stranger gets them: built, installed into an empty environment, used."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import catalog_sync
import otel_resilience

ROOT = Path(__file__).parents[1]
LIBRARY, APPLICATION = ROOT / "src" / "otel_resilience", ROOT
pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, folder: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | pip_variables(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def pip_variables() -> dict[str, str]:
    """How this machine reaches packages; nothing else of its environment is passed on."""
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


def empty_environment(folder: Path, *packages: str | Path) -> Path:
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *packages, folder=folder)
    return python


@pytest.mark.parametrize("name", ["otel_resilience", "catalog_sync"])
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
    for name in ("otel_resilience", "catalog_sync"):
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
