"""Protection for an aiohttp session: a middleware.

session = aiohttp.ClientSession(middlewares=[resilience_middleware(policy)])
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.payload import BytesPayload

from otel_resilience._internal.nesting import enclosing
from otel_resilience.integrations._http import AsyncExchange, PolicyByHost, Protection
from otel_resilience.policy.policy import Policy

__all__ = ["resilience_middleware"]


def resilience_middleware(
    policy: Policy | PolicyByHost,
    *,
    name: Callable[[ClientRequest], str] | None = None,
    max_body_bytes: int | None = None,
    judge: Callable[[ClientResponse], object] | None = None,
) -> ClientMiddlewareType:
    """Sends the requests of a ``ClientSession`` under a policy.

    ``policy`` is one for all requests, or policies by host: a dictionary, or a
    :class:`~otel_resilience.PolicyRegistry`; a host missing from a dictionary is a ``KeyError``. ``name`` returns the
    operation's name on telemetry for a request, from a small set; by default it is the method.

    An attempt ends with the headers of the response. The policy cuts it off, besides the timeouts of the session, whose
    ``total`` applies to all attempts together.

    With ``max_body_bytes`` an attempt includes the body: at most that many bytes of it, as decoded by aiohttp, are read
    immediately. ``judge``, a ``def`` or an ``async def``, is given the response of each attempt with its body. Both
    work as in :class:`~otel_resilience.integrations.httpx.ResilientTransport`. Raises ``TypeError`` or ``ValueError``
    naming the parameter.

    Examples:
        >>> import asyncio
        >>> from aiohttp import ClientSession, ClientTimeout
        >>> from otel_resilience.integrations.aiohttp import resilience_middleware
        >>> policies = PolicyRegistry(lambda host: Policy(host, retry=RetryConfig(), deadline=30))
        >>> async def main():
        ...     middleware = resilience_middleware(policies)
        ...     async with ClientSession(middlewares=[middleware], timeout=ClientTimeout(total=60)) as session:
        ...         return session.closed  # here: await session.get(...)
        >>> asyncio.run(main())
        False
    """
    protection = Protection(policy, name, max_body_bytes, judge, asynchronous=True)

    async def resilience(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        policy = protection.policy(request.url.host)
        exchange = AsyncExchange(request.headers, _close)

        async def attempt() -> ClientResponse:
            await exchange.begin_attempt()
            with _total_time(request):
                return await answer()

        async def answer() -> ClientResponse:
            response = await handler(request)
            error = exchange.judge(response, response.status, response.headers)
            if max_body_bytes is not None:
                await _read(response, protection)
                if judge is not None and await exchange.accepts(judge, response):
                    error = None
            elif exchange.worth_reading(error, response.headers):
                _replace(response, await response.read())
            if error is not None:
                raise exchange.refuse(error)
            return response

        options = protection.options(policy, request, request.method, request.headers, one_shot=_read_once(request))
        return await exchange.run(lambda: policy.execute(attempt, **options))

    return resilience


@contextlib.contextmanager
def _total_time(request: ClientRequest) -> Iterator[None]:
    """When the ``total`` of ``ClientTimeout`` passes in the block, the attempt failed and none follows it.

    aiohttp cancels the task for that, and makes a ``TimeoutError`` of it: in the block if the request was sent, else
    not before the whole call has ended.
    """
    task = asyncio.current_task()
    cancelling = 0 if task is None else task.cancelling()
    try:
        yield
    except (TimeoutError, asyncio.CancelledError) as error:
        call = enclosing.get()
        if task is None or call is None or not _time_is_up(request):
            raise
        if isinstance(error, TimeoutError):
            call.time_is_up()
            raise
        if task.cancelling() > cancelling + 1:
            raise  # somebody else has cancelled it as well
        task.uncancel()
        call.time_is_up()
        raise TimeoutError from error


def _time_is_up(request: ClientRequest) -> bool:
    timer = getattr(request, "_timer", None)  # nothing public knows it
    try:
        if timer is not None:
            timer.assert_timeout()
    except TimeoutError:
        return True
    return False


def _read_once(request: ClientRequest) -> bool:
    """Whether the body may be one that can be sent only once: not bytes, text, JSON or a form."""
    return not isinstance(request.body, (bytes, BytesPayload))


async def _read(response: ClientResponse, protection: Protection[ClientRequest]) -> None:
    """Reads the body as far as needed, so that it can be read again, in one piece or as a stream."""
    try:
        body = protection.body(response, response.method, response.status, response.headers, decoded=True)
        async for piece in response.content.iter_any():
            if not body.add(piece):
                if response.connection is not None:
                    response.connection.close()
                break
        content = body.end()
    except BaseException:
        response.close()
        raise
    _replace(response, content)
    await response.read()  # which aiohttp keeps
    _replace(response, content)


def _replace(response: ClientResponse, body: bytes) -> None:
    """Serves the body from memory."""
    loop = asyncio.get_running_loop()
    response.content = StreamReader(BaseProtocol(loop), max(len(body), 1), loop=loop)
    response.content.feed_data(body)
    response.content.feed_eof()


async def _close(response: ClientResponse) -> None:
    response.close()
