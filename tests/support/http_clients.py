"""Each client that has an integration, with one interface, so that the same tests apply to all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

import aiohttp
import httpx
import httpx2
import requests

from otel_resilience import Policy
from otel_resilience.integrations import PolicyByHost
from otel_resilience.integrations.aiohttp import resilience_middleware
from otel_resilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from otel_resilience.integrations.requests import ResilientAdapter, ResilientSession


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the caller of a client received."""

    status: int
    body: bytes


Judge = Callable[[Answer], object]


class HttpClient:
    """A client under a policy; ``timeout`` in seconds is its own, the other parameters are the integration's."""

    cuts_itself = True
    """Its own timeouts end an attempt, so that its own errors are raised."""

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        timeout: float = 30.0,
        *,
        max_body_bytes: int | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.policy = policy
        self.timeout = timeout
        self.options: dict[str, Any] = {"max_body_bytes": max_body_bytes, "judge": self.judge_of(judge)}

    def judge_of(self, judge: Judge | None) -> Any:
        """``judge`` adapted to this client's responses."""
        return None if judge is None else lambda response: judge(Answer(response.status_code, response.content))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def send(self, method: str, url: str, **options: Any) -> Answer:
        """Options: ``headers``, ``data`` (bytes), ``chunks`` for a body that can be read only once."""
        raise NotImplementedError

    def stream(self, url: str) -> Answer:
        """Sends a GET and reads the body in pieces as it arrives."""
        raise NotImplementedError


def _chunks(chunks: list[bytes] | None) -> Iterator[bytes] | None:
    return None if chunks is None else (chunk for chunk in chunks)


async def _achunks(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class HttpxClient(HttpClient):
    """httpx, ``def``."""

    library: Any = httpx

    def __enter__(self) -> Self:
        self.client = self.library.Client(
            transport=ResilientTransport(self.policy, **self.options), timeout=self.timeout
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def send(self, method: str, url: str, **options: Any) -> Answer:
        body = _chunks(options.pop("chunks", None)) or options.pop("data", None)
        response = self.client.request(method, url, content=body, **options)
        return Answer(response.status_code, response.content)

    def stream(self, url: str) -> Answer:
        with self.client.stream("GET", url) as response:
            return Answer(response.status_code, b"".join(response.iter_raw()))


class Httpx2Client(HttpxClient):
    """httpx2, ``def``."""

    library = httpx2


class AsyncHttpClient(HttpClient):
    """An ``async def`` client, in its own event loop."""

    def __enter__(self) -> Self:
        self.runner = asyncio.Runner()
        try:
            self.runner.run(self.open())
        except BaseException:
            self.runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.close())
        self.runner.close()

    async def open(self) -> None:
        """Makes the client."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes it."""
        raise NotImplementedError

    def send(self, method: str, url: str, **options: Any) -> Answer:
        return self.runner.run(self.asend(method, url, **options))

    def stream(self, url: str) -> Answer:
        return self.runner.run(self.astream(url))

    async def asend(self, method: str, url: str, **options: Any) -> Answer:
        """Like :meth:`send`."""
        raise NotImplementedError

    async def astream(self, url: str) -> Answer:
        """Like :meth:`stream`."""
        raise NotImplementedError


class AsyncHttpxClient(AsyncHttpClient):
    """httpx, ``async def``."""

    library: Any = httpx

    async def open(self) -> None:
        transport = AsyncResilientTransport(self.policy, **self.options)
        self.client = self.library.AsyncClient(transport=transport, timeout=self.timeout)

    async def close(self) -> None:
        await self.client.aclose()

    async def asend(self, method: str, url: str, **options: Any) -> Answer:
        chunks = options.pop("chunks", None)
        body = options.pop("data", None) if chunks is None else _achunks(chunks)
        response = await self.client.request(method, url, content=body, **options)
        return Answer(response.status_code, response.content)

    async def astream(self, url: str) -> Answer:
        async with self.client.stream("GET", url) as response:
            return Answer(response.status_code, b"".join([chunk async for chunk in response.aiter_raw()]))


class AsyncHttpx2Client(AsyncHttpxClient):
    """httpx2, ``async def``."""

    library = httpx2


class RequestsClient(HttpClient):
    """requests."""

    def __enter__(self) -> Self:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", ResilientAdapter(self.policy, **self.options))
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def send(self, method: str, url: str, **options: Any) -> Answer:
        body = _chunks(options.pop("chunks", None)) or options.pop("data", None)
        response = self.session.request(method, url, data=body, timeout=self.timeout, **options)
        return Answer(response.status_code, response.content)

    def stream(self, url: str) -> Answer:
        with self.session.get(url, stream=True, timeout=self.timeout) as response:
            return Answer(response.status_code, b"".join(response.iter_content(1024)))


class RequestsSessionClient(RequestsClient):
    """requests, with its own session."""

    def __enter__(self) -> Self:
        self.session = ResilientSession(self.policy, **self.options)
        self.session.trust_env = False
        return self


class AiohttpClient(AsyncHttpClient):
    """aiohttp."""

    cuts_itself = False

    def judge_of(self, judge: Judge | None) -> Any:
        async def ask(response: aiohttp.ClientResponse) -> object:
            assert judge is not None
            return judge(Answer(response.status, await response.read()))

        return None if judge is None else ask

    async def open(self) -> None:
        self.session = aiohttp.ClientSession(
            middlewares=[resilience_middleware(self.policy, **self.options)],
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )

    async def close(self) -> None:
        await self.session.close()

    async def asend(self, method: str, url: str, **options: Any) -> Answer:
        chunks = options.pop("chunks", None)
        body = options.pop("data", None) if chunks is None else _achunks(chunks)
        async with self.session.request(method, url, data=body, **options) as response:
            return Answer(response.status, await response.read())

    async def astream(self, url: str) -> Answer:
        async with self.session.get(url) as response:
            return Answer(response.status, b"".join([chunk async for chunk in response.content.iter_any()]))


CLIENTS: dict[str, Callable[..., HttpClient]] = {
    "httpx": HttpxClient,
    "httpx_async": AsyncHttpxClient,
    "httpx2": Httpx2Client,
    "httpx2_async": AsyncHttpx2Client,
    "requests": RequestsClient,
    "requests_session": RequestsSessionClient,
    "aiohttp": AiohttpClient,
}
ASYNC_CLIENTS: dict[str, Callable[..., AsyncHttpClient]] = {
    "httpx_async": AsyncHttpxClient,
    "httpx2_async": AsyncHttpx2Client,
    "aiohttp": AiohttpClient,
}
