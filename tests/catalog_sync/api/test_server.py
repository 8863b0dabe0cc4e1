"""``catalog-api`` as a process: real sockets, a real Redis, a real supplier, and its end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api_server import AUTHORIZED, TOKEN, ApiProcess, running_api
from support.cli import Cli, Supplier, running_supplier, wait_until
from support.otlp_sink import otlp_sink
from support.redis_server import RedisServer
from support.timing import quickest, seconds_of

BUNDLES = 200


@pytest.fixture(scope="module")
def shared_supplier() -> Iterator[Supplier]:
    with running_supplier(BUNDLES) as running:
        yield running


@pytest.fixture
def supplier(shared_supplier: Supplier) -> Supplier:
    shared_supplier.reset()
    return shared_supplier


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(
    tmp_path_factory: pytest.TempPathFactory, shared_supplier: Supplier, shared_redis: RedisServer
) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("api")
    with running_api(directory, shared_supplier, REDIS_URL=shared_redis.url) as running:
        yield running


@pytest.fixture
def lasting(shared_api: ApiProcess, supplier: Supplier) -> ApiProcess:
    """An API that a test leaves as it found it, with a catalogue and a supplier that is well."""
    assert shared_api.finish(shared_api.ask())["outcome"] == "COMPLETE"
    return shared_api


@pytest.fixture
def api(tmp_path: Path, supplier: Supplier, redis_server: RedisServer) -> Iterator[ApiProcess]:
    with running_api(tmp_path / "api", supplier, REDIS_URL=redis_server.url) as running:
        yield running


@contextlib.contextmanager
def connected(api: ApiProcess) -> Iterator[socket.socket]:
    url = httpx.URL(api.base_url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        yield connection


def test_from_the_request_to_the_read_and_on_to_the_trace(lasting: ApiProcess, supplier: Supplier) -> None:
    job = lasting.finish(lasting.ask())
    assert (job["outcome"], job["report"]["bundles"]) == ("COMPLETE", BUNDLES)
    answer = lasting.http.get("/bundles?limit=3")
    assert answer.json()["version"] == job["report"]["version"]
    assert (answer.json()["source"], answer.json()["total"]) == ("fresh", BUNDLES)
    supplier.play({"name": "one group", "rules": [{"fault": "status", "status": 403, "when": {"group": 0}}]})
    failed = lasting.finish(lasting.ask())
    assert failed["outcome"] == "PARTIAL"
    assert failed["progress"]["groups"][0]["status"] == "stale"
    spans = lasting.http.get(failed["links"]["spans"]).json()["spans"]
    by_id = {span["span_id"]: span for span in spans}
    worst = next(span for span in spans if span["name"] == "attempt" and span["status"] == "error")
    path = [worst["name"]]
    while worst["parent_id"] in by_id:
        worst = by_id[worst["parent_id"]]
        path.append(worst["name"])
    assert path[:3] == ["attempt", "esim-go list bundles", "catalog.sync.group"]
    assert path[-2:] == ["catalog.sync", "POST /syncs"]
    assert {span["trace_id"] for span in spans} == {failed["correlation_id"]}
    summaries = lasting.http.get("/traces").json()["traces"]
    assert failed["correlation_id"] in {summary["trace_id"] for summary in summaries}
    assert job["correlation_id"] not in {summary["trace_id"] for summary in summaries}
    logged = [line for line in lasting.logs if line.get("correlation_id") == failed["correlation_id"]]
    assert any(line["message"].startswith("group ") for line in logged)
    assert {line["service"] for line in logged} == {"catalog-api"}


def test_a_cancelled_sync_frees_the_lock_and_publishes_nothing(lasting: ApiProcess, supplier: Supplier) -> None:
    before = lasting.finish(lasting.ask())["report"]["version"]
    supplier.play({"name": "late", "rules": [{"fault": "latency", "delay_s": 1}]})
    order = lasting.ask()
    wait_until(lambda: lasting.http.get(order.headers["location"]).json()["progress"]["groups_total"])
    lasting.http.delete(order.headers["location"], headers=AUTHORIZED)
    assert lasting.finish(order)["status"] == "cancelled"
    supplier.reset()
    assert lasting.http.get("/bundles").json()["version"] == before
    assert lasting.finish(lasting.ask())["outcome"] == "COMPLETE"


def test_a_supplier_that_asks_an_api_for_time_is_left_alone_by_the_schedule(
    tmp_path: Path, supplier: Supplier, redis_server: RedisServer
) -> None:
    """The state folder and the Redis are those of a timer that runs ``run --if-due`` beside the API."""
    cli = Cli(tmp_path / "api", supplier, redis_server.url)
    asks = {"fault": "status", "status": 429, "retry_after": 700, "when": {"endpoint": "groups"}}
    with running_api(tmp_path / "api", supplier, REDIS_URL=redis_server.url, CATALOG_SYNC_DEADLINE_MS="60000") as api:
        supplier.play({"name": "asks for time", "rules": [asks]})
        assert api.finish(api.ask())["outcome"] == "FAILED"
        supplier.reset()
        assert cli("run", "--if-due", "--json").json["reason"] == "paused"
        assert api.finish(api.ask())["outcome"] == "COMPLETE"
    assert cli("status", "--json").json["paused_for_s"] == 0


def test_a_version_of_another_process_is_served_within_two_seconds(
    lasting: ApiProcess, tmp_path: Path, supplier: Supplier, shared_redis: RedisServer
) -> None:
    cli = Cli(tmp_path / "other", supplier, shared_redis.url)

    def seen_after() -> float:
        version = cli("run", "--json", "--force").json["version"]
        return seconds_of(lambda: lasting.read_soon("/bundles", version))

    assert quickest(seen_after, 2.0) <= 2.0


def latencies(api: ApiProcess, seconds: float) -> list[float]:
    took = []
    with httpx.Client(base_url=api.base_url, trust_env=False) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            assert client.get("/bundles?country=PT").status_code == 200
            took.append(time.perf_counter() - began)
    return took


def test_reads_stay_quick_and_honest_while_redis_hangs(lasting: ApiProcess, shared_redis: RedisServer) -> None:
    api = lasting
    shared_redis.pause()
    try:
        # At most one look is under way, and each request waits for it no longer than 30 ms.
        assert quickest(lambda: statistics.median(latencies(api, 0.8)), 0.05) < 0.05
        wait_until(lambda: api.http.get("/bundles").json()["source"] == "stale")
        assert api.http.get("/health/live").status_code == 200
        assert api.http.get("/health").json()["checks"]["store"]["status"] == "degraded"
        assert api.http.get("/health/ready").status_code == 200
    finally:
        shared_redis.resume()
    wait_until(lambda: api.http.get("/bundles").json()["source"] == "fresh")


def test_a_start_without_redis_serves_the_snapshot(
    tmp_path: Path, supplier: Supplier, redis_server: RedisServer
) -> None:
    with running_api(tmp_path / "api", supplier, REDIS_URL=redis_server.url) as first:
        version = first.finish(first.ask())["report"]["version"]
    redis_server.pause()
    try:
        with running_api(tmp_path / "api", supplier, REDIS_URL=redis_server.url) as second:
            answer = second.http.get("/bundles?limit=1")
            assert (answer.json()["source"], answer.json()["version"]) == ("snapshot", version)
            assert second.stop() < 10
    finally:
        redis_server.resume()


# --- clients that are slow, wrong or hostile


def test_clients_that_do_not_read_block_no_one(lasting: ApiProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connected(lasting))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /bundles?limit=0 HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        for _ in range(20):
            stack.enter_context(connected(lasting)).sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            stack.enter_context(connected(lasting)).sendall(
                b"POST /syncs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{"
            )
        assert quickest(lambda: statistics.median(latencies(lasting, 0.5)), 0.1) < 0.1
        assert lasting.finish(lasting.ask())["outcome"] == "COMPLETE"


def reply(connection: socket.socket) -> tuple[bytes, dict[str, Any]]:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head, json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, "too_large"),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "too_large"),
    ],
)
def test_malformed_http_gets_a_problem_document(lasting: ApiProcess, sent: bytes, status: int, kind: str) -> None:
    with connected(lasting) as connection:
        connection.sendall(sent)
        head, document = reply(connection)
    assert f"HTTP/1.1 {status} ".encode() in head
    assert b"content-type: application/problem+json" in head
    assert document["type"] == f"urn:catalog-sync:problem:{kind}"
    assert f"x-correlation-id: {document['correlation_id']}".encode() in head


def test_several_requests_on_one_connection(lasting: ApiProcess) -> None:
    with connected(lasting) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3:
            part = connection.recv(65536)
            assert part
            received += part


def test_an_unexpected_body_does_no_harm(lasting: ApiProcess) -> None:
    answer = lasting.http.request("GET", "/health/live", content=b"x" * 200_000)
    assert answer.status_code == 200
    assert lasting.http.get("/health/live").status_code == 200


# --- beginning and end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_and_the_process(api: ApiProcess, number: signal.Signals) -> None:
    with api.http.stream("GET", "/events") as stream:
        parts = stream.iter_raw()
        assert next(parts).startswith(b"retry:")
        seconds = api.stop(number)
        assert b"".join(parts) == b""
    assert seconds < 5
    assert api.process.returncode == 0


def test_a_signal_stops_the_sync_and_frees_its_lock(
    api: ApiProcess, supplier: Supplier, redis_server: RedisServer
) -> None:
    supplier.play("hang")
    order = api.ask()
    wait_until(lambda: supplier.requests() >= 1)
    assert api.http.get(order.headers["location"]).json()["status"] == "running"
    assert api.stop() < 8
    assert api.process.returncode == 0
    assert not redis_server.command("EXISTS", "{cat}:lock")


def test_it_ends_in_time_while_redis_hangs(api: ApiProcess, redis_server: RedisServer) -> None:
    redis_server.pause()
    try:
        assert api.stop() < 10
    finally:
        redis_server.resume()


def test_an_address_in_use_is_reported_in_one_line(lasting: ApiProcess, tmp_path: Path) -> None:
    port = str(httpx.URL(lasting.base_url).port)
    done = subprocess.run(
        [sys.executable, "-m", "catalog_sync.api.command"],
        env={"CATALOG_API_PORT": port, "CATALOG_STATE_DIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"CATALOG_API_PORT={port}" in done.stderr


def test_an_invalid_setting_is_reported_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "catalog_sync.api.command"],
        env={"CATALOG_API_OPEN_READS": "no", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "CATALOG_API_TOKEN" in done.stderr
    assert "no client could read" in done.stderr, "the reason does not look like a secret"
    assert len(done.stderr.splitlines()) == 1


def test_the_token_reaches_no_log(api: ApiProcess) -> None:
    api.http.get(f"/bundles?text={TOKEN}")
    api.http.get(f"/nothing/{TOKEN}")
    api.http.post("/syncs", content=TOKEN, headers={**AUTHORIZED, "Content-Type": "application/json"})
    api.finish(api.ask(kind="bundle", scope=TOKEN))
    assert api.http.get("/syncs").json()["syncs"][0]["outcome"] == "FAILED"
    api.stop()
    assert TOKEN not in json.dumps(api.logs)


def test_a_collector_sees_the_whole_trace(tmp_path: Path, supplier: Supplier, redis_server: RedisServer) -> None:
    with (
        otlp_sink() as sink,
        running_api(
            tmp_path / "api", supplier, REDIS_URL=redis_server.url, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url
        ) as api,
    ):
        job = api.finish(api.ask())
        api.http.get("/bundles")
        api.stop()
        spans = [span for span in sink.spans if span.trace_id == job["correlation_id"]]
        names = {span.name for span in spans}
        assert {"POST /syncs", "catalog.sync", "catalog.sync.group", "attempt", "GET /catalogue"} <= names
        assert {span.resource["service.name"] for span in sink.spans} == {"catalog-api"}
        assert any(span.name == "GET /bundles" for span in sink.spans)
        assert "http.server.request.duration" in {point.name for point in sink.points}
