"""Proxies from the environment: alerts use them, except for excluded hosts; otherwise an error says why not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from otel_resilience.alerting import Heartbeat
from otel_resilience.alerting.channels import ChannelError, WebhookChannel
from otel_resilience.alerting.channels._proxy import proxy_for
from otel_resilience.redaction import redact
from support.alert_channels import KINDS, channel_for, receiver_for
from support.alert_receivers import FakeWebhook, Receiver, served
from support.loopback_proxy import LoopbackProxy
from support.notifications import SAMPLES

TIMEOUT = 30.0
ELSEWHERE = "alerts.example"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *map(str.lower, VARIABLES), "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[LoopbackProxy]:
    with LoopbackProxy().serving() as running:
        yield running


def elsewhere(receiver: Receiver) -> str:
    """The receiver's URL by a name that only the proxy knows."""
    return receiver.url.replace("127.0.0.1", ELSEWHERE)


@pytest.mark.fault("A8")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("HTTP_PROXY", "http://"), ("http_proxy", ""), ("ALL_PROXY", "http://"), ("ALL_PROXY", "socks5://"), ("all_proxy", "socks5h://")],
)  # fmt: skip
def test_alerts_leave_by_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, proxy: LoopbackProxy, kind: str, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, scheme + proxy.address)
    with served(receiver_for(kind)) as receiver:
        channel_for(kind, elsewhere(receiver)).deliver(SAMPLES["firing"], timeout=TIMEOUT)
        assert (len(receiver.accepted), receiver.failures) == (1, [])
    assert proxy.asked == [ELSEWHERE]


def test_so_does_a_heartbeat(monkeypatch: pytest.MonkeyPatch, proxy: LoopbackProxy) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    monkeypatch.setenv("NO_PROXY", "fd00::/8")
    with served(FakeWebhook()) as receiver:
        receiver.script(200)
        failed: list[BaseException] = []
        heartbeat = Heartbeat(elsewhere(receiver), on_failure=failed.append)
        heartbeat.beat()
        assert heartbeat.close(60)
        receiver.wait_for(requests=1)
        assert failed == []
    assert set(proxy.asked) == {ELSEWHERE}  # which of GET and POST the receiver takes is found out


@pytest.mark.fault("A8")
@pytest.mark.parametrize("excepted", ["fd00::/8,127.0.0.0/8", "*", "::1/128, 127.0.0.1", "10.0.0.0/8 127.0.0.1"])
def test_an_excepted_receiver_is_reached_without_it(
    monkeypatch: pytest.MonkeyPatch, proxy: LoopbackProxy, excepted: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", excepted)
    with served(FakeWebhook()) as receiver:
        WebhookChannel(receiver.url).deliver(SAMPLES["firing"], timeout=TIMEOUT)
        assert len(receiver.accepted) == 1
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("excepted", "url", "past"),
    [
        ("", "https://hooks.example/x", False),
        ("hooks.example", "https://hooks.example/x", True),
        ("example", "https://hooks.example/x", True),
        (".example", "https://hooks.example/x", True),
        ("*.example", "https://hooks.example/x", True),
        ("HOOKS.example.", "https://hooks.EXAMPLE/x", True),
        ("ooks.example", "https://hooks.example/x", False),
        ("hooks.example:443", "https://hooks.example/x", False),
        ("hooks.example:8443", "https://hooks.example:8443/x", True),
        ("hooks.example:443", "https://hooks.example:8443/x", False),
        ("https://hooks.example", "https://hooks.example/x", True),
        ("fd00::/8", "https://[fd12::1]/x", True),
        ("[fd00::]/8", "https://[fd12::1]/x", True),
        ("[fd12::1]:8443", "https://[fd12::1]:8443/x", True),
        ("fd00::/8", "https://[2001:db8::1]/x", False),
        ("fd00::/8", "https://hooks.example/x", False),
        ("10.0.0.0/8", "https://10.20.30.40/x", True),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/x", True),
        ("10.0.0.0/8", "https://11.20.30.40/x", False),
        ("10.0.0.0/33,,;/,:", "https://10.20.30.40/x", False),
    ],
)
def test_what_no_proxy_excepts(monkeypatch: pytest.MonkeyPatch, excepted: str, url: str, past: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_for(url) == (None if past else "http://proxy.example:3128")


@pytest.mark.fault("A8")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks4://proxy.example:1080"),
        ("HTTPS_PROXY", "ftp://proxy.example"),
        ("HTTPS_PROXY", "http://"),
        ("HTTPS_PROXY", "http://proxy.example:port"),
        ("ALL_PROXY", "http://[fd00::1"),
        ("HTTPS_PROXY", "http://user:pr0xy-passw0rd@proxy.example:3128/path"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable) as caught:
        WebhookChannel("https://hooks.example/x")
    assert "\n" not in str(caught.value)
    assert "pr0xy-passw0rd" not in str(caught.value)


@pytest.mark.fault("A8")
def test_a_socks_proxy_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:pr0xy-passw0rd@127.0.0.1:1080")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"ALL_PROXY=.*needs the package socksio") as caught:
        WebhookChannel("https://hooks.example/x")
    assert "pr0xy-passw0rd" not in str(caught.value)
    assert "pr0xy-passw0rd" not in redact("Proxy-Authorization pr0xy-passw0rd")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_does_not_answer_is_what_failed(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with LoopbackProxy().serving() as proxy:
        address = proxy.address
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{address}")
    with served(FakeWebhook()) as receiver, pytest.raises(ChannelError) as caught:
        WebhookChannel(receiver.url).deliver(SAMPLES["firing"], timeout=TIMEOUT)
    assert caught.value.classification.error_type == "proxy_error"
    assert caught.value.classification.retryable
    assert urlsplit(receiver.url).path not in str(caught.value)
