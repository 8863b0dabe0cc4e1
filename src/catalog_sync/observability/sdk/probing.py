"""Whether a receiver accepts a signal: exports nothing with the official exporter, and examines the response."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import ssl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from catalog_sync.observability.sdk.exporters import otlp_exporter, session_class
from otel_resilience.redaction import redact, redact_url

if TYPE_CHECKING:
    import requests

    from catalog_sync.observability.sdk.selection import Target

_EXPORTERS: Final = logging.getLogger("opentelemetry.exporter")
_GRPC: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_HEADERS: Final = "correct OTEL_EXPORTER_OTLP_HEADERS: the receiver does not accept them"
_OTHER: Final = (
    "another server or a proxy answers: correct OTEL_EXPORTER_OTLP_ENDPOINT, or except its host with NO_PROXY"
)
_PROTOCOL: Final = (
    "the port speaks another protocol: mostly it is 4318 for http/protobuf, 4317 for OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
)
_TLS: Final = "let OTEL_EXPORTER_OTLP_CERTIFICATE name the CA of the receiver, or correct OTEL_EXPORTER_OTLP_ENDPOINT"
_DOWN: Final = "start the Collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT; syncs work without"


class Refusal(NamedTuple):
    """Why an export did not arrive."""

    reason: str
    advice: str


_UNKNOWN: Final = Refusal("the exporter says no reason", _DOWN)


def export_nothing(signal: str, target: Target) -> Refusal | None:
    """Sends an export without content. ``None`` if the receiver accepted it. Takes at most three seconds."""
    target = dataclasses.replace(target, timeout_set=False)
    probe = _over_grpc if target.protocol == "grpc" else _over_http
    return probe(signal, target)


def _over_http(signal: str, target: Target) -> Refusal | None:
    class Session(session_class()):  # type: ignore[misc]  # it is made when requests is loaded
        """Remembers the last response or error."""

        answer: requests.Response | None = None
        error: Exception | None = None

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            self.answer = self.error = None
            try:
                self.answer = super().request(*args, **kwargs)
            except Exception as error:
                self.error = error
                raise
            return self.answer

    session = Session()
    accepted = _export(otlp_exporter(target, signal, None, session=session), signal)
    if session.answer is not None:
        return _judge_answer(session.answer, accepted=accepted)
    if session.error is not None:
        return _judge_error(session.error)
    return None if accepted else _UNKNOWN


def _judge_answer(answer: Any, *, accepted: bool) -> Refusal | None:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    accepted = accepted and answer.status_code < 300  # the exporter counts a redirect as a success
    if accepted and (not answer.content or kind in {"application/x-protobuf", "application/json"}):
        return None
    said = f"{answer.status_code} {answer.reason}".strip()
    if accepted:
        return Refusal(f"{said} with {kind or 'content of no type'}, which no OTLP receiver sends", _OTHER)
    if answer.is_redirect:
        said = f"{said} to {urlsplit(answer.headers['location']).hostname}"
    advice = _HEADERS if answer.status_code in {401, 403} else _DOWN if answer.status_code >= 500 else _OTHER
    return Refusal(said, advice)


def _judge_error(error: BaseException) -> Refusal:
    cause = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refusal(f"TLS: {cause.verify_message}", _TLS)
    if isinstance(cause, ssl.SSLError):
        return Refusal(f"TLS: {cause.reason or cause.strerror}", _PROTOCOL)
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    talked = any(word in repr(cause) for word in ("BadStatusLine", "RemoteDisconnected", "ConnectionReset", "Invalid"))
    return Refusal(redact(reason), _PROTOCOL if talked else _DOWN)


def _over_grpc(signal: str, target: Target) -> Refusal | None:
    from grpc import StatusCode  # loaded only when used

    with _records_of_this_thread() as records:
        if _export(otlp_exporter(target, signal), signal):
            return None
    for record in reversed(records):
        arguments = record.args if isinstance(record.args, tuple) else ()
        code = next((one for one in arguments if isinstance(one, StatusCode)), None)
        if code is not None:
            details = redact(str(arguments[-1]))
            return Refusal(f"{code.name}: {details}", _advice(code.name, details.lower()))
    return _UNKNOWN


def _advice(code: str, details: str) -> str:
    if code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return _HEADERS
    if any(word in details for word in ("certificate", "handshake", "ssl", "tls")):
        return _TLS
    if code != "UNAVAILABLE" or "http" in details or "closed" in details or "reset" in details:
        return _PROTOCOL
    return _DOWN


def _export(exporter: Any, signal: str) -> bool:
    from opentelemetry.sdk.metrics.export import MetricsData

    try:
        result = exporter.export(MetricsData([]) if signal == "metrics" else [])
    finally:
        exporter.shutdown()
    return bool(result.name == "SUCCESS")


@contextlib.contextmanager
def _records_of_this_thread() -> Iterator[list[logging.LogRecord]]:
    """What the gRPC exporter logs in this thread, before its own filter drops repetitions."""
    found: list[logging.LogRecord] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread == thread:
            found.append(record)
        return record.thread != thread

    _GRPC.filters.insert(0, keep)
    try:
        yield found
    finally:
        _GRPC.removeFilter(keep)


@contextlib.contextmanager
def exporters_silent() -> Iterator[None]:
    """Nothing that exporters log within the block reaches the log of the program."""
    before, _EXPORTERS.propagate = _EXPORTERS.propagate, False
    nowhere = logging.NullHandler()
    _EXPORTERS.addHandler(nowhere)
    try:
        yield
    finally:
        _EXPORTERS.propagate = before
        _EXPORTERS.removeHandler(nowhere)


def shown(target: Target) -> str:
    """The destination, without secrets."""
    return redact_url(target.endpoint or "")
