"""A dry run of a delivery: everything on the way to the receiver is tested, without a message."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_resilience.alerting import Heartbeat
from otel_resilience.alerting.channels import ChannelError, EmailChannel, OpsgenieChannel, TeamsChannel, WebhookChannel
from otel_resilience.alerting.channels import _http as http
from support.alert_channels import KINDS, channel_for, receiver_for
from support.alert_chats import FakeMailServer
from support.alert_receivers import FakeWebhook, served
from support.certificates import loopback_certificate
from support.loopback_proxy import LoopbackProxy

TIMEOUT = 30.0
NOBODY = "http://127.0.0.1:9/alerts"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return loopback_certificate(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def tls_server(certificate: tuple[Path, Path]) -> Iterator[tuple[str, list[bytes]]]:
    """Accepts one connection; the URL, and what was received after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                try:
                    received.append(wrapped.recv(1000))
                except ConnectionResetError:  # closed with tickets of the session unread: nothing was sent either
                    received.append(b"")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}/hook", received
        thread.join(60)


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_is_reached_and_gets_nothing(kind: str) -> None:
    with served(receiver_for(kind)) as receiver:
        channel_for(kind, receiver.url).reach(timeout=TIMEOUT)
        assert receiver.requests == []


def test_so_is_that_of_a_heartbeat() -> None:
    with served(FakeWebhook()) as receiver:
        Heartbeat(receiver.url, on_failure=lambda _: None).reach(timeout=TIMEOUT)
        assert receiver.requests == []


def test_the_handshake_is_made_and_nothing_follows(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_tls", lambda: ssl.create_default_context(cafile=certificate[0]))
    with tls_server(certificate) as (url, received):
        WebhookChannel(url).reach(timeout=TIMEOUT)
    assert received == [b""]


def test_a_certificate_that_is_not_trusted_is_told(certificate: tuple[Path, Path]) -> None:
    with tls_server(certificate) as (url, received), pytest.raises(ChannelError) as caught:
        TeamsChannel(url).reach(timeout=TIMEOUT)
    assert caught.value.classification.error_type == "secure_connection_error"
    assert received == []


def test_the_handshake_goes_through_the_proxy(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_tls", lambda: ssl.create_default_context(cafile=certificate[0]))
    with LoopbackProxy().serving() as proxy, tls_server(certificate) as (url, received):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        OpsgenieChannel("key", url=url).reach(timeout=TIMEOUT)
    assert (received, proxy.asked) == ([b""], ["localhost"])


@pytest.mark.parametrize(
    ("url", "proxy", "error_type"),
    [
        (NOBODY, None, "connection_error"),
        ("https://alerts.example/", "http://127.0.0.1:9", "proxy_error"),
    ],
)
def test_what_is_in_the_way_is_told(
    url: str, proxy: str | None, error_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy is not None:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    for tried in (WebhookChannel(url), Heartbeat(url, on_failure=lambda _: None)):
        with pytest.raises(ChannelError) as caught:
            tried.reach(timeout=TIMEOUT)
        assert caught.value.classification.error_type == error_type


def test_a_mail_server_lets_in_and_gets_no_mail(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    trusted = ssl.create_default_context(cafile=certificate[0])
    query = "from=alerts@shop.example&to=oncall@shop.example"
    with FakeMailServer(context, implicit=False, login=("me", "password-of-mail")).serving() as server:
        for password, refused in (("password-of-mail", False), ("another-password", True)):
            channel = EmailChannel(f"smtp://me:{password}@localhost:{server.port}/?{query}", tls_context=trusted)
            with pytest.raises(ChannelError) if refused else contextlib.nullcontext():
                channel.reach(timeout=TIMEOUT)
        assert server.mails == []
