"""Under load: expensive answers are made outside the event loop, once for all waiters, with a share per client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.api import catalogue, protocol, reads
from catalog_sync.api import making as making_module
from catalog_sync.api.app import Api, Parts
from catalog_sync.api.guards import Clients
from catalog_sync.api.making import MAX_WAITING, MAX_WAITING_PER_CLIENT, Making
from catalog_sync.api.problems import ProblemError
from catalog_sync.api.protocol import LEAST_PROGRESS, BoundedProtocol
from catalog_sync.domain.errors import BundleNotFoundError
from catalog_sync.observability.traces import TraceRing
from catalog_sync.settings.settings import Settings
from support.api_world import AUTHORIZED, ApiWorld, NoAlerts, api_world
from support.otel_globals import fresh_otel_globals
from support.published import make_bundle

GIVEN_UP_AFTER = 60.0


class Held:
    """Work that blocks its thread until it is released, and counts its runs."""

    def __init__(self, result: object = None) -> None:
        self.running = threading.Event()
        self.let_go = threading.Event()
        self.result = result
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        self.running.set()
        assert self.let_go.wait(GIVEN_UP_AFTER)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def begun(self) -> None:
        await asyncio.to_thread(self.running.wait, GIVEN_UP_AFTER)


async def test_what_many_ask_for_at_once_is_made_once() -> None:
    making, held = Making(), Held("answer")
    asking = [asyncio.create_task(making.make("key", f"client {n}", held)) for n in range(20)]
    await held.begun()
    held.let_go.set()
    assert await asyncio.gather(*asking) == ["answer"] * 20
    assert held.calls == 1
    assert await making.make("key", "client", lambda: "new") == "new"
    making.close()


async def test_one_that_leaves_does_not_end_it_for_the_others() -> None:
    making, held = Making(), Held("answer")
    leaves, stays = (asyncio.create_task(making.make("key", "client", held)) for _ in range(2))
    await held.begun()
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    held.let_go.set()
    assert await stays == "answer"
    making.close()


async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    making, held = Making(), Held(BundleNotFoundError("gone"))
    asking = [asyncio.create_task(making.make("key", "client", held)) for _ in range(3)]
    await held.begun()
    held.let_go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in found] == [BundleNotFoundError] * 3
    assert await making.make("key", "client", lambda: "good") == "good"
    making.close()


async def test_what_waits_is_bounded_for_each_client_and_for_all() -> None:
    making, held = Making(), Held()
    waiting = [
        asyncio.create_task(making.make((client, n), f"client {client}", held))
        for client in range(MAX_WAITING // MAX_WAITING_PER_CLIENT)
        for n in range(MAX_WAITING_PER_CLIENT)
    ]
    await held.begun()
    with pytest.raises(ProblemError) as own:
        await making.make("more", "client 0", held)
    with pytest.raises(ProblemError) as everyone:
        await making.make("more", "another client", held)
    assert (own.value.status_code, everyone.value.status_code) == (429, 503)
    assert all(problem.value.headers for problem in (own, everyone))
    held.let_go.set()
    await asyncio.gather(*waiting)
    await making.make("more", "client 0", held)
    making.close()


COSTLY = ["/bundles?limit=0", "/bundles?text=portugal", "/bundles?limit=999", "/countries", "/groups?text=esim"]


@pytest.mark.parametrize("path", COSTLY)
async def test_health_and_other_reads_go_on_while_costly_answers_wait_to_be_made(world: ApiWorld, path: str) -> None:
    held = Held()
    blocking = asyncio.create_task(world.api.making.make("blocked", "somebody", held))
    await held.begun()
    waiting = [asyncio.create_task(world.http.get(path)) for _ in range(30)]
    await asyncio.sleep(0)
    for light in ("/health", "/health/live", "/bundles?limit=1", "/bundles/esim_1GB_7D_PT_V2", "/groups"):
        async with asyncio.timeout(GIVEN_UP_AFTER):
            assert (await world.http.get(light)).status_code == 200
    assert not any(task.done() for task in waiting)
    held.let_go.set()
    await blocking
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_health_does_not_wait_for_the_threads_that_others_block(tmp_path: Path) -> None:
    let_go = threading.Event()

    class Slow(NoAlerts):
        async def overview(self) -> Mapping[str, Any]:
            await asyncio.to_thread(let_go.wait, GIVEN_UP_AFTER)
            return {"set_up": True, "incidents": [], "outbox": 0, "dead_letters": 0}

    async with api_world(tmp_path, alerts=Slow()) as world:
        for _ in range(3):
            found = (await world.http.get("/health")).json()
            assert found["checks"]["alerts"] == {"status": "degraded", "detail": "the outbox cannot be read"}
        let_go.set()
        async with asyncio.timeout(GIVEN_UP_AFTER):
            while (await world.http.get("/health")).json()["checks"]["alerts"]["status"] != "healthy":
                await asyncio.sleep(0.01)


async def test_the_last_answer_of_alerts_is_shown_while_they_do_not_answer(tmp_path: Path) -> None:
    class Sometimes(NoAlerts):
        hangs = False

        async def overview(self) -> Mapping[str, Any]:
            if self.hangs:
                await asyncio.Event().wait()
            return {"set_up": True, "incidents": [], "outbox": 3, "dead_letters": 0}

    alerts = Sometimes()
    async with api_world(tmp_path, alerts=alerts) as world:
        before = (await world.http.get("/health")).json()["checks"]["alerts"]
        alerts.hangs = True
        assert (await world.http.get("/health")).json()["checks"]["alerts"] == before


@pytest.mark.fault("W6")
async def test_an_answer_too_large_to_be_kept_is_shared_while_it_is_sent(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store.publish("v2", [make_bundle(f"esim_{n}", description="d" * 500) for n in range(300)])
    await world.refresh()
    monkeypatch.setattr(reads, "CACHED_BYTES", 10_000)
    made: list[Callable[[], object]] = []
    make = Making.make

    async def counted(self: Making, key: Any, client: str, what: Callable[[], Any]) -> Any:
        made.append(what)
        return await make(self, key, client, what)

    monkeypatch.setattr(Making, "make", counted)
    reading, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(message: Any) -> None:
        if message["type"] == "http.response.body":
            reading.set()
            await goes_on.wait()

    scope = {
        "type": "http", "method": "GET", "path": "/bundles", "raw_path": b"/bundles", "query_string": b"limit=0",
        "headers": [], "scheme": "http", "client": ("192.0.2.1", 1), "server": ("api.test", 80), "root_path": "",
    }  # fmt: skip
    slow = asyncio.create_task(world.api(dict(scope), asyncio.Event().wait, slowly))  # type: ignore[arg-type]
    await reading.wait()
    answers = await asyncio.gather(*(world.http.get("/bundles?limit=0") for _ in range(5)))
    assert len(made) == 1
    goes_on.set()
    await slow
    del slow
    assert {answer.json()["total"] for answer in answers} == {300}


def test_a_long_answer_is_put_together_in_parts_so_that_other_threads_run() -> None:
    rows = [making_module.encode({"n": n}) for n in range(3)]
    body = making_module.encode_with({"total": 3}, "rows", rows)
    assert json.loads(body) == {"total": 3, "rows": [{"n": 0}, {"n": 1}, {"n": 2}]}
    assert json.loads(making_module.encode_with({}, "rows", [])) == {"rows": []}


# Who a client is.

PEERS = [
    ("", "192.0.2.7", None, "192.0.2.7"),
    ("", "192.0.2.7", "198.51.100.1", "192.0.2.7"),
    ("10.0.0.0/8", "192.0.2.7", "198.51.100.1", "192.0.2.7"),
    ("10.0.0.0/8", "10.1.1.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.0/8", "10.1.1.1", "203.0.113.9, 198.51.100.1, 10.2.2.2", "198.51.100.1"),
    ("10.0.0.0/8", "10.1.1.1", "203.0.113.9, unknown", "10.1.1.1"),
    ("10.0.0.0/8", "10.1.1.1", None, "10.1.1.1"),
    ("10.0.0.0/8", "10.1.1.1", "", "10.1.1.1"),
    ("::1", "::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("", "2001:db8:1:2::9", None, "2001:db8:1:2::/64"),
    ("127.0.0.1", "::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
]


@pytest.mark.parametrize(("proxies", "peer", "forwarded", "expected"), PEERS)
def test_a_client_is_the_last_address_that_no_trusted_proxy_has(
    proxies: str, peer: str, forwarded: str | None, expected: str
) -> None:
    settings = Settings.from_env({"CATALOG_API_TRUSTED_PROXIES": proxies})
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    assert Clients(settings.api.trusted_proxies).name({"client": (peer, 1), "headers": headers}) == expected


def _from(world: ApiWorld, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(world.api, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://api.test")


async def test_one_client_with_too_many_requests_gets_429_and_others_are_served(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_MAX_REQUESTS_PER_CLIENT="2") as world:
        held = Held()
        blocking = asyncio.create_task(world.api.making.make("blocked", "somebody", held))
        await held.begun()
        async with _from(world, "192.0.2.1") as one, _from(world, "192.0.2.2") as other:
            waiting = [asyncio.create_task(one.get(f"/bundles?limit=0&offset={n}")) for n in range(2)]
            while world.api.gate.active < 2:
                await asyncio.sleep(0)
            refused = await one.get("/bundles?limit=1")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["type"] == "urn:catalog-sync:problem:too_many_requests"
            assert (await one.get("/health")).status_code == 200
            assert (await other.get("/bundles?limit=1")).status_code == 200
            held.let_go.set()
            await blocking
            assert [(await each).status_code for each in waiting] == [200, 200]
            assert (await one.get("/bundles?limit=1")).status_code == 200


async def _stream(world: ApiWorld, address: str) -> tuple[int, asyncio.Task[None]]:
    """The status of a stream, and the stream."""
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            begun.set_result(message["status"])

    scope = {
        "type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "query_string": b"",
        "headers": [], "scheme": "http", "client": (address, 1), "server": ("api.test", 80), "root_path": "",
    }  # fmt: skip
    task = asyncio.create_task(world.api(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
    return await begun, task


@pytest.mark.fault("W8")
async def test_idle_streams_of_one_client_shut_nobody_else_out(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_MAX_STREAMS_PER_CLIENT="3") as world:
        streams = [await _stream(world, "192.0.2.1") for _ in range(5)]
        assert [status for status, _ in streams] == [200, 200, 200, 429, 429]
        status, other = await _stream(world, "192.0.2.2")
        assert status == 200
        streams[0][1].cancel()
        await asyncio.gather(streams[0][1], return_exceptions=True)
        again, task = await _stream(world, "192.0.2.1")
        assert again == 200
        world.api.drain()
        await asyncio.gather(other, task, *(each for _, each in streams), return_exceptions=True)


# Progress decides who is slow.


class Transport:
    """A client that reads only what the test allows."""

    def __init__(self) -> None:
        self.waiting = 10 * LEAST_PROGRESS
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str) -> None:
        assert name == "socket"

    def abort(self) -> None:
        self.aborted = True


class Timers:
    """The timers of an event loop."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, seconds: float, call: Callable[..., None], *args: object) -> asyncio.Handle:
        assert seconds == protocol.PROGRESS_EVERY
        self.due.append(lambda: call(*args))
        return asyncio.Handle(call, args, asyncio.get_event_loop())


@pytest.mark.fault("W8")
@pytest.mark.parametrize(("taken", "dropped"), [(LEAST_PROGRESS, False), (LEAST_PROGRESS - 1, True), (0, True)])
async def test_a_slow_client_is_dropped_only_where_it_makes_no_progress(taken: int, dropped: bool) -> None:
    connection: Any = object.__new__(BoundedProtocol)
    connection.transport, connection.loop = Transport(), Timers()
    connection._expect_progress()
    for _ in range(5):
        connection.transport.waiting -= taken
        connection.loop.due.pop()()
        if dropped:
            break
    assert connection.transport.aborted is dropped
    assert len(connection.loop.due) == (0 if dropped else 1)


# What is kept of traces, and who may write it.


@pytest.mark.fault("W7")
async def test_only_who_has_the_token_adds_to_the_evidence_of_a_trace(
    kept_here: TraceRing, spans_exported: InMemorySpanExporter, world: ApiWorld
) -> None:
    header = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    trace_id = header["traceparent"].split("-")[1]
    for method, path in (("POST", "/syncs"), ("GET", "/nowhere"), ("POST", "/incidents/x/ack")):
        await world.http.request(method, path, headers={**header, "tracestate": "vendor=1,catalog-sync=mine"}, json={})
    assert await kept_here.get(trace_id) == []
    assert len(spans_exported.get_finished_spans()) == 3, "an exporter still gets them"
    await world.http.post("/syncs", headers={**header, **AUTHORIZED}, json={"kind": "nonsense"})
    assert [span.name for span in await kept_here.get(trace_id)] == ["POST /syncs"]
    await world.http.post("/syncs", json={})
    assert len(spans_exported.get_finished_spans()) == 5


