from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_resilience._internal.once import Once
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support import resilience
from support.certificates import one_authority
from support.resilience import Driver


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once per process was not said by another test, and will not count for the next."""
    for name in ("_unknown_classes", "_broken_rules"):
        monkeypatch.setattr(f"otel_resilience.classification.classifier.{name}", Once())


@pytest.fixture(params=["plain", "limited", "observed"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The semantics are the same with and without a time limit, and with and without telemetry."""
    monkeypatch.setitem(resilience.defaults, "deadline", 30.0 if request.param == "limited" else None)
    with RecordedTelemetry().recording() if request.param == "observed" else contextlib.nullcontext():
        yield request.param


@pytest.fixture(params=[False, True], ids=["def", "async_def"])
def driver(request: pytest.FixtureRequest, clock: FakeClock, path: str) -> Driver:
    return Driver(clock, asynchronous=request.param)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def quick_clients(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of HTTP trust one authority: a test that makes one reads no more certificates."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
