"""A supplier behind a private authority or a proxy, against a real TLS server and a real proxy on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog_sync.domain.errors import ApiConnectionError
from catalog_sync.settings.settings import Settings
from catalog_sync.supplier.esim_go.client import open_supplier
from catalog_sync.supplier.port import Deadline
from otel_resilience import Severity
from otel_resilience.redaction import redact
from support.certificates import loopback_certificate
from support.forward_proxy import forward_proxy
from support.scripted_http import Request, ScriptedServer, Writer, answer, scripted_server
from support.settings import make_settings

GROUPS = answer({"groups": [{"name": "A"}]})


@contextlib.asynccontextmanager
async def tls_server(certificate: Path, key: Path) -> AsyncIterator[ScriptedServer]:
    async def respond(request: Request, writer: Writer) -> None:
        del request
        writer.write(GROUPS)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    scripted = ScriptedServer(respond)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=context)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()


async def groups(settings: Settings) -> list[str]:
    async with open_supplier(settings) as client:
        return await client.list_groups(deadline=Deadline(30))


@pytest.mark.fault("S12")
async def test_a_private_authority_is_trusted_where_a_setting_names_it(tmp_path: Path) -> None:
    certificate, key = loopback_certificate(tmp_path)
    async with tls_server(certificate, key) as server:
        url = f"https://localhost:{server.port}/v2.5"
        assert await groups(make_settings(url, tmp_path, ca_file=certificate)) == ["A"]
        with pytest.raises(ApiConnectionError) as caught:
            await groups(make_settings(url, tmp_path))
    assert caught.value.severity is Severity.CRITICAL
    assert len(server.requests) == 1


@pytest.mark.fault("S12")
async def test_another_authority_is_not_trusted_then(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, key = loopback_certificate(tmp_path)
    other, _ = loopback_certificate(tmp_path / "other")
    async with tls_server(certificate, key) as server:
        settings = make_settings(f"https://localhost:{server.port}/v2.5", tmp_path, ca_file=other)
        with pytest.raises(ApiConnectionError, match="certificate"):
            await groups(settings)


@pytest.mark.fault("S12")
@pytest.mark.parametrize("credentials", [None, "user:pass-word-1"])
async def test_a_proxy_tunnels_to_the_supplier_behind_a_private_authority(
    tmp_path: Path, credentials: str | None
) -> None:
    certificate, key = loopback_certificate(tmp_path)
    async with tls_server(certificate, key) as server, forward_proxy(credentials) as proxy:
        url = f"https://localhost:{server.port}/v2.5"
        assert await groups(make_settings(url, tmp_path, ca_file=certificate, proxy=proxy.url)) == ["A"]
    assert proxy.asked == [f"CONNECT localhost:{server.port}"]


async def test_a_proxy_passes_plain_requests_on(tmp_path: Path) -> None:
    async with scripted_server(GROUPS) as server, forward_proxy() as proxy:
        assert await groups(make_settings(server.url, tmp_path, proxy=proxy.url)) == ["A"]
    assert proxy.asked == [f"GET {server.url}/organisation/groups"]
    assert len(server.requests) == 1


async def test_a_proxy_that_refuses_is_named_and_shows_no_password(tmp_path: Path) -> None:
    certificate, key = loopback_certificate(tmp_path)
    async with tls_server(certificate, key) as server, forward_proxy("user:right-password") as proxy:
        wrong = proxy.url.replace("right-password", "wrong-password")
        settings = make_settings(f"https://localhost:{server.port}/v2.5", tmp_path, ca_file=certificate, proxy=wrong)
        with pytest.raises(ApiConnectionError, match="407") as caught:
            await groups(settings)
    assert caught.value.error_type == "407"
    assert "wrong-password" not in str(caught.value)
    assert server.requests == []


async def test_variables_for_other_programs_do_not_carry_the_key_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_server(GROUPS) as server, forward_proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert await groups(make_settings(server.url, tmp_path)) == ["A"]
    assert proxy.asked == []


def test_the_password_of_the_proxy_is_a_secret(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {"HOME": str(tmp_path), "ESIM_GO_PROXY": "http://user:hidden-password@proxy.example:3128"}
    )
    assert "hidden-password" not in repr(settings)
    assert "hidden-password" not in redact("connecting with hidden-password")
