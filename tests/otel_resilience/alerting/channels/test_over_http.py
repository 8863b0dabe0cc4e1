"""What the HTTP channels have in common: confirmation, errors, limits, and no secrets in messages."""

from __future__ import annotations

import logging
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_resilience import BreakerEffect, Classification, ErrorClass, Policy, RetryConfig, Severity, classify
from otel_resilience.alerting.channels import Channel, ChannelError, LogChannel
from otel_resilience.redaction import redact
from otel_resilience.testing import FakeClock
from support.alert_channels import KINDS, SECRET, channel_for, receiver_for
from support.alert_receivers import BLACK_HOLE, RESET, ROUTING_KEY, FakeWebhook, Receiver, Reply, Step, served
from support.notifications import SAMPLES, notification
from support.timing import takes_at_most

NOTIFICATION = SAMPLES["firing"]
TIMEOUT = 30.0
"""Seconds; far more than an answer takes, also on a busy machine."""
BRIEF = 1.0
"""Of a request that has to run into it."""
ENDLESS = 20.0
"""Of an answer that is not waited for."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def receiver(kind: str) -> Iterator[Receiver]:
    with served(receiver_for(kind)) as receiver:
        yield receiver


@pytest.fixture
def channel(kind: str, receiver: Receiver) -> Channel:
    return channel_for(kind, receiver.url)


def refused(channel: Channel, receiver: Receiver, *steps: Step, timeout: float = TIMEOUT) -> ChannelError:
    receiver.script(*steps)
    with pytest.raises(ChannelError) as caught:
        channel.deliver(NOTIFICATION, timeout=timeout)
    return caught.value


def verdict_of(error: ChannelError) -> Classification:
    """The verdict that a policy sees."""
    verdict = classify(error)
    assert verdict is error.classification
    assert verdict.idempotent, "a repetition must be allowed"
    return verdict


class TestConfirmation:
    def test_a_message_is_delivered_once_the_receiver_confirms(self, channel: Channel, receiver: Receiver) -> None:
        channel.deliver(NOTIFICATION, timeout=TIMEOUT)
        assert (len(receiver.accepted), len(receiver.requests), receiver.failures) == (1, 1, [])

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_any_2xx_confirms(self, channel: Channel, receiver: Receiver, status: int) -> None:
        receiver.script(status)
        channel.deliver(NOTIFICATION, timeout=TIMEOUT)

    def test_the_status_confirms_even_if_the_body_never_comes(self, channel: Channel, receiver: Receiver) -> None:
        receiver.script(Reply(200, "o", promised=1_000_000))
        with takes_at_most(TIMEOUT / 2):
            channel.deliver(NOTIFICATION, timeout=TIMEOUT)

    def test_each_channel_follows_the_protocol(self, channel: Channel) -> None:
        assert isinstance(channel, Channel)
        assert isinstance(LogChannel(), Channel)
        channel.close()
        channel.close()

    def test_it_says_what_it_is_and_what_it_sends(self, channel: Channel, receiver: Receiver) -> None:
        channel.deliver(NOTIFICATION, timeout=TIMEOUT)
        headers = receiver.requests[0].headers
        assert headers["user-agent"] == "otel-resilience-alerts"
        assert headers["content-type"] == "application/json; charset=utf-8"
        assert b": " not in receiver.requests[0].body.split(b'"', 3)[2], "compact"


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "error_class"),
        [
            (301, ErrorClass.PERMANENT),
            (304, ErrorClass.PERMANENT),
            (400, ErrorClass.PERMANENT),
            (413, ErrorClass.PERMANENT),
            (429, ErrorClass.THROTTLED),
            (500, ErrorClass.TRANSIENT),
            (502, ErrorClass.TRANSIENT),
            (503, ErrorClass.TRANSIENT),
        ],
    )
    def test_a_status_is_classified(
        self, channel: Channel, receiver: Receiver, status: int, error_class: ErrorClass
    ) -> None:
        error = refused(channel, receiver, status)
        verdict = verdict_of(error)
        assert (error.status, verdict.error_type, verdict.error_class) == (status, str(status), error_class)
        assert not error.revoked
        assert str(error) == f"{channel.name} answered {status}"

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_a_revoked_channel_says_so_and_is_not_tried_again(
        self, channel: Channel, receiver: Receiver, status: int
    ) -> None:
        error = refused(channel, receiver, status)
        assert error.revoked
        verdict = verdict_of(error)
        assert not verdict.retryable
        assert verdict.breaker is not BreakerEffect.FAILURE
        assert verdict.severity >= Severity.HIGH, "a person has to mend it"

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_is_kept(self, channel: Channel, receiver: Receiver, status: int) -> None:
        assert verdict_of(refused(channel, receiver, Reply(status, retry_after=30))).retry_after == 30.0

    def test_a_redirect_is_not_followed(self, channel: Channel, receiver: Receiver) -> None:
        with served(FakeWebhook()) as elsewhere:
            for status in (301, 302, 307, 308):
                error = refused(channel, receiver, Reply(status, headers={"Location": elsewhere.url}))
                assert not verdict_of(error).retryable
            assert elsewhere.requests == []

    def test_the_status_counts_even_if_the_body_never_ends(self, channel: Channel, receiver: Receiver) -> None:
        error = refused(channel, receiver, Reply(429, "slow", retry_after=7, promised=1_000_000), timeout=BRIEF)
        assert (error.status, verdict_of(error).retry_after) == (429, 7.0)

    def test_no_more_of_a_body_is_read_than_a_reason_needs(self, channel: Channel, receiver: Receiver) -> None:
        with takes_at_most(TIMEOUT / 2):  # and does not wait for the rest
            refused(channel, receiver, Reply(500, b"x" * 5000, promised=1_000_000_000))


class TestTheNetwork:
    def test_a_refused_connection(self, kind: str) -> None:
        with served(receiver_for(kind)) as receiver:
            url = receiver.url
        with pytest.raises(ChannelError) as caught:
            channel_for(kind, url).deliver(NOTIFICATION, timeout=TIMEOUT)
        verdict = verdict_of(caught.value)
        assert (verdict.error_type, verdict.error_class) == ("connection_error", ErrorClass.TRANSIENT)
        assert verdict.unsent
        assert caught.value.status is None
        assert not caught.value.revoked

    def test_a_reset_connection(self, channel: Channel, receiver: Receiver) -> None:
        verdict = verdict_of(refused(channel, receiver, RESET))
        assert (verdict.error_class, verdict.counts) == (ErrorClass.TRANSIENT, True)

    @pytest.mark.parametrize(
        "step",
        [BLACK_HOLE, Reply(200, delay=ENDLESS), Reply(200, drip=0.1, headers={"X": "x" * 200})],
        ids=["black hole", "slow", "one byte now and then"],
    )
    def test_nothing_takes_longer_than_the_timeout(self, channel: Channel, receiver: Receiver, step: Step) -> None:
        began = time.monotonic()
        error = refused(channel, receiver, step, timeout=0.3)
        assert 0.25 < time.monotonic() - began < ENDLESS / 2
        verdict = verdict_of(error)
        assert verdict.error_type in ("attempt_timeout", "read_timeout")
        assert (verdict.error_class, verdict.counts) == (ErrorClass.TRANSIENT, True)

    def test_a_request_that_was_given_up_ends(self, channel: Channel, receiver: Receiver) -> None:
        refused(channel, receiver, Reply(200, drip=0.05), timeout=0.2)
        for thread in threading.enumerate():
            if thread.name == "alert request":
                thread.join(60)
                assert not thread.is_alive()

    def test_a_dead_name_server_does_not_hold_it_up(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        answered = threading.Event()
        with served(receiver_for(kind)) as receiver:
            channel = channel_for(kind, receiver.url)
            resolve = socket.getaddrinfo

            def slow(*args: Any, **kwargs: Any) -> object:
                answered.wait(ENDLESS)
                return resolve(*args, **kwargs)

            monkeypatch.setattr("socket.getaddrinfo", slow)
            with takes_at_most(ENDLESS / 2), pytest.raises(ChannelError) as caught:
                channel.deliver(NOTIFICATION, timeout=0.2)
            assert verdict_of(caught.value).error_type == "attempt_timeout"
            answered.set()
            for thread in threading.enumerate():
                if thread.name == "alert request":
                    thread.join(60)
            assert receiver.requests == [], "what was given up must not be sent after all"

    def test_it_works_where_no_thread_can_be_started(
        self, channel: Channel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As while the interpreter ends."""

        def no_thread(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread at interpreter shutdown")

        with monkeypatch.context() as patch:
            patch.setattr("otel_resilience.alerting.channels._http._Attempt.start", no_thread)
            channel.deliver(NOTIFICATION, timeout=TIMEOUT)
        assert len(receiver.accepted) == 1

    def test_a_proxy_of_the_environment_is_used(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with served(receiver_for(kind)) as proxy:
            proxy.script(204)
            monkeypatch.setenv("http_proxy", proxy.url.removesuffix(proxy.path))
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            channel_for(kind, "http://alerts.example/somewhere").deliver(NOTIFICATION, timeout=TIMEOUT)
            assert proxy.requests[0].path == "http://alerts.example/somewhere"


class TestWithAPolicy:
    def test_it_is_repeated_as_asked_until_it_is_delivered(self, channel: Channel, receiver: Receiver) -> None:
        clock = FakeClock()
        policy = Policy(
            channel.name,
            retry=RetryConfig(max_attempts=5, base_delay=0.5, jitter=False),
            clock=clock,
            sleep=clock.sleep,
        )
        receiver.script(503, RESET, Reply(429, retry_after=30))
        policy.execute(lambda: channel.deliver(NOTIFICATION, timeout=TIMEOUT))
        assert len(receiver.requests) == 4
        assert len(receiver.accepted) == 1
        assert clock() - 1000.0 >= 30.5

    def test_what_cannot_succeed_is_sent_once(self, channel: Channel, receiver: Receiver) -> None:
        policy = Policy(channel.name, retry=RetryConfig(max_attempts=5, base_delay=0))
        receiver.script(400, forever=True)
        with pytest.raises(ChannelError):
            policy.execute(lambda: channel.deliver(NOTIFICATION, timeout=TIMEOUT))
        assert len(receiver.requests) == 1

    def test_a_repetition_carries_the_same_message(self, channel: Channel, receiver: Receiver) -> None:
        receiver.script(503)
        with pytest.raises(ChannelError):
            channel.deliver(NOTIFICATION, timeout=TIMEOUT)
        channel.deliver(NOTIFICATION, timeout=TIMEOUT)
        first, second = receiver.requests
        assert first.body == second.body


class TestSilence:
    @pytest.mark.parametrize("step", [400, 404, 500, RESET, BLACK_HOLE], ids=str)
    def test_no_error_shows_the_url_the_key_or_the_message(
        self, channel: Channel, receiver: Receiver, step: Step
    ) -> None:
        error = refused(channel, receiver, step, timeout=0.5)
        assert error.__cause__ is None
        assert error.__context__ is None, "exceptions of HTTP clients hold the request"
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        for secret in (receiver.url, "127.0.0.1", ROUTING_KEY, SECRET, "fakeWebhookToken", NOTIFICATION.title):
            assert secret not in told

    def test_an_answer_is_not_repeated_in_the_error(self, channel: Channel, receiver: Receiver) -> None:
        error = refused(channel, receiver, Reply(400, "no such token: s3cr3t-in-the-answer"))
        assert "s3cr3t" not in repr(error) + str(error)

    def test_the_error_can_be_handed_to_another_process(self, channel: Channel, receiver: Receiver) -> None:
        error = refused(channel, receiver, 404)
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.status, copy.revoked) == (str(error), 404, True)

    def test_the_http_client_does_not_log_the_url(
        self, channel: Channel, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="httpx"):
            channel.deliver(NOTIFICATION, timeout=TIMEOUT)
            httpx.get(receiver.url.replace("/services", "/elsewhere"), timeout=TIMEOUT)
        path = receiver.url.split("/", 3)[3]
        ours = [record for record in caplog.records if path in record.getMessage() and "POST" in record.getMessage()]
        assert ours == []
        assert any(record.name == "httpx" for record in caplog.records), "requests of others are logged as ever"

    @pytest.mark.parametrize("kind", ["webhook"], indirect=True)
    def test_a_token_in_a_url_is_known_as_a_secret(self, kind: str) -> None:
        channel_for(kind, "https://user:pa55word@chat.example/hooks/9f8a7d6c5b4a39281706?token=t0k3n-of-chat")
        for secret in ("9f8a7d6c5b4a39281706", "pa55word", "t0k3n-of-chat"):
            assert secret not in redact(f"calling {secret} failed")

    def test_no_trace_header_and_no_span_leaves_for_a_third_party(self, channel: Channel, receiver: Receiver) -> None:
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        instrumentor = HTTPXClientInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        try:
            with provider.get_tracer("test").start_as_current_span("sync"):
                channel.deliver(NOTIFICATION, timeout=TIMEOUT)
                assert exporter.get_finished_spans() == ()
                httpx.post(receiver.url, timeout=TIMEOUT)
        finally:
            instrumentor.uninstrument()
            provider.shutdown()
        ours, other = (request.headers for request in receiver.requests)
        assert "traceparent" in other, "the instrumentation works"
        assert not {"traceparent", "tracestate", "baggage"} & set(ours)


class TestConstruction:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "hooks.example/services/s3cr3t",
            "ftp://hooks.example/s3cr3t",
            "https:///s3cr3t",
            "https://hooks.example:port/s3cr3t",
            "https://hooks.example:0/s3cr3t",
            "https://[hooks.example/s3cr3t",
            "https://hooks.example/s3cr3t and more",
            "https://hooks.example\\@evil.example/s3cr3t",
            "https://hooks.example/s3cr3t\x00",
            "https://hooks.example/s3cr3t\ud800",
            "https://h\u0378oks.example/s3cr3t",
        ],
    )
    def test_a_url_that_nothing_can_be_posted_to_is_refused_without_being_shown(self, kind: str, url: str) -> None:
        with pytest.raises(ValueError, match="URL of an alert channel") as caught:
            channel_for(kind, url)
        told = "".join(traceback.format_exception(caught.value))
        assert "s3cr3t" not in "".join(line for line in told.splitlines() if not line.startswith("    "))

    def test_blanks_around_a_url_are_dropped(self, kind: str) -> None:
        with served(receiver_for(kind)) as receiver:
            channel_for(kind, f" {receiver.url}\n").deliver(notification(), timeout=TIMEOUT)
            assert len(receiver.accepted) == 1
