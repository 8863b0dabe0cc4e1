"""The programs of docs/examples, run unchanged against local servers."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from celery.contrib.testing.worker import start_worker

from otel_resilience import CircuitOpenError
from otel_resilience.testing import RecordedTelemetry, no_waits
from support.answering_server import AnsweringServer, Reply

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
BUSY = Reply(503, b"busy")
DOWN = Reply(500, b"down")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: str(path.stem))
def test_each_says_how_many_lines_it_took(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    said = re.search(r"(\w+) lines? (?:protects?|reports?) its calls?", text)
    assert said is not None
    assert NUMBERS.index(said[1].lower()) == text.count("  # +\n")


def load(name: str) -> ModuleType:
    """A fresh copy of a program."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_script_with_requests(server: AnsweringServer) -> None:
    server.replies += [BUSY, Reply(body=b'["tea", "salt"]'), Reply(body=b"2.50"), Reply(404)]
    done = run("script_with_requests", SHOP_URL=server.url)
    assert (done.stdout, done.returncode) == ("tea 2.50\nsalt none (404)\n", 0), done.stderr
    assert [each.path for each in server.arrived] == ["/products", "/products", "/prices/tea", "/prices/salt"]


def test_the_script_while_the_shop_is_down(server: AnsweringServer) -> None:
    server.replies += [Reply(body=json.dumps(["tea"] * 20).encode()), *[DOWN] * 80]
    done = run("script_with_requests", SHOP_URL=server.url)
    assert done.returncode == 1
    assert "the shop is down, try again in" in done.stderr
    assert len(server.arrived) < 40


def test_postgres_and_s3(server: AnsweringServer, shop: str) -> None:
    server.replies += [Reply(503, b"<Error><Code>SlowDown</Code></Error>"), Reply(body=b"")]
    amazon = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
    done = run("postgres_and_s3", "2026-11-28", DATABASE_URL=shop, S3_URL=server.url, BUCKET="reports", **amazon)
    assert (done.stdout, done.returncode) == ("2 orders of 2026-11-28\n", 0), done.stderr
    assert [each.path for each in server.arrived] == ["/reports/orders/2026-11-28.json"] * 2
    assert b'[[1, "tea"], [2, "salt"]]' in server.arrived[1].body


async def test_a_service_with_fastapi(server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="it needs a newer OpenTelemetry than the oldest that is tested")
    monkeypatch.setenv("STOCK_URL", server.url)
    service = load("fastapi_service")
    server.replies += [BUSY, Reply(body=b"7"), Reply(404), *[DOWN] * 60]
    inside = httpx.ASGITransport(service.app)
    with no_waits(service.stock):
        async with service.lifespan(service.app), httpx.AsyncClient(transport=inside, base_url="http://a") as client:
            assert (await client.get("/products/tea")).json() == {"name": "tea", "stock": 7}
            assert (await client.get("/products/salt")).json() == {"name": "salt", "stock": None}
            answers = [await client.get("/products/rice") for _ in range(20)]
    refused = answers[-1]
    assert (answers[0].status_code, refused.status_code) == (200, 503)
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["title"] == "stock is unavailable"
    assert len(server.arrived) < 40


def test_threads(server: AnsweringServer) -> None:
    server.replies += [BUSY]
    names = ["a.png", "b.png", "c.png"]
    done = run("threads_and_celery", *names, IMAGES_URL=server.url)
    assert (done.stdout, done.returncode) == ("a.png 2\nb.png 2\nc.png 2\n", 0), done.stderr
    assert len(server.arrived) == 4


def test_a_code_base_with_tenacity(server: AnsweringServer) -> None:
    server.replies += [BUSY, Reply(body=b"1.09")]
    done = run("tenacity_code", "EUR", RATES_URL=server.url)
    assert (done.stdout, done.returncode) == ("EUR 1.09\n", 0), done.stderr


def test_what_it_reports(server: AnsweringServer, monkeypatch: pytest.MonkeyPatch, recorded: RecordedTelemetry) -> None:
    monkeypatch.setenv("RATES_URL", server.url)
    program = load("tenacity_code")
    server.replies += [BUSY, Reply(body=b"1.09")]
    program.TenacityInstrumentor().instrument()
    try:
        assert program.rate("EUR") == 1.09
    finally:
        program.TenacityInstrumentor().uninstrument()
    *attempts, call = recorded.spans
    assert [span.name for span in attempts] == ["attempt", "attempt"]
    assert call.attributes is not None
    assert (call.attributes["resilience.outcome"], call.attributes["resilience.attempts"]) == ("ok_after_retry", 2)


@pytest.fixture
def thumbnails(server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The program with a worker of Celery in a thread."""
    monkeypatch.setenv("IMAGES_URL", server.url)
    monkeypatch.setenv("BROKER_URL", "memory://")
    monkeypatch.setenv("RESULT_URL", "cache+memory://")
    program = load("threads_and_celery")
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_waits(program.images))
        stack.enter_context(start_worker(program.app, perform_ping_check=False, shutdown_timeout=60))
        yield program


def test_celery(server: AnsweringServer, thumbnails: Any) -> None:
    server.replies += [BUSY]
    assert thumbnails.make_thumbnail.delay("a.png").get(timeout=60) == 2
    breaker = thumbnails.images.breaker
    breaker.force_open()
    result = thumbnails.make_thumbnail.apply_async(("b.png",), retries=10)  # the last one that is allowed
    with pytest.raises(CircuitOpenError):
        result.get(timeout=60)
    assert len(server.arrived) == 2
