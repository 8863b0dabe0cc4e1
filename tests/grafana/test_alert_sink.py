"""The bundled receiver of alerts, as used by Grafana and by a person."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.redis_server import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with what the receiver prints."""
    return tmp_path_factory.mktemp("sink") / "stdout"


@pytest.fixture(scope="module")
def sink(printed: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [
        sys.executable, str(ROOT / "grafana/alert_sink.py"),
        "--port", str(port), "--runbook", str(ROOT / "docs/alerts.md"),
    ]  # fmt: skip
    with printed.open("w") as stdout:
        server = subprocess.Popen(command, stdout=stdout)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            give_up = time.monotonic() + 10
            while True:
                try:
                    client.get("/health")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < give_up
                    time.sleep(0.02)
            yield client
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


def test_it_runs(sink: httpx.Client) -> None:
    assert sink.get("/health").text == "ok\n"


def test_what_is_posted_is_listed_newest_first_and_printed(sink: httpx.Client, printed: Path) -> None:
    assert sink.post("/page", content=b"no JSON").is_success
    assert sink.post("/slack", json={"text": "second"}).is_success
    newest, older = sink.get("/").json()[:2]
    assert (newest["path"], newest["body"]) == ("/slack", {"text": "second"})
    assert (older["path"], older["body"]) == ("/page", "no JSON")
    lines = [json.loads(line) for line in printed.read_text().splitlines()]
    assert [line["body"] for line in lines] == ["no JSON", {"text": "second"}]


def test_a_link_to_the_runbook_leads_to_its_section(sink: httpx.Client) -> None:
    page = sink.get("/runbook").text
    assert '<h2 id="circuitbreakeropen">CircuitBreakerOpen</h2>' in page
    assert '<a href="#syncfailed">SyncFailed</a>' in page


def test_a_body_without_an_end_is_refused(sink: httpx.Client) -> None:
    answer = sink.post("/slack", content=iter([b"x"]))
    assert answer.status_code == 413
    assert sink.get("/nothing").status_code == 404
