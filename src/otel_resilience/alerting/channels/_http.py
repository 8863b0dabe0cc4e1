"""One POST to a receiver of alerts: bounded in time and size, hidden from instrumentation, never revealing its URL.

Each request has its own thread and connection: alerts are rare, and an idle connection is often dead.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from otel_resilience._internal import validation as check
from otel_resilience.alerting.channels._bounded import BoundedThread
from otel_resilience.alerting.channels._proxy import proxy_for
from otel_resilience.alerting.channels._text import encode
from otel_resilience.alerting.channels.errors import REVOKED_STATUSES, ChannelError
from otel_resilience.classification import error_types
from otel_resilience.classification.defaults import classify
from otel_resilience.classification.model import Classification, ErrorClass, Severity
from otel_resilience.classification.rules.http_status import classify_status
from otel_resilience.classification.rules.verdicts import PROXY
from otel_resilience.errors import AttemptTimeoutError
from otel_resilience.redaction import is_secret_name, register_secret
from otel_resilience.telemetry.providers import suppressed_instrumentation

if TYPE_CHECKING:
    import httpx

    from otel_resilience.alerting.model.alert import Notification

USER_AGENT: Final = "otel-resilience-alerts"
MAX_ANSWER: Final = 4096
"""Maximum bytes of a response that are read."""
CONTRADICTED_WITHIN: Final = 1.0
"""Seconds in which the start of a body may contradict a success status."""

_NOT_MODIFIED: Final = Classification(ErrorClass.PERMANENT, Severity.HIGH, "304")
"""Not a confirmation: no POST is answered with it."""
_CONTRADICTION: Final = Classification(ErrorClass.TRANSIENT, Severity.HIGH, error_types.INVALID_RESPONSE)
"""A success status whose body reports a failure, or comes from something in front of the receiver."""
_FAILED_BEHIND: Final = b"webhook message delivery failed"
"""How the body of a Teams connector starts if the service behind it refuses."""
_URL_PROBLEM: Final = "the URL of an alert channel must be http:// or https:// with a host, and hold no blanks"
_NO_URL = re.compile(r"[\s\\\x00-\x1f\x7f\ud800-\udfff]")
_TOKEN_LIKE = re.compile(r"(?=.*\d)[A-Za-z0-9._~+=-]{16,}")

_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("otel_resilience_alert_request", default=False)


def _not_ours(record: logging.LogRecord) -> bool:
    return not _sending.get()


class Endpoint:
    """Where a channel posts to."""

    def __init__(
        self, channel: str, url: str, *, reasons: frozenset[str] = frozenset(), any_body: bool = False
    ) -> None:
        """``reasons`` are bodies of refusals that errors may quote. ``any_body``: a success status counts whatever its
        body says. Raises ``ValueError`` for an unusable URL or proxy from the environment."""
        import httpx  # here, so that a missing package shows at construction

        self.channel = channel
        self._url = checked_url(url)
        self._reasons = reasons
        self._any_body = any_body
        try:
            httpx.URL(self._url)
        except (httpx.InvalidURL, ValueError):
            raise ValueError(_URL_PROBLEM) from None  # the cause quotes the URL
        _register_secrets(self._url)
        self._proxy = proxy_for(self._url)
        logging.getLogger("httpx").addFilter(_not_ours)  # it logs whole URLs at INFO

    def post(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> None:
        """Returns once the receiver confirms with any 2xx, within ``timeout`` seconds. Raises `ChannelError`."""
        self._run(_Attempt(self._url, self._proxy, body, headers, timeout))

    def reach(self, *, timeout: float) -> None:
        """Connects, through the proxy if there is one and with TLS if the URL says so, but sends no request to the
        receiver. Takes at most ``timeout`` seconds. Raises `ChannelError`."""
        self._run(_Connection(self._url, self._proxy, timeout))

    def _run(self, attempt: _Attempt) -> None:
        in_time = attempt.bounded()
        if attempt.status is not None:
            self._judge(attempt.status, attempt.headers, attempt.answer)
        elif attempt.reached:
            return
        elif attempt.failure is None or not in_time:
            raise self._error(AttemptTimeoutError.classification)
        else:
            raise self._error(*attempt.failure)

    def _judge(self, status: int, headers: Mapping[str, str], answer: bytes) -> None:
        if 200 <= status < 300:
            if not self._any_body and reports_failure(answer):
                raise self._error(_CONTRADICTION, status=status)
            return
        verdict = classify_status(status, headers) or _NOT_MODIFIED
        if status in REVOKED_STATUSES:
            verdict = verdict.replace(severity=max(verdict.severity, Severity.HIGH))
        said = answer.decode("ascii", "replace").strip()
        raise self._error(verdict, said if said in self._reasons else None, status)

    def _error(self, verdict: Classification, reason: str | None = None, status: int | None = None) -> ChannelError:
        # Receivers recognise repetitions by a key in the message, or show it twice, which is better than never.
        return ChannelError(self.channel, verdict.replace(idempotent=True), status, reason)


class Posting:
    """What channels that post to one URL have in common."""

    keeps_incidents = False

    def __init__(self, endpoint: Endpoint, min_interval: float, coalesce_from: int | None) -> None:
        self.name = endpoint.channel
        self.min_interval = min_interval
        self.coalesce_from = coalesce_from
        self._endpoint = endpoint

    def close(self) -> None:
        """Nothing to close: no connection is kept between deliveries."""

    def reach(self, *, timeout: float) -> None:
        """A dry run of a delivery: connects as for a message, within ``timeout`` seconds, and sends none.

        It tests name resolution, proxy, port and certificate, but no key. Raises :class:`ChannelError`.
        """
        self._endpoint.reach(timeout=timeout)


class ChatWebhook(Posting):
    """A chat that takes each notification as one message, posted to a secret URL.

    ``min_interval`` is the minimum time in seconds between two messages. Raises ``ValueError``, without the URL in it,
    if the URL is not usable.
    """

    _name: ClassVar[str]
    _min_interval: ClassVar[float]
    _message: ClassVar[staticmethod[[Notification], Mapping[str, Any]]]
    """Builds the message."""
    _reasons: ClassVar[frozenset[str]] = frozenset()
    """Bodies of its refusals that errors may quote."""

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        min_interval: float | None = None,
        coalesce_from: int | None = 2,
    ) -> None:
        """``url`` is the secret URL of the webhook. Raises ``ValueError`` if it is not usable."""
        endpoint = Endpoint(self._name if name is None else name, url, reasons=self._reasons)
        super().__init__(endpoint, self._min_interval if min_interval is None else min_interval, coalesce_from)

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Posts it, within ``timeout`` seconds. Raises :class:`ChannelError`."""
        self._endpoint.post(encode(self._message(notification)), {}, timeout=timeout)


