"""Protection for requests: an adapter for a session, or a session.

session.mount("https://", ResilientAdapter(policy))
session = ResilientSession(policy)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span
from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.util import Timeout, parse_url

from otel_resilience._internal.nesting import current_attempt
from otel_resilience.integrations._body import CHUNK, Body, bounded_encodings, time_check
from otel_resilience.integrations._http import (
    RESEND_COUNT,
    PolicyByHost,
    Protection,
    SyncExchange,
    time_left,
    timed_by_client,
)
from otel_resilience.policy.policy import Policy

__all__ = ["ResilientAdapter", "ResilientSession"]

_attempt_span: Final[ContextVar[Span | None]] = ContextVar("otel_resilience_attempt_span", default=None)


class ResilientAdapter(HTTPAdapter):
    """Sends the requests of a session under a policy.

    ``policy`` is one for all requests, or policies by host: a dictionary, or a
    :class:`~otel_resilience.PolicyRegistry`; a host missing from a dictionary is a ``KeyError``. ``name`` returns the
    operation's name on telemetry for a ``PreparedRequest``, from a small set; by default it is the method. The other
    parameters are those of ``HTTPAdapter``; leave ``max_retries`` at 0, otherwise each attempt sends several requests.

    The body of a response is read within the attempt, unless the request says ``stream=True``. ``attempt_timeout`` and
    the remaining deadline cap the timeouts of the request; no thread is needed.

    With ``max_body_bytes`` it is always read, at most that many decoded bytes; ``attempt_timeout`` and the deadline
    then also end a body that arrives too slowly. ``judge`` gets the response of each attempt with its body. Both as in
    :class:`~otel_resilience.integrations.httpx.ResilientTransport`. Raises ``TypeError`` or ``ValueError`` naming the
    parameter.

    Examples:
        >>> import requests
        >>> from otel_resilience.integrations.requests import ResilientAdapter
        >>> policies = PolicyRegistry(lambda host: Policy(host, retry=RetryConfig(), deadline=30))
        >>> with requests.Session() as session:
        ...     session.mount("https://", ResilientAdapter(policies, pool_maxsize=50))
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_protection"]  # noqa: RUF012  # as in the base class: what copies have

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        *,
        name: Callable[[PreparedRequest], str] | None = None,
        max_body_bytes: int | None = None,
        judge: Callable[[Response], object] | None = None,
        **options: Any,
    ) -> None:
        self._protection = Protection(policy, name, max_body_bytes, judge, asynchronous=False)
        super().__init__(**options)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """The last response. Raises what requests raised last, or an error of the policy."""
        send = super().send

        def attempt(request: PreparedRequest, timeout: Any, stream: bool) -> Response:
            return send(request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)

        return _protected(self._protection, request, attempt, timeout, stream=stream)


class ResilientSession(Session):
    """A session that sends each of its requests under a policy, whatever adapters it has.

    Like a session with :class:`ResilientAdapter`, with the same parameters, except that an attempt covers more than an
    adapter sees: the CLIENT spans of ``opentelemetry-instrumentation-requests``, which represent a call of
    ``Session.send``, are inside the attempts, and from the second one on have ``http.request.resend_count``. Hooks of a
    request run in each attempt.

    Examples:
        >>> from otel_resilience.integrations.requests import ResilientSession
        >>> session = ResilientSession(Policy("supplier", retry=RetryConfig(), deadline=30))
        >>> session.close()
    """

    __attrs__ = [*Session.__attrs__, "_protection"]  # noqa: RUF012  # as in the base class

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        *,
        name: Callable[[PreparedRequest], str] | None = None,
        max_body_bytes: int | None = None,
        judge: Callable[[Response], object] | None = None,
    ) -> None:
        super().__init__()
        self._protection = Protection(policy, name, max_body_bytes, judge, asynchronous=False)

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """The last response. Raises what requests raised last, or an error of the policy."""
        redirects = kwargs.pop("allow_redirects", True)
        timeout = kwargs.pop("timeout", None)
        stream = kwargs.pop("stream", self.stream)
        send = super().send

        def attempt(request: PreparedRequest, timeout: Any, stream: bool) -> Response:
            token = _attempt_span.set(get_current_span())
            try:
                return send(request, stream=stream, timeout=timeout, allow_redirects=False, **kwargs)
            finally:
                _attempt_span.reset(token)

        response = _protected(self._protection, request, attempt, timeout, stream=stream)
        if not redirects:
            return response
        options = {"verify": self.verify, "cert": self.cert, "proxies": self.proxies, **kwargs}
        history = [response, *self.resolve_redirects(response, request, stream=stream, timeout=timeout, **options)]
        last = history.pop()
        if history:
            last.history = history
        return last

    def get_adapter(self, url: str) -> BaseAdapter:
        """Called within the span of the client, if there is one, for each attempt."""
        span = get_current_span()
        if current_attempt() > 1 and span is not _attempt_span.get():
            span.set_attribute(RESEND_COUNT, current_attempt() - 1)
        return super().get_adapter(url)


