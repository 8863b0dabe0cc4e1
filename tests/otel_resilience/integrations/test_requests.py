"""``ResilientSession``: the client's spans are within the attempts, and redirects work as in any session."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, RetryConfig
from otel_resilience.integrations.requests import ResilientAdapter, ResilientSession
from otel_resilience.testing import RecordedTelemetry
from support.answering_server import AnsweringServer, Reply

THREE = RetryConfig(max_attempts=3, base_delay=0)


@pytest.fixture
def session() -> Iterator[ResilientSession]:
    with ResilientSession(Policy("api", retry=THREE)) as session:
        session.trust_env = False
        yield session


@pytest.fixture
def instrumented(recorded: RecordedTelemetry) -> Iterator[RecordedTelemetry]:
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=recorded.tracer_provider)
    try:
        yield recorded
    finally:
        instrumentor.uninstrument()


def client_spans(recorded: RecordedTelemetry) -> list[ReadableSpan]:
    return [span for span in recorded.spans if span.kind is SpanKind.CLIENT]


def test_client_spans_lie_inside_the_attempts(
    session: ResilientSession, server: AnsweringServer, instrumented: RecordedTelemetry
) -> None:
    server.replies += [Reply(503), Reply(503)]
    assert session.get(server.url).status_code == 200
    attempts = [span for span in instrumented.spans if span.name == "attempt"]
    clients = client_spans(instrumented)
    assert [span.parent and span.parent.span_id for span in clients] == [span.context.span_id for span in attempts]
    counts = [(span.attributes or {}).get("http.request.resend_count") for span in clients]
    assert counts == [None, 1, 2]
    sent = [each.headers["traceparent"].split("-")[2] for each in server.arrived]
    assert sent == [f"{span.context.span_id:016x}" for span in clients]


def test_each_redirect_has_a_span(
    session: ResilientSession, server: AnsweringServer, instrumented: RecordedTelemetry
) -> None:
    server.replies += [Reply(302, headers={"Location": "/new"})]
    session.get(server.url)
    assert len(client_spans(instrumented)) == 2


def test_without_an_instrumentation_no_span_is_marked(
    session: ResilientSession, server: AnsweringServer, recorded: RecordedTelemetry
) -> None:
    server.replies += [Reply(503)]
    with recorded.tracer_provider.get_tracer("caller").start_as_current_span("caller"):
        session.get(server.url)
    assert not [span for span in recorded.spans if "http.request.resend_count" in (span.attributes or {})]


def moved(server: AnsweringServer) -> None:
    server.replies += [
        Reply(302, headers={"Location": "/one", "Set-Cookie": "a=1; Path=/"}),
        Reply(503),
        Reply(307, headers={"Location": "two"}),
    ]


def test_redirects_are_followed_as_in_any_session(session: ResilientSession, server: AnsweringServer) -> None:
    moved(server)
    response = session.get(server.url + "/first")
    assert response.url == server.url + "/two"
    assert [each.status_code for each in response.history] == [302, 307]
    assert [each.path for each in server.arrived] == ["/first", "/one", "/one", "/two"]
    assert server.arrived[-1].headers["cookie"] == "a=1"


def test_or_not_followed(session: ResilientSession, server: AnsweringServer) -> None:
    moved(server)
    response = session.get(server.url, allow_redirects=False)
    assert (response.status_code, response.history) == (302, [])
    assert response.next is not None
    assert response.next.url == server.url + "/one"


def test_too_many_redirects(session: ResilientSession, server: AnsweringServer) -> None:
    server.replies += [Reply(302, headers={"Location": "/again"})] * 9
    session.max_redirects = 3
    with pytest.raises(requests.TooManyRedirects):
        session.get(server.url)
    assert len(server.arrived) == 4


def test_a_request_that_was_prepared(session: ResilientSession, server: AnsweringServer) -> None:
    server.replies += [Reply(503)]
    prepared = session.prepare_request(requests.Request("GET", server.url))
    assert session.send(prepared, timeout=30).text == "ok"


@pytest.mark.parametrize("make", [ResilientSession, ResilientAdapter])
def test_a_copy_sends_under_the_same_policy_and_none_is_pickled(make: Callable[[Policy], Any]) -> None:
    """Sessions and adapters name the attributes that their copies have."""
    policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig())
    assert policy.breaker is not None
    policy.breaker.force_open()
    made = make(policy)
    for twin in (copy.copy(made), copy.deepcopy(made)):
        session = requests.Session() if make is ResilientAdapter else twin
        if make is ResilientAdapter:
            session.mount("http://", twin)
        with pytest.raises(CircuitOpenError):
            session.get("http://127.0.0.1:9/")
    with pytest.raises(TypeError, match="a Policy holds the state of this process and cannot be pickled"):
        pickle.dumps(made)
