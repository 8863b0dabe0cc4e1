"""Protection for an httpx or httpx2 client: a transport around its own.

    client = httpx.AsyncClient(transport=AsyncResilientTransport(policy))

An attempt ends with the headers of the response; the client reads the body after it. With ``max_body_bytes`` the body
is part of the attempt. Like any transport passed to a client, it replaces the settings ``verify``, ``http2``,
``limits`` and so on of the client, and the proxies of the environment; give it a transport that has them. Requests that
the client sends through its own ``proxy`` or ``mounts`` do not pass through it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry.trace import get_current_span

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import ProcessLock
from otel_resilience._internal.nesting import enclosing
from otel_resilience._internal.predicates import takes_one
from otel_resilience.errors import AttemptTimeoutError
from otel_resilience.integrations._body import Body, bounded_encodings, time_check
from otel_resilience.integrations._http import (
    RESEND_COUNT,
    AsyncExchange,
    PolicyByHost,
    Protection,
    SyncExchange,
    time_left,
    timed_by_client,
)
from otel_resilience.limits.attempt_timeout import TimeLimit, TimeLimitError
from otel_resilience.policy.policy import Policy

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _BaseTransport(httpx.BaseTransport, httpx2.BaseTransport):
        def handle_request(self, request: Any) -> Any: ...

    class _AsyncBaseTransport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any: ...

else:
    try:
        from httpx import AsyncBaseTransport as _AsyncBaseTransport
        from httpx import BaseTransport as _BaseTransport
    except ImportError:
        try:
            from httpx2 import AsyncBaseTransport as _AsyncBaseTransport
            from httpx2 import BaseTransport as _BaseTransport
        except ImportError as error:
            raise ImportError(f"{__name__} needs httpx or httpx2: pip install 'otel-resilience[httpx]'") from error

__all__ = ["AsyncResilientTransport", "ResilientTransport"]

_OURS: Final = "otel_resilience.transport"
_STEPS: Final = ("connect", "read", "write", "pool")
"""The timeouts of a client."""
_NONE: Final[Mapping[str, float | None]] = {}
_libraries: Final[dict[type, ModuleType]] = {}
"""By the class of a request."""
_making: Final = ProcessLock()


class _Transport:
    """What both transports have in common."""

    _entry: str
    """The method that a client calls."""
    _asynchronous: bool
    _default: str
    """The transport used if none is given, from the library that the request comes from."""

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        transport: Any = None,
        *,
        name: Callable[[Any], str] | None = None,
        permits: Callable[[Any], int] | None = None,
        max_body_bytes: int | None = None,
        judge: Callable[[Any], object] | None = None,
    ) -> None:
        if permits is not None:
            check.def_function("permits", permits)
            takes_one("permits", permits, "request")
        if isinstance(transport, type):
            raise TypeError(f"transport must be an object, not the class {transport.__name__}")
        if transport is not None and not callable(getattr(transport, self._entry, None)):
            raise TypeError(f"transport must have the method {self._entry}, which {transport!r} lacks")
        self._permits = permits
        self._protection = Protection(policy, name, max_body_bytes, judge, asynchronous=self._asynchronous)
        self._transport = transport
        self._instrumented: Callable[[Any], Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """An instrumentation of the client replaces the entry method. Each attempt calls its wrapper instead, so that
        its spans are those of attempts; the attribute holds what the instrumentation expects to find on removal."""
        if name == self._entry:
            self._instrumented = None
            if type(value) is MethodType and value == MethodType(getattr(type(self), name), self):  # removed
                self.__dict__.pop(name, None)
                return
            entry = getattr(value, "__wrapped__", None)
            if entry is not None:
                self._instrumented = value
                value = type(value)(entry, _pass_on)
        super().__setattr__(name, value)

    def _options(self, request: Any, policy: Policy) -> dict[str, Any]:
        template = request.extensions.get("url_template")
        method = request.method.upper()
        one_shot = not isinstance(request.stream, _library_of(request).ByteStream)
        name = f"{method} {template}" if template else method
        return {
            **self._protection.options(policy, request, method, request.headers, one_shot=one_shot, name=name),
            "deadline": request.extensions.get("deadline"),
            "permits": 1 if self._permits is None else self._permits(request),
        }

    def _attempt(self, request: Any, number: int, policy: Policy) -> Any:
        """The request as this attempt sends it, with its time limits. A copy, since attempts may overlap."""
        sent = object.__new__(type(request))
        vars(sent).update(vars(request))
        sent.headers = type(request.headers)(request.headers)
        sent.extensions = {**request.extensions, _OURS: (self, number)}
        if self._protection.max_body_bytes is not None:
            encodings = bounded_encodings(sent.headers.get("Accept-Encoding"))
            if encodings is not None:
                sent.headers["Accept-Encoding"] = encodings
        limit = time_left(policy.attempt_timeout)
        if limit is not None:
            sent.extensions["timeout"] = timeout = dict.fromkeys(_STEPS, limit)
            for step, given in request.extensions.get("timeout", _NONE).items():
                if given is not None and given < limit:
                    timeout[step] = given
        if number > 1 or policy.rate_limiter is not None:
            sent.extensions["trace"] = self._traced(request.extensions.get("trace"), number - 1)
        return sent

    def _sender(self, request: Any) -> Callable[[Any], Any]:
        return self._instrumented or getattr(self._inner(request), self._entry)

    def _passes(self, request: Any) -> bool:
        """Whether a request is not protected here: it is already, or no policy can be found for it, since its address
        names no host. What the transport inside says to that is clearer than what a dictionary or a registry does."""
        return self._inside(request) or (self._protection.by_host and not request.url.host)

    def _inside(self, request: Any) -> bool:
        """Whether an instrumentation, in an attempt of this transport, passes the request on."""
        transport, number = request.extensions.get(_OURS, (None, 0))
        if transport is self and number > 1:
            get_current_span().set_attribute(RESEND_COUNT, number - 1)
        return transport is self

    def _traced(self, given: Any, resent: int) -> Any:
        """A trace function for httpcore, which calls it within the span of the client, if there is one. Only until the
        request is sent: the body of the response is read outside the attempt."""
        attempt, call = get_current_span(), enclosing.get()

        def note(event: str) -> None:
            if event.endswith(".send_request_headers.started") and resent and get_current_span() is not attempt:
                get_current_span().set_attribute(RESEND_COUNT, resent)
            elif event.endswith(".send_request_headers.complete") and call is not None:
                call.note_on_wire()

        return self._noting(note, given)

    def _noting(self, note: Callable[[str], None], given: Any) -> Any:
        raise NotImplementedError

    def _inner(self, request: Any) -> Any:
        if self._transport is None:
            with _making:
                self._transport = self._transport or getattr(_library_of(request), self._default)()
        return self._transport


class ResilientTransport(_Transport, _BaseTransport):
    """Sends the requests of a ``Client`` through ``transport`` (a new ``HTTPTransport`` by default) under a policy.

    ``policy`` is one for all requests, or policies by host: a dictionary, or a
    :class:`~otel_resilience.PolicyRegistry`; a host missing from a dictionary is a ``KeyError``. ``name`` returns the
    operation's name on telemetry for a request, from a small set; by default it is the method, followed by the
    extension ``url_template`` if the request has one. ``attempt_timeout`` and the remaining deadline cap each of the
    client's timeouts; no thread is needed. ``permits`` returns how many permits of the rate limit each attempt of a
    request takes, by default 1. The extension ``deadline`` of a request, in seconds, replaces the policy's if it is
    shorter.

    With ``max_body_bytes`` an attempt includes the body: at most that many decoded bytes are read immediately, and
    served to the client from memory. ``attempt_timeout`` and the deadline then also end a body that arrives too slowly
    (:class:`~otel_resilience.AttemptTimeoutError`); one that breaks off, is too large
    (:class:`~otel_resilience.integrations.BodyTooLargeError`) or wrongly encoded
    (:class:`~otel_resilience.integrations.BodyEncodingError`) is a failure of the attempt. With a status of 400 or
    above it is truncated instead. Only gzip and deflate are requested; the response has no ``Content-Encoding``.

    ``judge`` is given the response of each attempt with its body, whatever its status. An exception that it raises is
    the error of the attempt, and the last one reaches the caller. If it returns ``True`` the response is good, such as
    a 404 that means "gone"; otherwise the status decides.

    Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> import httpx
        >>> from otel_resilience.integrations.httpx import ResilientTransport
        >>> answers = iter([503, 200])
        >>> wire = httpx.MockTransport(lambda request: httpx.Response(next(answers)))  # leave it out to use the network
        >>> policy = Policy("supplier", retry=RetryConfig(), deadline=30)
        >>> with httpx.Client(transport=ResilientTransport(policy, wire)) as client:
        ...     client.get("https://api.example.com/plans/1", extensions={"url_template": "/plans/{id}"}).status_code
        200
    """

    _entry = "handle_request"
    _asynchronous = False
    _default = "HTTPTransport"

    def handle_request(self, request: Any) -> Any:
        """The last response. Raises what the transport raised last, or an error of the policy."""
        if self._passes(request):
            return self._inner(request).handle_request(request)
        policy = self._protection.policy(request.url.host)
        exchange: SyncExchange[Any] = SyncExchange(request.headers, _library_of(request).Response.close)
        whole = self._protection.max_body_bytes is not None

        def attempt() -> Any:
            exchange.begin_attempt()
            check_time = time_check(policy) if whole else None
            response = self._sender(request)(self._attempt(request, exchange.attempts, policy))
            error = exchange.judge(response, response.status_code, response.headers)
            if check_time is not None:
                content = self._read(request, response, check_time)
                judge = self._protection.judge
                if judge is not None and exchange.accepts(judge, _complete(request, response, content)):
                    error = None
            elif exchange.worth_reading(error, response.headers):
                content, stream = b"".join(response.stream), response.stream
                stream.close()
                response.stream = _library_of(request).ByteStream(content)
            if error is not None:
                raise exchange.refuse(error)
            return response

        timed = timed_by_client(policy)
        return exchange.run(lambda: timed.execute(attempt, **self._options(request, policy)))

    def _read(self, request: Any, response: Any, check_time: Callable[[], None]) -> bytes:
        with contextlib.closing(response.stream) as stream:
            body = self._protection.body(response, request.method, response.status_code, response.headers)
            for piece in stream:
                check_time()
                if not body.add(piece):
                    break
            return _keep(request, response, body)

    def __enter__(self) -> Self:
        """Opens the inner transport."""
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._transport is not None:
            self._transport.__exit__(*error)

    def close(self) -> None:
        """Closes the inner transport."""
        if self._transport is not None:
            self._transport.close()

    def _noting(self, note: Callable[[str], None], given: Any) -> Any:
        def trace(event: str, info: dict[str, Any]) -> None:
            note(event)
            if given is not None:
                given(event, info)

        return trace


class AsyncResilientTransport(_Transport, _AsyncBaseTransport):
    """Like :class:`ResilientTransport`, for an ``AsyncClient``.

    The deadline also cuts off an attempt that no timeout of the client does, and with ``max_body_bytes`` so does
    ``attempt_timeout``: before the headers with the client's ``ReadTimeout``, in the body with
    :class:`~otel_resilience.AttemptTimeoutError`. ``judge`` may be an ``async def``.

    Examples:
        >>> import asyncio
        >>> import httpx
        >>> from otel_resilience.integrations.httpx import AsyncResilientTransport
        >>> answers = iter([503, 200])
        >>> wire = httpx.MockTransport(lambda request: httpx.Response(next(answers)))  # leave it out to use the network
        >>> policy = Policy("supplier", retry=RetryConfig(), deadline=30)
        >>> async def main():
        ...     async with httpx.AsyncClient(transport=AsyncResilientTransport(policy, wire)) as client:
        ...         return (await client.get("https://api.example.com/plans")).status_code
        >>> asyncio.run(main())
        200
    """

    _entry = "handle_async_request"
    _asynchronous = True
    _default = "AsyncHTTPTransport"

    async def handle_async_request(self, request: Any) -> Any:
        """The last response. Raises what the transport raised last, or an error of the policy."""
        if self._passes(request):
            return await self._inner(request).handle_async_request(request)
        policy = self._protection.policy(request.url.host)
        exchange: AsyncExchange[Any] = AsyncExchange(request.headers, _library_of(request).Response.aclose)

        async def attempt() -> Any:
            await exchange.begin_attempt()
            response = await self._sender(request)(self._attempt(request, exchange.attempts, policy))
            error = exchange.judge(response, response.status_code, response.headers)
            if error is None:
                return response
            if exchange.worth_reading(error, response.headers):
                content, stream = b"".join([chunk async for chunk in response.stream]), response.stream
                await stream.aclose()
                response.stream = _library_of(request).ByteStream(content)
            raise exchange.refuse(error)

        async def whole_attempt() -> Any:
            await exchange.begin_attempt()
            response: Any = None

            def too_late(limit: float, _: object) -> Exception:
                if response is not None:
                    return AttemptTimeoutError(limit)
                return _library_of(request).ReadTimeout(  # type: ignore[no-any-return]  # of httpx or httpx2
                    f"no answer within {limit:g} s", request=request
                )

            with _cut(policy.attempt_timeout, too_late):
                response = await self._sender(request)(self._attempt(request, exchange.attempts, policy))
                error = exchange.judge(response, response.status_code, response.headers)
                content = await self._read(request, response)
                judge = self._protection.judge
                if judge is not None and await exchange.accepts(judge, _complete(request, response, content)):
                    error = None
            if error is not None:
                raise exchange.refuse(error)
            return response

        timed = timed_by_client(policy)
        wanted = attempt if self._protection.max_body_bytes is None else whole_attempt
        return await exchange.run(lambda: timed.execute(wanted, **self._options(request, policy)))

    async def _read(self, request: Any, response: Any) -> bytes:
        async with contextlib.aclosing(response.stream) as stream:
            body = self._protection.body(response, request.method, response.status_code, response.headers)
            async for piece in stream:
                if not body.add(piece):
                    break
            return _keep(request, response, body)

    async def __aenter__(self) -> Self:
        """Opens the inner transport."""
        if self._transport is not None:
            await self._transport.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._transport is not None:
            await self._transport.__aexit__(*error)

    async def aclose(self) -> None:
        """Closes the inner transport."""
        if self._transport is not None:
            await self._transport.aclose()

    def _noting(self, note: Callable[[str], None], given: Any) -> Any:
        async def trace(event: str, info: dict[str, Any]) -> None:
            note(event)
            if given is not None:
                await given(event, info)

        return trace


def _pass_on(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs)


def _cut(attempt_timeout: float | None, too_late: TimeLimitError) -> AbstractContextManager[object]:
    """Cuts off the block once the attempt has taken that many seconds."""
    call = enclosing.get()
    if attempt_timeout is None or call is None:
        return contextlib.nullcontext()
    return TimeLimit(attempt_timeout, call, too_late)


def _keep(request: Any, response: Any, body: Body) -> bytes:
    """Replaces the body on the wire by the one that was read."""
    content = body.end()
    response.stream = _library_of(request).ByteStream(content)
    if body.changed:
        for name in ("Content-Encoding", "Content-Length"):
            response.headers.pop(name, None)
    return content


def _complete(request: Any, response: Any, content: bytes) -> Any:
    """A copy of the response with its body, for inspection; the client reads its own."""
    return _library_of(request).Response(
        response.status_code,
        headers=response.headers,
        content=content,
        request=request,
        extensions=response.extensions,
    )


def _library_of(request: Any) -> ModuleType:
    """httpx or httpx2: both list their public classes under their own name."""
    kind = type(request)
    library = _libraries.get(kind)
    if library is None:
        public = next(each for each in kind.__mro__ if each.__module__ in {"httpx", "httpx2"})
        library = _libraries[kind] = sys.modules[public.__module__]
    return library
