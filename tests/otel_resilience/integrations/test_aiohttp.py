"""What aiohttp decides by itself: the time limit of its session for a request with all its attempts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig
from otel_resilience.integrations.aiohttp import resilience_middleware
from otel_resilience.testing import RecordedTelemetry, no_waits
from support.answering_server import AnsweringServer, Reply

SHORT = aiohttp.ClientTimeout(total=0.2)
HANGS = Reply(hangs=True)
DRIPS = Reply(200, b"x" * 1000, drips=True)


class HangingResolver(AbstractResolver):
    """A name server that does not answer."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
        await asyncio.sleep(60)

    async def close(self) -> None: ...


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 30}], ids=["alone", "limited"])
@pytest.mark.parametrize("phase", ["connect", "headers", "body"])
def test_the_total_time_of_a_session_holds_for_all_attempts(
    server: AnsweringServer, recorded: RecordedTelemetry, options: dict[str, Any], phase: str
) -> None:
    """An answer that comes too late ends the call, as a failure of its dependency: its caller would wait for the pause
    before a retry, and a request that is sent after that is given up at once."""
    policy = Policy("api", retry=RetryConfig(), breaker=CircuitBreakerConfig(), **options)
    server.replies += [DRIPS if phase == "body" else HANGS]
    url = "http://api.example" if phase == "connect" else server.url

    async def main() -> None:
        connector = aiohttp.TCPConnector(resolver=HangingResolver()) if phase == "connect" else None
        middleware = resilience_middleware(policy, max_body_bytes=10_000)
        async with aiohttp.ClientSession(connector=connector, middlewares=[middleware], timeout=SHORT) as session:
            with pytest.raises(TimeoutError):
                await session.get(url)
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()

    with no_waits(policy) as waits:
        asyncio.run(main())
    assert (len(server.arrived), waits) == (0 if phase == "connect" else 1, [])
    [call] = [span.attributes or {} for span in recorded.spans if span.name == "api GET"]
    assert (call["resilience.attempts"], call["resilience.outcome"]) == (1, "deadline")
    assert policy.breaker is not None
    assert policy.breaker.metrics().failures == 1


def test_a_hedged_request_is_not_repeated_after_it_either(server: AnsweringServer) -> None:
    policy = Policy("api", retry=RetryConfig(), hedge_after=30, idempotent=True)
    server.replies += [HANGS]

    async def main() -> None:
        async with aiohttp.ClientSession(middlewares=[resilience_middleware(policy)], timeout=SHORT) as session:
            with pytest.raises(TimeoutError):
                await session.get(server.url)

    with no_waits(policy) as waits:
        asyncio.run(main())
    assert (len(server.arrived), waits) == (1, [])


def test_a_cancellation_while_it_passes_stays_one(server: AnsweringServer) -> None:
    policy = Policy("api", retry=RetryConfig(base_delay=0))

    async def both(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        running = asyncio.current_task()
        assert running is not None
        running.cancel()
        return await handler(request)

    async def main() -> None:
        middlewares = [resilience_middleware(policy), both]
        async with aiohttp.ClientSession(middlewares=middlewares, timeout=SHORT) as session:
            await session.get(server.url)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert not server.arrived


def test_a_limit_of_a_middleware_inside_is_one_of_its_attempt(server: AnsweringServer) -> None:
    policy = Policy("api", retry=RetryConfig(base_delay=0))
    server.replies += [HANGS]

    async def limited(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        async with asyncio.timeout(0.2):
            return await handler(request)

    async def main() -> str:
        middlewares = [resilience_middleware(policy), limited]
        async with aiohttp.ClientSession(middlewares=middlewares) as session, session.get(server.url) as response:
            return await response.text()

    assert asyncio.run(main()) == "ok"