class IncidentApi(Posting):
    """A receiver that keeps incidents, behind an API with a key."""

    keeps_incidents = True
    coalesce_from = None
    """Never: each incident is separate at the receiver, too."""

    def __init__(self, key: tuple[str, str], url: str, name: str, min_interval: float) -> None:
        """``key``: its description and the key. Raises ``ValueError`` if it is empty, or the URL is not usable."""
        called, given = key
        self._key = check.secret_text(called, given).strip()
        if not self._key:
            raise ValueError(f"{called} is needed")
        register_secret(self._key)
        super().__init__(Endpoint(name, url), min_interval, self.coalesce_from)


class _Attempt(BoundedThread):
    def __init__(self, url: str, proxy: str | None, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
        super().__init__("alert request", timeout)
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.answer = b""
        self.failure: tuple[Classification, str] | None = None
        self.reached = False
        self._url, self._proxy, self._body = url, proxy, body
        self._request_headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        self._timeouts: dict[str, float] = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        """By phase, as httpx names them."""
        self._socket: socket.socket | None = None
        self._given_up = self._proxy_refused = False

    def _send(self) -> None:
        flag = _sending.set(True)
        try:
            with suppressed_instrumentation():  # no span, and no trace header to a third party
                self._post()
        finally:
            _sending.reset(flag)

    def _failed(self, error: Exception) -> None:
        self.failure = PROXY if self._proxy_refused else classify(error), type(error).__name__

    def _held(self) -> socket.socket | None:
        return self._socket

    def _post(self) -> None:
        ends = time.monotonic() + self._timeout
        with (
            direct_client(self._proxy, timeout=self._timeout) as client,
            client.stream(
                "POST",
                self._url,
                content=self._body,
                headers=self._request_headers,
                extensions={"trace": self._trace, "timeout": self._timeouts},
            ) as response,
        ):
            self.headers, self.status = dict(response.headers), response.status_code
            if response.is_success:  # confirmed, unless the body contradicts it promptly
                self._timeouts["read"] = min(CONTRADICTED_WITHIN, self._timeout)
                self.answer = next(response.iter_raw(), b"")[:MAX_ANSWER]
            else:
                self.answer = _beginning(response, ends)

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore reports each step: it provides the socket, and a chance to stop before anything is sent."""
        if self._proxy is not None and event.endswith(".connect_tcp.failed"):
            self._proxy_refused = True  # the proxy is the only host that is connected to
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        stream = info["return_value"]
        self._socket = stream.get_extra_info("socket")
        if self._given_up:  # asked last: _give_up() sets it before it looks for the socket
            stream.close()
            raise AttemptTimeoutError(self._timeout)

    def _give_up(self) -> None:
        self._given_up = True
        super()._give_up()


class _Connection(_Attempt):
    """One request that stops once connected, before anything is sent to the receiver."""

    def __init__(self, url: str, proxy: str | None, timeout: float) -> None:
        super().__init__(url, proxy, b"", {}, timeout)
        self._handshakes = sum(part.startswith("https:") for part in (url.lower(), (proxy or "").lower()))

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        super()._trace(event, info)
        self._handshakes -= event.endswith(".start_tls.complete")
        if self._handshakes == 0 and event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            info["return_value"].close()
            self.reached = True
            raise ConnectionAbortedError("the connection is established, and nothing must be sent")


def _beginning(response: httpx.Response, ends: float) -> bytes:
    read = b""
    for chunk in response.iter_raw():
        read += chunk
        if len(read) >= MAX_ANSWER or time.monotonic() >= ends:
            break
    return read[:MAX_ANSWER]


def reports_failure(answer: bytes) -> bool:
    """Whether the body of a success status is a web page, such as that of a login or a proxy, or reports a failure."""
    text = answer.strip()
    if text.startswith(b"<") or text.lower().startswith(_FAILED_BEHIND):
        return True
    try:
        said = json.loads(text) if text.startswith(b"{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and (said.get("ok") is False or said.get("success") is False)


def direct_client(proxy: str | None, *, timeout: float) -> httpx.Client:
    """A client that takes nothing from the environment but its certificates: see :func:`proxy_for`."""
    import httpx

    return httpx.Client(verify=_tls(), proxy=proxy, trust_env=False, timeout=timeout, follow_redirects=False)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: loading the certificates takes longer than a request."""
    import httpx

    return httpx.create_ssl_context()


def checked_url(url: str) -> str:
    """``url`` without surrounding blanks. Raises ``TypeError`` or ``ValueError``, without the URL, if unusable."""
    url = check.secret_text("url", url).strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(_URL_PROBLEM) from None  # the cause quotes the URL
    if not usable or _NO_URL.search(url):
        raise ValueError(_URL_PROBLEM)
    return url


def _register_secrets(url: str) -> None:
    """Anything in the URL that looks like a password or a token is redacted from now on."""
    parts = urlsplit(url)
    if parts.password:
        register_secret(unquote(parts.password))
    for segment in parts.path.split("/"):
        if _TOKEN_LIKE.fullmatch(segment):
            register_secret(segment)
    for name, value in parse_qsl(parts.query):
        if is_secret_name(name) or _TOKEN_LIKE.fullmatch(value):
            register_secret(value)
