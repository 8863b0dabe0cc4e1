"""How the instrumentors are found and refused, and that they support every version that they state."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.dependencies import DependencyConflictError

import otel_resilience
from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
from support.otlp_sink import otlp_sink

SOURCE = Path(otel_resilience.__file__).parent
HERE = Path(__file__).parent
ENTRY_POINTS: dict[str, str] = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "entry-points"
]["opentelemetry_instrumentor"]
OLDEST = {
    "backoff": "2.0.0",
    "circuitbreaker": "2.0.0",
    "pybreaker": "1.0.0",
    "stamina": "23.2.0",
    "tenacity": "8.3.0",
}
"""The first versions of the stated ranges."""
SCRIPT = """
import tenacity

left = [ConnectionResetError("gone"), None]

@tenacity.retry(stop=tenacity.stop_after_attempt(3))
def list_plans():
    error = left.pop(0)
    if error is not None:
        raise error
    return "plans"

print(list_plans())
"""


def instrumentor(library: str) -> Any:
    module, _, name = ENTRY_POINTS[library].partition(":")
    return getattr(importlib.import_module(module), name)()


@pytest.mark.parametrize("library", sorted(OLDEST))
def test_the_stated_range_holds_the_installed_version_and_begins_with_the_oldest(library: str) -> None:
    assert instrumentor(library)._check_dependency_conflicts() is None
    (supported,) = instrumentor(library).instrumentation_dependencies()
    assert supported.startswith(f"{library} >= ")
    stated = supported.removeprefix(f"{library} >= ").partition(",")[0]
    assert f"{OLDEST[library]}.".startswith(f"{stated}.")


def test_each_library_has_an_entry_point_that_the_distribution_declares() -> None:
    assert sorted(ENTRY_POINTS) == sorted(OLDEST)
    found = importlib.metadata.entry_points(group="opentelemetry_instrumentor")
    declared = {each.name: each.value for each in found if each.dist and each.dist.name == "otel-resilience"}
    assert declared == ENTRY_POINTS


def test_a_version_out_of_range_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import tenacity

    monkeypatch.setattr(TenacityInstrumentor, "_supported", "tenacity < 1")
    before = tenacity.Retrying.__call__
    TenacityInstrumentor().instrument()
    assert "tenacity < 1" in caplog.text
    with pytest.raises(DependencyConflictError):
        TenacityInstrumentor().instrument(skip_dep_check=True)
    assert tenacity.Retrying.__call__ is before
    assert not TenacityInstrumentor().is_instrumented_by_opentelemetry


def test_a_script_that_stays_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with otlp_sink() as sink:
        environment = {
            "PATH": "/usr/bin:/bin",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "shop",
        }
        command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (0, "plans\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    spans = {(span.name, span.attributes.get("resilience.attempt.number")): span for span in sink.spans}
    call = spans["__main__ list_plans", None]
    assert call.resource["service.name"] == "shop"
    assert call.attributes["resilience.outcome"] == "ok_after_retry"
    assert spans["attempt", 1].parent_span_id == spans["attempt", 2].parent_span_id == call.span_id
    assert {point.name for point in sink.points} >= {"resilience.operation.duration", "resilience.retry.delay"}
    assert "resilience.attempt.failed" in {log.event_name for log in sink.logs}


@pytest.mark.slow
@pytest.mark.skipif("OLDEST_LIBRARIES" in os.environ, reason="this is the run with the oldest versions")
def test_all_of_it_with_the_oldest_versions(tmp_path: Path) -> None:
    wanted = [f"{library}=={version}" for library, version in OLDEST.items()]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), *wanted]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=900, check=False)
    if installed.returncode:
        pytest.skip(f"the oldest versions cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE],
        env={**environment, "PYTHONPATH": str(tmp_path), "OLDEST_LIBRARIES": "1"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout
