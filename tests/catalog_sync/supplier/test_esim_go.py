"""The eSIM Go client against real HTTP servers: what it sends and follows, and how it interprets each answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from catalog_sync.domain.errors import (
    AccessDeniedError,
    ApiConnectionError,
    ApiTimeoutError,
    AuthenticationError,
    CatalogSyncError,
    InvalidDataError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    RedirectRefusedError,
    SupplierError,
    SupplierUnavailableError,
    SyncDeadlineError,
)
from catalog_sync.domain.times import rfc3339
from catalog_sync.observability.sdk import setup_telemetry, traced_transport
from catalog_sync.supplier.esim_go.client import EsimGoClient, open_supplier
from catalog_sync.supplier.esim_go.policy import NO_LIMIT, supplier_policy
from catalog_sync.supplier.port import Deadline, Scope
from otel_resilience import CircuitBreakerConfig, ErrorClass, RateLimit, RetryConfig, Severity
from otel_resilience.storage import MemoryStorage, SharedRateLimiter, SharedState
from support.otel_globals import fresh_otel_globals
from support.scripted_http import Request, Writer, answer, scripted_server
from support.settings import API_KEY, make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GROUP = Scope(group="Standard Fixed")
HANGS = 60.0
"""Seconds that a server does so."""
GROUPS = answer({"groups": [{"name": "A"}, {"name": "B"}]})


def listing(*names: str, rows: int | None = None, pages: int = 1) -> bytes:
    bundles = [{"name": name, "duration": 1, "price": 1.5} for name in names]
    return answer({"bundles": bundles, "rows": len(names) if rows is None else rows, "pageCount": pages})


def failing(status: int, message: str = "no", **headers: str) -> bytes:
    return answer({"message": message}, status, **headers)


@contextlib.asynccontextmanager
async def client_of(url: str, state_dir: Path, **settings: Any) -> AsyncIterator[EsimGoClient]:
    async with open_supplier(make_settings(url, state_dir, **settings)) as client:
        yield client


async def names_of(client: EsimGoClient, scope: Scope = GROUP, seconds: float = 60.0) -> list[str]:
    pages = client.iter_pages(scope, deadline=Deadline(seconds))
    async with contextlib.aclosing(pages):
        return [bundle.name async for page in pages for bundle in page.bundles]


async def test_what_is_sent(tmp_path: Path) -> None:
    async with scripted_server(listing("a")) as server, client_of(server.url + "/v2.5", tmp_path) as client:
        assert await names_of(client) == ["a"]

    (request,) = server.requests
    assert request.path == "/v2.5/catalogue"
    assert request.query == {"page": "1", "perPage": "50", "group": "Standard Fixed"}
    assert request.headers["x-api-key"] == API_KEY
    assert request.headers["accept-encoding"] == "gzip"
    assert request.headers["user-agent"].startswith("catalog-sync")


async def test_a_bundle_name_is_one_path_segment(tmp_path: Path) -> None:
    body = {"name": "a/b ?é", "duration": 1, "price": "1.50", "groups": [{"name": "A"}]}
    async with scripted_server(answer(body)) as server, client_of(server.url, tmp_path) as client:
        bundle = await client.get_bundle("a/b ?é", deadline=Deadline(5))

    assert server.requests[0].path == "/catalogue/bundle/a%2Fb%20%3F%C3%A9"
    assert (bundle.price, bundle.groups) == ("1.50", ("A",))


@pytest.mark.parametrize(
    ("reply", "error", "attempts", "error_type", "error_class"),
    [
        (failing(405, "Method Not Allowed"), SupplierError, 1, "405", ErrorClass.PERMANENT),
        (failing(404, "Not Found"), NotFoundError, 1, "404", ErrorClass.PERMANENT),
        (failing(429, "Rate limit exceeded"), RateLimitError, 3, "429", ErrorClass.THROTTLED),
        (failing(500), SupplierError, 3, "500", ErrorClass.TRANSIENT),
        (answer("<html>502</html>", 502, "text/html"), SupplierError, 3, "502", ErrorClass.TRANSIENT),
        (answer("<html>504</html>", 504, "text/html"), SupplierError, 3, "504", ErrorClass.TRANSIENT),
        (failing(503), SupplierError, 3, "503", ErrorClass.TRANSIENT),
        (failing(501), SupplierError, 1, "501", ErrorClass.PERMANENT),
        (
            answer("<html>sign in</html>", 200, "text/html"),
            InvalidDataError,
            2,
            "invalid_response",
            ErrorClass.PERMANENT,
        ),
        (answer(b""), InvalidDataError, 2, "invalid_response", ErrorClass.PERMANENT),
        (answer(b'{"bundles":[{"na'), InvalidDataError, 2, "invalid_response", ErrorClass.PERMANENT),
        (answer({"bundles": None}), InvalidDataError, 2, "invalid_response", ErrorClass.PERMANENT),
        (
            answer({"bundles": [], "rows": 5148, "pageCount": 103}),
            InvalidDataError,
            2,
            "invalid_response",
            ErrorClass.PERMANENT,
        ),
        (
            answer([{"name": f"n{i}", "duration": 1, "cost": 1} for i in range(5)]),
            InvalidDataError,
            1,
            "schema_mismatch",
            ErrorClass.PERMANENT,
        ),
        (answer(b"x" * 70_000), PayloadTooLargeError, 1, "payload_too_large", ErrorClass.PERMANENT),
        (answer(b"x", Content_Encoding="gzip"), InvalidDataError, 2, "invalid_response", ErrorClass.PERMANENT),
    ],
)
@pytest.mark.fault("F23", "F24", "F25", "F27")
async def test_what_becomes_of_each_answer(
    tmp_path: Path,
    reply: bytes,
    error: type[CatalogSyncError],
    attempts: int,
    error_type: str,
    error_class: ErrorClass,
) -> None:
    async with scripted_server(reply) as server, client_of(server.url, tmp_path, max_body_bytes=65_536) as client:
        with pytest.raises(CatalogSyncError) as caught:
            await names_of(client)

    assert type(caught.value) is error
    assert caught.value.error_type == error_type
    assert caught.value.classification.error_class is error_class
    assert len(server.requests) == attempts
    assert (client.counts.sent, client.counts.repeated) == (attempts, attempts - 1)


@pytest.mark.parametrize(
    "cure", [failing(500), failing(429), failing(503, Retry_After="0"), answer(b""), answer("<html>", 200, "text/html")]
)
async def test_what_passes_is_repeated(tmp_path: Path, cure: bytes) -> None:
    async with scripted_server([cure, listing("a")]) as server, client_of(server.url, tmp_path) as client:
        assert await names_of(client) == ["a"]
        assert (client.counts.sent, client.counts.repeated) == (2, 1)


async def test_every_http_error_keeps_its_status_and_retry_after(tmp_path: Path) -> None:
    """The original turned every HTTP error into the same code 500 and lost Retry-After."""
    reply = failing(429, Retry_After="3600")
    async with scripted_server(reply) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(RateLimitError) as caught:
            await names_of(client)

    assert caught.value.retry_after == pytest.approx(3600, abs=1)
    assert caught.value.context["status"] == 429
    assert caught.value.__cause__ is not None
    assert len(server.requests) == 1


async def test_a_401_is_not_repeated(tmp_path: Path) -> None:
    """The original's client wrapped the error before it looked for the status, so that 401 was repeated too."""
    async with scripted_server(failing(401)) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(AuthenticationError):
            await client.list_groups(deadline=Deadline(5))

    assert [request.path for request in server.requests] == ["/organisation/groups", "/organisation"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denied_group_with_a_working_key_is_not_a_dead_key(tmp_path: Path, status: int) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(answer({"name": "us"}) if request.path == "/organisation" else failing(status, "access denied"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        for _ in range(3):
            with pytest.raises(AccessDeniedError) as caught:
                await names_of(client)

    assert caught.value.error_type == str(status)
    assert caught.value.severity is Severity.MEDIUM
    assert [request.path for request in server.requests].count("/organisation") == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.fault("F25")
async def test_a_dead_key_is_critical_and_probed_once_for_all(tmp_path: Path, status: int) -> None:
    async with scripted_server(failing(status, "access denied")) as server, client_of(server.url, tmp_path) as client:
        results = await asyncio.gather(*(names_of(client) for _ in range(5)), return_exceptions=True)

    assert {type(result) for result in results} == {AuthenticationError}
    assert all(result.severity is Severity.CRITICAL for result in results if isinstance(result, CatalogSyncError))
    assert [request.path for request in server.requests].count("/organisation") == 1


async def test_an_inconclusive_probe_leaves_it_at_the_group(tmp_path: Path) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(failing(500) if request.path == "/organisation" else failing(403))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(AccessDeniedError):
            await names_of(client)


@pytest.mark.parametrize(
    "refusal", [failing(400, "Invalid perPage value"), failing(422, "perPage must be <= 25"), failing(401, "perPage")]
)
async def test_a_refused_page_size_is_stepped_down(tmp_path: Path, refusal: bytes) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(listing("a") if int(request.query["perPage"]) <= 25 else refusal)

    async with scripted_server(respond) as server, client_of(server.url, tmp_path, page_size=200) as client:
        assert await names_of(client) == ["a"]
        assert await names_of(client) == ["a"]

    assert [request.query["perPage"] for request in server.requests] == ["200", "50", "25", "25"]


async def test_a_401_above_the_documented_page_size_is_stepped_down_too(tmp_path: Path) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(listing("a") if int(request.query["perPage"]) <= 50 else failing(401, "access denied"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path, page_size=100) as client:
        assert await names_of(client) == ["a"]


@pytest.mark.fault("S13")
@pytest.mark.parametrize("status", [400, 401, 403, 413, 416, 422])
@pytest.mark.parametrize("asked", [200, 50, 25])
async def test_a_page_size_may_be_refused_without_saying_so(tmp_path: Path, status: int, asked: int) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        allowed = request.path == "/organisation" or int(request.query["perPage"]) <= 10
        writer.write(listing("a") if allowed else failing(status))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path, page_size=asked) as client:
        assert await names_of(client) == ["a"]
        asked_before = len(server.requests)
        assert await names_of(client) == ["a"]
        assert [request.query["perPage"] for request in server.requests[asked_before:]] == ["10"]


async def test_a_denied_group_makes_the_pages_of_the_others_no_smaller(tmp_path: Path) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        denied = request.query.get("group") == "Denied"
        writer.write(failing(403) if denied else listing("a"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(AccessDeniedError):
            await names_of(client, Scope(group="Denied"))
        assert await names_of(client) == ["a"]

    assert server.requests[-1].query["perPage"] == "50"


def _pages_of(names: list[str], request: Request, *, cap: int, counts: str = "asked", bare: bool = False) -> bytes:
    """A page of at most ``cap`` rows; ``counts`` says by which page size its envelope counts pages."""
    asked = int(request.query["perPage"])
    size = min(asked, cap)
    start = (int(request.query["page"]) - 1) * size
    rows = [{"name": name, "duration": 1, "price": 1.5} for name in names[start : start + size]]
    if bare:
        return answer(rows)
    counted = asked if counts.startswith("asked") else size
    envelope = {"bundles": rows, "rows": len(names), "pageCount": -(-len(names) // counted)}
    if counts.endswith("alone"):
        del envelope["rows"]
    return answer(envelope)


@pytest.mark.fault("S13")
@pytest.mark.parametrize("total", [1, 19, 20, 21, 40, 61])
@pytest.mark.parametrize("counts", ["asked", "sent", "sent alone", "bare"])
async def test_a_supplier_that_sends_fewer_rows_than_asked_for_loses_none(
    tmp_path: Path, counts: str, total: int
) -> None:
    names = [f"bundle-{number:03}" for number in range(total)]

    async def respond(request: Request, writer: Writer) -> None:
        writer.write(_pages_of(names, request, cap=20, counts=counts, bare=counts == "bare"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        assert await names_of(client) == names


@pytest.mark.parametrize("second", [answer([{"name": "a", "duration": 1, "price": 1.5}]), failing(404), failing(400)])
async def test_one_array_for_all_is_whole_where_there_is_no_second_page(tmp_path: Path, second: bytes) -> None:
    first = answer([{"name": "a", "duration": 1, "price": 1.5}])
    async with scripted_server([first, second]) as server, client_of(server.url, tmp_path) as client:
        assert await names_of(client) == ["a"]


async def test_a_page_size_that_is_never_accepted_is_an_error(tmp_path: Path) -> None:
    reply = failing(400, "Invalid perPage value")
    async with scripted_server(reply) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(SupplierError, match="perPage"):
            await names_of(client)

    assert [request.query["perPage"] for request in server.requests] == ["50", "25", "10"]


@pytest.mark.fault("F28")
async def test_a_redirect_to_another_host_never_sees_the_key(tmp_path: Path) -> None:
    async with scripted_server(listing("a")) as other:
        reply = answer(b"", 302, Location=other.url.replace("127.0.0.1", "localhost") + "/catalogue")
        async with scripted_server(reply) as server, client_of(server.url, tmp_path) as client:
            with pytest.raises(RedirectRefusedError) as caught:
                await names_of(client)

    assert other.requests == []
    assert caught.value.error_type == "redirect_refused"
    assert len(server.requests) == 1


async def test_a_redirect_on_the_same_host_is_followed(tmp_path: Path) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        moved = answer(b"", 308, Location="/new" + request.path + "?page=1")
        writer.write(listing("a") if request.path.startswith("/new") else moved)

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        assert await names_of(client) == ["a"]
        assert (client.counts.sent, client.counts.repeated) == (2, 0)


@pytest.mark.fault("F28")
async def test_a_redirect_loop_ends(tmp_path: Path) -> None:
    reply = answer(b"", 302, Location="/catalogue")
    async with scripted_server(reply) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(RedirectRefusedError) as caught:
            await names_of(client)

    assert caught.value.error_type == "too_many_redirects"
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("start", "error_type"),
    [(b"", "read_timeout"), (b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{", "attempt_timeout")],
)
@pytest.mark.fault("F07", "F08")
async def test_a_hang_and_a_drip_end_at_the_attempt_timeout(tmp_path: Path, start: bytes, error_type: str) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(HANGS)

    async with scripted_server(respond) as server, client_of(server.url, tmp_path, attempt_timeout=1.0) as client:
        with pytest.raises(ApiTimeoutError) as caught:
            await asyncio.wait_for(names_of(client), HANGS / 2)

    assert caught.value.error_type == error_type
    assert len(server.requests) == 3


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{", b"not http at all\r\n\r\n"])
async def test_a_connection_that_breaks_is_a_connection_error(tmp_path: Path, start: bytes) -> None:
    async def respond(request: Request, writer: Writer) -> None:
        writer.write(start)
        await writer.drain()
        writer.close()

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(ApiConnectionError):
            await names_of(client)

    assert len(server.requests) >= 3


async def test_a_refused_connection_is_a_connection_error(tmp_path: Path) -> None:
    async with client_of("http://127.0.0.1:1", tmp_path) as client:
        with pytest.raises(ApiConnectionError) as caught:
            await names_of(client)

    assert caught.value.error_type == "connection_error"


async def test_an_open_circuit_fails_fast_and_sends_nothing(tmp_path: Path) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=2, reset_timeout=60, monitoring_period=60)
    async with scripted_server(failing(500)) as server, client_of(server.url, tmp_path, breaker=breaker) as client:
        with pytest.raises(CatalogSyncError):
            await names_of(client)
        sent = len(server.requests)
        with pytest.raises(SupplierUnavailableError) as caught:
            await names_of(client)

    assert caught.value.error_type == "circuit_open"
    assert caught.value.retry_after is not None
    assert len(server.requests) == sent == 2


async def test_an_attempt_that_waits_for_the_limit_is_not_sent_once_the_circuit_is_open(tmp_path: Path) -> None:
    async def others_open_the_circuit(_: float) -> None:
        assert client.policy.breaker is not None
        client.policy.breaker.force_open()

    async with scripted_server(failing(503)) as server, client_of(server.url, tmp_path, supplier_rate=1) as client:
        client.policy.async_sleep = others_open_the_circuit
        with pytest.raises(SupplierError) as caught:
            await names_of(client)

    assert caught.value.error_type == "503", "what was sent met this"
    assert len(server.requests) == 1


@pytest.mark.fault("S13")
async def test_what_an_open_circuit_rejects_names_what_opened_it(tmp_path: Path) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=2, reset_timeout=60)
    async with scripted_server(failing(503)) as server, client_of(server.url, tmp_path, breaker=breaker) as client:
        with pytest.raises(SupplierError, match="answered 503"):
            await names_of(client)
        with pytest.raises(SupplierUnavailableError, match=r"not sent.*it opened after 503") as caught:
            await names_of(client)

    assert caught.value.context["opened_by"] == "503"
    assert len(server.requests) == 2


@pytest.mark.fault("F17")
async def test_a_throttled_answer_pauses_all_callers(tmp_path: Path) -> None:
    arrivals: list[float] = []

    async def respond(request: Request, writer: Writer) -> None:
        arrivals.append(time.monotonic())
        writer.write(failing(429, Retry_After="1") if len(arrivals) == 1 else listing("a"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path) as client:
        first = asyncio.create_task(names_of(client))
        while not server.requests:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        await asyncio.gather(first, names_of(client))

    assert [at - arrivals[0] >= 0.99 for at in arrivals[1:]] == [True, True]


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    "asks",
    [
        failing(429, Retry_After="9999999999"),
        failing(503, Retry_After="86400"),
        answer({"bundles": []}, X_Ratelimit_Remaining="0", X_Ratelimit_Reset=rfc3339(time.time() + 80_000)),
    ],
    ids=["absurd", "a day", "nothing remains"],
)
async def test_a_pause_longer_than_the_sync_ends_that_sync_and_not_the_next_one(tmp_path: Path, asks: bytes) -> None:
    once = {"retry": RetryConfig(max_attempts=1)}
    async with scripted_server([asks, listing("a")]) as server, client_of(server.url, tmp_path, **once) as client:
        this_sync = Deadline(60)
        with contextlib.suppress(CatalogSyncError):
            await client.list_groups(deadline=this_sync)
        with pytest.raises(RateLimitError, match=r"not sent.* until 2\d{3}-.*Z") as refused:
            await client.list_groups(deadline=this_sync)
        assert client.counts.sent == len(server.requests) == 1

        assert await names_of(client) == ["a"]

    assert refused.value.error_type == "rate_limited"
    assert refused.value.retry_after == pytest.approx(83_000, abs=4000)


@pytest.mark.fault("F19")
async def test_what_waits_for_its_turn_is_not_sent_once_the_supplier_asks_for_too_long_a_pause(tmp_path: Path) -> None:
    this_sync = Deadline(60)

    async def ask(client: EsimGoClient) -> None:
        with pytest.raises(RateLimitError):
            await client.list_groups(deadline=this_sync)

    limits = {"supplier_rate": 2}
    reply = failing(429, Retry_After="86400")
    async with scripted_server(reply) as server, client_of(server.url, tmp_path, **limits) as client:
        await asyncio.gather(*(ask(client) for _ in range(6)))

    assert len(server.requests) <= 2


async def test_waiting_for_the_limit_is_not_charged_to_the_attempt(tmp_path: Path) -> None:
    limits = {"supplier_rate": 2, "attempt_timeout": 1.5}
    async with scripted_server(listing("a")) as server, client_of(server.url, tmp_path, **limits) as client:
        await asyncio.gather(*(names_of(client) for _ in range(9)))
        assert client.counts.repeated == 0

    assert len(server.requests) == 9


@pytest.mark.fault("F32")
async def test_nothing_is_sent_after_the_deadline(tmp_path: Path) -> None:
    async with scripted_server(listing("a")) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(SyncDeadlineError):
            await names_of(client, seconds=0)

    assert server.requests == []


async def test_the_limit_covers_endpoints_that_cost_more(tmp_path: Path) -> None:
    arrivals: list[float] = []

    async def respond(request: Request, writer: Writer) -> None:
        arrivals.append(time.monotonic())
        writer.write(answer({"groups": ["A"]}, X_Ratelimit_Cost="2"))

    async with scripted_server(respond) as server, client_of(server.url, tmp_path, supplier_rate=3) as client:
        for _ in range(3):
            await client.list_groups(deadline=Deadline(10))

    assert server.requests
    assert arrivals[2] - arrivals[1] > 0.9


async def test_the_key_stands_in_no_message(tmp_path: Path) -> None:
    reply = failing(403, f"key {API_KEY} is not known")
    async with scripted_server(reply) as server, client_of(server.url, tmp_path) as client:
        with pytest.raises(AuthenticationError) as caught:
            await names_of(client)

    error: BaseException | None = caught.value
    while error is not None:
        assert API_KEY not in str(error)
        error = error.__cause__
    assert API_KEY not in repr(client.policy)
    assert server.requests


@pytest.mark.parametrize(
    ("rate", "redis_url", "limit"),
    [
        (10.0, "redis://127.0.0.1:1/0", RateLimit(10)),
        (10.0, None, RateLimit(10)),
        (0.5, None, RateLimit(1, per=2)),
        (0.0, "redis://127.0.0.1:1/0", RateLimit(NO_LIMIT)),
    ],
)
def test_the_settings_decide_the_rate_limit_and_who_shares_it(
    tmp_path: Path, rate: float, redis_url: str | None, limit: RateLimit
) -> None:
    settings = make_settings("http://x.example/v2.5", tmp_path, redis_url=redis_url, supplier_rate=rate)
    shared = SharedState(MemoryStorage(), scope="x.example:80")
    limiter = supplier_policy(settings, shared).rate_limiter

    assert limiter is not None
    assert limiter.config == limit
    assert isinstance(limiter, SharedRateLimiter) is bool(redis_url and rate)


async def test_each_attempt_has_its_own_client_span(tmp_path: Path) -> None:
    """The body belongs to the attempt; a redirect is a separate call."""
    cut = b"HTTP/1.1 200 X\r\nContent-Length: 900\r\n\r\n{"
    exporter = InMemorySpanExporter()

    async def respond(request: Request, writer: Writer) -> None:
        replies = [failing(503), cut, answer(b"", 302, Location="/moved"), GROUPS]
        writer.write(replies[len(server.requests) - 1])
        if replies[len(server.requests) - 1] is cut:
            await writer.drain()
            writer.close()

    with fresh_otel_globals():
        processor = SimpleSpanProcessor(exporter)
        with setup_telemetry("catalog-sync", os.environ, extra_span_processor=processor):
            async with (
                scripted_server(respond) as server,
                open_supplier(make_settings(server.url, tmp_path), wrap=traced_transport) as client,
            ):
                assert await client.list_groups(deadline=Deadline(60)) == ["A", "B"]
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    attempts = [span for span in spans if span.name == "attempt"]
    requests = [span for span in spans if span.kind is SpanKind.CLIENT]
    assert [span.parent and span.parent.span_id for span in requests] == [span.context.span_id for span in attempts]
    assert [(span.attributes or {}).get("http.request.resend_count") for span in requests] == [None, 1, 2, None]
    errors = [(span.attributes or {}).get("error.type") for span in attempts]
    assert (errors[0], errors[2:]) == ("503", [None, None])
    assert errors[1] is not None
    calls = [span for span in spans if span.name == "esim-go list groups"]
    assert [(span.attributes or {})["resilience.attempts"] for span in calls] == [3, 1]
    assert set(names.values()) == {"esim-go list groups", "attempt", "GET /organisation/groups"}