def _protected(
    protection: Protection[PreparedRequest],
    request: PreparedRequest,
    send: Callable[[PreparedRequest, Any, bool], Response],
    timeout: Any,
    *,
    stream: bool,
) -> Response:
    """The response that ``send`` returns for a request, given a timeout and whether to leave the body unread."""
    method = (request.method or "").upper()
    policy = protection.policy(parse_url(request.url or "").host)
    exchange = SyncExchange(request.headers, Response.close)
    whole = protection.max_body_bytes is not None
    sent = _bounded(request) if whole else request

    def attempt() -> Response:
        exchange.begin_attempt()
        check_time = time_check(policy) if whole else None
        response = send(sent, _limited(timeout, time_left(policy.attempt_timeout)), stream or whole)
        error = exchange.judge(response, response.status_code, response.headers)
        if check_time is not None:
            _read(protection, response, method, check_time)
            if protection.judge is not None and exchange.accepts(protection.judge, response):
                error = None
        elif not stream or exchange.worth_reading(error, response.headers):
            response.content  # noqa: B018  # reads the body and keeps it
        if error is not None:
            raise exchange.refuse(error)
        return response

    one_shot = not isinstance(request.body, (str, bytes, type(None)))
    options = protection.options(policy, request, method, request.headers, one_shot=one_shot)
    timed = timed_by_client(policy)
    return exchange.run(lambda: timed.execute(attempt, **options))


def _read(protection: Protection[PreparedRequest], response: Response, method: str, check: Callable[[], None]) -> None:
    try:
        body = protection.body(response, method, response.status_code, response.headers)
        response.raw = _BoundedBody(response.raw, body, check)
        response.content  # noqa: B018  # reads the body and keeps it
    except BaseException:
        response.close()
        raise


class _BoundedBody:
    """Replaces urllib3's response, and yields its body only as far as it should be read."""

    def __init__(self, raw: Any, body: Body, check_time: Callable[[], None]) -> None:
        self._raw = raw
        self._body = body
        self._check_time = check_time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """The whole body, decoded."""
        for piece in self._pieces():
            self._check_time()
            if not self._body.add(piece):
                self._raw.close()
                break
        yield self._body.end()

    def _pieces(self) -> Iterator[bytes]:
        """In pieces of any size: waiting for full pieces would hide a slowly dripping body."""
        if hasattr(self._raw, "read1"):
            return iter(lambda: self._raw.read1(CHUNK, decode_content=False), b"")
        return self._raw.stream(1024, decode_content=False)  # type: ignore[no-any-return]  # urllib3 1


def _bounded(request: PreparedRequest) -> PreparedRequest:
    """The request, changed so that its response can be decoded in bounded pieces."""
    accepted = request.headers.get("Accept-Encoding")
    encodings = bounded_encodings(accepted.decode("latin-1") if isinstance(accepted, bytes) else accepted)
    if encodings is None or encodings == accepted:
        return request
    sent = request.copy()
    sent.headers["Accept-Encoding"] = encodings
    return sent


def _limited(timeout: Any, limit: float | None) -> Any:
    """The ``timeout`` of a request, capped to ``limit`` seconds for connecting and waiting together."""
    if limit is None:
        return timeout
    if not isinstance(timeout, Timeout):
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        timeout = Timeout(connect=connect, read=read)
    limited = timeout.clone()
    limited.total = limit if timeout.total is None else min(timeout.total, limit)
    return limited