async def test_reads_have_spans_where_traces_are_exported(
    kept_here: TraceRing, spans_exported: InMemorySpanExporter, world: ApiWorld
) -> None:
    del kept_here
    for _ in range(2):
        await world.http.get("/bundles")
    assert [span.name for span in spans_exported.get_finished_spans()] == ["GET /bundles"] * 2


async def test_elsewhere_only_those_that_fail_or_continue_a_trace(
    kept_here: TraceRing, spans_exported: InMemorySpanExporter, world: ApiWorld
) -> None:
    parts = Parts(world.live, world.jobs, kept_here, world.history, NoAlerts(), world.api.health.protection)
    quiet = Api(world.settings, parts, traces_exported=False, wall_clock=world.clock.wall)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(quiet), base_url="http://api.test") as http:
        paths = ["/bundles", "/bundles", "/groups", "/bundles/nothing", "/bundles?limit=x"]
        answers = [await http.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 400]
        assert len({answer.headers["x-correlation-id"] for answer in answers}) == len(paths)
        assert answers[3].json()["correlation_id"] == answers[3].headers["x-correlation-id"]
        assert spans_exported.get_finished_spans() == ()
        world.store.failing, world.live._copy = True, None
        failed = await http.get("/countries", headers={"authorization": "Bearer secret-4711"})
        continued = await http.get("/bundles", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    quiet.close()
    assert (failed.status_code, continued.status_code) == (503, 503)
    span, other = spans_exported.get_finished_spans()
    assert (span.name, span.status.is_ok, other.name) == ("GET /countries", False, "GET /bundles")
    assert failed.headers["x-correlation-id"] == failed.json()["correlation_id"] == f"{span.context.trace_id:032x}"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 503
    assert [kept.name for kept in await kept_here.get(failed.headers["x-correlation-id"])] == ["GET /countries"]
    assert f"{other.context.trace_id:032x}" == "a" * 32


async def test_the_duration_of_a_traced_read_has_its_trace_as_exemplar(tmp_path: Path) -> None:
    with fresh_otel_globals():
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        trace.set_tracer_provider(TracerProvider())
        async with api_world(tmp_path) as world:
            answers = [await world.http.get("/bundles") for _ in range(2)]
        found = reader.get_metrics_data()
    assert found is not None
    points = [
        point
        for resource in found.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "http.server.request.duration"
        for point in metric.data.data_points
    ]
    assert [dict(point.attributes or {})["http.route"] for point in points] == ["/bundles"]
    seen = {f"{exemplar.trace_id:032x}" for point in points for exemplar in point.exemplars}
    assert seen
    assert seen <= {answer.headers["x-correlation-id"] for answer in answers}


async def test_what_is_kept_is_served_while_all_places_are_taken(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_MAX_CONCURRENCY="1") as world:
        kept = await world.http.get("/bundles?limit=1")
        held = Held()
        blocking = asyncio.create_task(world.api.making.make("blocked", "somebody", held))
        await held.begun()
        waiting = asyncio.create_task(world.http.get("/bundles?limit=0"))
        while world.api.gate.active < 1:
            await asyncio.sleep(0)
        assert (await world.http.get("/bundles?limit=2")).status_code == 503
        again = await world.http.get("/bundles?limit=1")
        assert (again.status_code, again.content) == (200, kept.content)
        held.let_go.set()
        await asyncio.gather(blocking, waiting)


async def test_a_kept_answer_is_judged_again_when_it_has_become_old(world: ApiWorld) -> None:
    group = "/bundles?group=Standard+Fixed"
    assert (await world.http.get(group)).headers["x-catalog-source"] == "fresh"
    world.clock.passed += world.settings.stale_after - 61
    await world.refresh()
    assert (await world.http.get(group)).json()["source"] == "fresh"
    world.clock.passed += 2
    await world.refresh()
    for path in (group, "/bundles?country=PT", "/groups", "/countries", "/bundles/esim_1GB_7D_PT_V2"):
        late = await world.http.get(path)
        assert (late.json()["source"], late.json()["stale"]) == ("stale", True)
        assert (late.headers["x-catalog-source"], late.headers["cache-control"]) == ("stale", "no-cache")
        assert (await world.http.get(path, headers={"if-none-match": '"v1"'})).status_code == 200


async def test_selections_and_listings_that_are_kept_are_bounded(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.live.copy
    monkeypatch.setattr(catalogue, "MAX_KEPT", 10 * catalogue.SELECTION)
    sizes = []
    for number in range(100):
        for path in ("bundles", "groups", "countries"):
            await world.http.get(f"/{path}?group={number}x")
            sizes.append(len(copy._kept))
    assert 5 <= max(sizes) <= 10


async def test_the_first_read_waits_for_a_version_that_is_being_read(tmp_path: Path) -> None:
    async with api_world(tmp_path, catalogue=False) as world:
        assert (await world.http.get("/bundles")).status_code == 503
        world.store.publish("v1")
        begun, goes_on = asyncio.Event(), asyncio.Event()
        answer = world.store._answer

        async def slowly() -> None:
            await answer()
            if world.live._loading:
                begun.set()
                await goes_on.wait()

        world.store._answer = slowly  # type: ignore[method-assign]
        world.clock.passed += 10
        read = asyncio.create_task(world.http.get("/bundles"))
        await begun.wait()
        goes_on.set()
        assert (await read).status_code == 200
