"""The recipes of docs/clients.md, run as written, with the addresses of local servers."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import celery.exceptions
import grpc
import httpx
import pytest
import sqlalchemy

from otel_resilience import CircuitOpenError, Policy
from otel_resilience.testing import no_waits
from support.answering_server import AnsweringServer, Reply

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"
BUSY = Reply(503, b"busy")


class Recipe(dict[str, Any]):
    """The names that a recipe defines."""

    @property
    def policy(self) -> Policy:
        return self["policy"]  # type: ignore[no-any-return]


@pytest.fixture
def recipe() -> Iterator[Callable[..., Recipe]]:
    """Runs the code below a heading, with replaced texts and given names. Its policy does not wait."""
    with contextlib.ExitStack() as stack:

        def run(heading: str, replace: dict[str, str] | None = None, **names: Any) -> Recipe:
            code = re.search(rf"^#+ {heading}\n.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.S | re.M)
            assert code is not None
            text = code[1]
            for old, new in (replace or {}).items():
                assert old in text
                text = text.replace(old, new)
            done = Recipe(names)
            exec(compile(text, f"{PAGE.name}: {heading}", "exec"), done)
            stack.enter_context(no_waits(done.policy))
            return done

        yield run


def test_a_policy(recipe: Callable[..., Recipe]) -> None:
    assert recipe("Protect a whole client").policy.deadline == 20


def test_boto3(recipe: Callable[..., Recipe], server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    slow_down = Reply(503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
    server.replies += [slow_down, Reply(500, b"<Error><Code>InternalError</Code></Error>"), Reply(body=b"rows")]
    done = recipe("boto3")
    assert done["report"]("november.csv")["Body"].read() == b"rows"
    assert [each.path for each in server.arrived] == ["/reports/november.csv"] * 3


class Prices(grpc.GenericRpcHandler):  # type: ignore[misc]  # it carries no types
    """A server that is unavailable at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: list[tuple[str, float]] = []

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            self.seen.append((details.method, context.time_remaining()))
            if len(self.seen) <= self.failures:
                context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
            return b"price of " + request

        return grpc.unary_unary_rpc_method_handler(answer)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serves within the block, at the yielded address."""
        with ThreadPoolExecutor(2) as threads:
            server = grpc.server(threads, handlers=[self])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            try:
                yield f"127.0.0.1:{port}"
            finally:
                server.stop(None).wait()


@pytest.mark.parametrize(("method", "attempts"), [("Get", 3), ("Set", 1)])
def test_grpc(recipe: Callable[..., Recipe], method: str, attempts: int) -> None:
    prices = Prices(failures=2)
    with prices.serving() as address:
        done = recipe("gRPC", {"prices:50051": address})
        call = done["channel"].unary_unary(f"/shop.Prices/{method}")
        if attempts == 3:
            assert call(b"tea", timeout=5) == b"price of tea"
        else:
            with pytest.raises(grpc.RpcError):
                call(b"tea", timeout=5)
        done["channel"].close()
    assert [name for name, _ in prices.seen] == [f"/shop.Prices/{method}"] * attempts
    assert all(left < 5.5 for _, left in prices.seen)


def test_the_timeout_of_a_grpc_call_holds_for_all_its_attempts(recipe: Callable[..., Recipe]) -> None:
    prices = Prices(failures=9)
    with prices.serving() as address:
        done = recipe(
            "gRPC",
            {"prices:50051": address, "RetryConfig()": "RetryConfig(base_delay=6, jitter=False)"},
        )
        with pytest.raises(grpc.RpcError, match="starting"):
            done["channel"].unary_unary("/shop.Prices/Get")(b"tea", timeout=0.5)
        done["channel"].close()
    assert len(prices.seen) == 1  # the wait before the second one would be longer


@pytest.mark.parametrize(("method", "attempts"), [("Get", 3), ("Set", 1)])
async def test_grpc_with_asyncio(recipe: Callable[..., Recipe], method: str, attempts: int) -> None:
    prices = Prices(failures=2)
    with prices.serving() as address:
        done = recipe("gRPC with asyncio", {"prices:50051": address})
        async with done["open_channel"]() as channel:
            call = channel.unary_unary(f"/shop.Prices/{method}")
            if attempts == 3:
                assert await call(b"tea", timeout=5) == b"price of tea"
            else:
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(b"tea", timeout=5)
    assert [name for name, _ in prices.seen] == [f"/shop.Prices/{method}"] * attempts
    assert all(left < 5.5 for _, left in prices.seen)


def test_openai(recipe: Callable[..., Recipe], server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    answer = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "tea"}}
    completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [answer]}
    server.replies += [
        Reply(503, b"{}"),
        Reply(429, b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', {"Retry-After": "1"}),
        Reply(body=json.dumps(completion).encode(), headers={"Content-Type": "application/json"}),
    ]
    done = recipe("openai and anthropic")
    assert done["ask"]("m", "what to drink?") == "tea"
    assert server.methods == ["POST"] * 3
    done["client"].close()


def test_sqlalchemy(recipe: Callable[..., Recipe], shop: str) -> None:
    done = recipe(
        "SQLAlchemy", {"postgresql+psycopg://shop@database/shop": shop.replace("postgresql:", "postgresql+psycopg:")}
    )
    assert done["sold"]("tea") == 1
    with done["engine"].connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT number FROM stock")).scalar() == 4
        assert connection.execute(sqlalchemy.text("SELECT last_value FROM tries")).scalar() == 3
    done["engine"].dispose()


def test_celery(recipe: Callable[..., Recipe], server: AnsweringServer) -> None:
    done = recipe("Celery", {"https://": "http://"}, MAIL_URL=server.url)
    server.replies += [BUSY]
    assert done["send_mail"](7) == 200
    assert {each.headers["idempotency-key"] for each in server.arrived} == {"order-7"}
    assert len(server.arrived) == 2
    done.policy.breaker.force_open()  # type: ignore[union-attr]  # it has one
    outcome = done["send_mail"].apply(args=(8,), throw=False, retries=20)
    assert isinstance(outcome.result, (CircuitOpenError, celery.exceptions.Retry))
    assert len(server.arrived) == 2
    done["session"].close()


async def test_fastapi(recipe: Callable[..., Recipe], server: AnsweringServer) -> None:
    pytest.importorskip("fastapi", reason="it needs a newer OpenTelemetry than the oldest that is tested")
    done = recipe("FastAPI", STOCK_URL=server.url)
    app = done["app"]
    server.replies += [BUSY, Reply(body=b"7")]
    inside = httpx.ASGITransport(app)
    async with done["lifespan"](app), httpx.AsyncClient(transport=inside, base_url="http://a") as client:
        assert (await client.get("/products/tea")).json() == {"name": "tea", "stock": 7}
        done.policy.breaker.force_open()  # type: ignore[union-attr]  # it has one
        refused = await client.get("/products/tea")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"] == "stock is down"


def test_the_body_as_a_part_of_the_attempt(recipe: Callable[..., Recipe], server: AnsweringServer) -> None:
    server.replies += [Reply(body=b'{"status": "pending"}'), Reply(503), Reply(body=b'{"status": "done"}')]
    done = recipe("The body as a part of the attempt")
    with no_waits(done.policy), httpx.Client(transport=done["transport"]) as client:
        assert client.get(server.url).json() == {"status": "done"}
    assert len(server.arrived) == 3
