"""Real errors: redis-py, without its own retries, against a server that answers as told."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from otel_resilience import Classification, Severity, classify
from support.verdict_rows import assert_verdict

CRITICAL = Severity.CRITICAL
PAUSED: dict[str, Any] = {"max_retries": 0}
_COMMAND = re.compile(rb"^\*\d+\r$", re.MULTILINE)


class _Handler(socketserver.BaseRequestHandler):
    """Answers every command with the server's reply; silent where that is ``None``, gone where it is empty."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        with contextlib.suppress(OSError):
            while received := self.request.recv(65_536):
                if server.reply is None:
                    server.stopped.wait(60)
                    return
                if not server.reply:
                    return
                self.request.sendall(server.reply * max(1, len(_COMMAND.findall(received))))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: bytes | None = b"+OK\r\n"
        self.stopped = threading.Event()


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scripted
        scripted.stopped.set()
        scripted.shutdown()
        thread.join()


def settings(port: int, **options: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "socket_timeout": 30, "protocol": 2, **options}


def sync_verdict(port: int, **options: Any) -> Classification:
    with (
        redis.Redis(retry=Retry(NoBackoff(), 0), **settings(port, **options)) as client,
        pytest.raises(redis.RedisError) as caught,
    ):
        client.set("key", "value")
    return classify(caught.value)


async def async_verdict(port: int, **options: Any) -> Classification:
    async with redis.asyncio.Redis(retry=AsyncRetry(NoBackoff(), 0), **settings(port, **options)) as client:
        with pytest.raises(redis.RedisError) as caught:
            await client.set("key", "value")
    return classify(caught.value)


REPLIES = [
    ("LOADING Redis is loading the dataset in memory", "T", "yes", "redis_loading", {}),
    ("READONLY You can't write against a read only replica.", "T", "yes", "redis_readonly", {}),
    ("OOM command not allowed when used memory > 'maxmemory'.", "TS", "no", "redis_oom", PAUSED),
    ("MISCONF Redis is configured to save RDB snapshots", "TS", "no", "redis_misconf",
     {"severity": CRITICAL, **PAUSED}),
    ("NOREPLICAS Not enough good replicas to write.", "TS", "no", "redis_noreplicas", PAUSED),
    ("BUSY Redis is busy running a script.", "T", "yes", "redis_busy", {}),
    ("NOAUTH Authentication required.", "P", "no", "redis_auth", {"severity": CRITICAL}),
    ("WRONGPASS invalid username-password pair", "P", "no", "redis_auth", {"severity": CRITICAL}),
    ("NOPERM this user has no permissions to run the 'set' command", "P", "no", "redis_noperm", {}),
    ("DENIED Redis is running in protected mode", "P", "no", "redis_denied", {}),
    ("CLUSTERDOWN The cluster is down", "TS", "yes", "redis_clusterdown", {}),
    ("MASTERDOWN Link with MASTER is down", "T", "yes", "redis_masterdown", {}),
    ("TRYAGAIN Multiple keys request during rehashing of slot", "T", "no", "redis_tryagain", {}),
    ("MOVED 3999 127.0.0.1:6381", "P", "no", "redis_moved", {}),
    ("ASK 3999 127.0.0.1:6381", "P", "no", "redis_ask", {}),
    ("CROSSSLOT Keys in request don't hash to the same slot", "P", "no", "redis_crossslot", {}),
    ("NOSCRIPT No matching script. Please use EVAL.", "H", "no", "redis_noscript", {}),
    ("EXECABORT Transaction discarded because of previous errors.", "P", "no", "redis_execabort", {}),
    ("EXECABORT Transaction discarded because of: MISCONF Redis is configured", "TS", "no", "redis_misconf", PAUSED),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", "P", "no", "redis_wrongtype", {}),
    ("ERR syntax error", "P", "no", "redis_err", {}),
    ("ERR max number of clients reached", "TS", "yes", "redis_err", {"unsent": True}),
    ("ERR problem with LDAP service", "T", "yes", "redis_err", {}),
    ("BUSYGROUP Consumer Group name already exists", "H", "success", "redis_busygroup", {}),
    ("NOGROUP No such key 'k' or consumer group 'g'", "H", "no", "redis_nogroup", {}),
    ("UNBLOCKED client unblocked via CLIENT UNBLOCK", "T", "no", "redis_unblocked", {}),
    ("UNKILLABLE Sorry the script already executed write commands", "TS", "no", "redis_unkillable", {}),
    ("BUSYKEY Target key name already exists.", "P", "no", "redis_busykey", {}),
    (
        "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -OOM command not allowed",
        "TS", "no", "redis_oom", PAUSED,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "breaker", "error_type", "fields"), REPLIES, ids=[case[0] for case in REPLIES]
)
@pytest.mark.fault("F42", "F43", "F44")
async def test_each_reply_for_both_clients(
    server: _Server, text: str, kind: str, breaker: str, error_type: str, fields: dict[str, Any]
) -> None:
    server.reply = f"-{text}\r\n".encode()
    port = server.server_address[1]
    assert isinstance(port, int)
    assert_verdict(sync_verdict(port), kind, breaker, error_type, **fields)
    assert_verdict(await async_verdict(port), kind, breaker, error_type, **fields)


@pytest.mark.parametrize("text", ["BUSY busy", "MISCONF disk", "READONLY replica", "OOM full"])
def test_replies_inside_a_pipeline(server: _Server, text: str) -> None:
    server.reply = f"-{text}\r\n".encode()
    with redis.Redis(retry=Retry(NoBackoff(), 0), **settings(_port(server))) as client:
        pipeline = client.pipeline(transaction=False)
        pipeline.set("key", "BUSY value")
        with pytest.raises(redis.RedisError) as caught:
            pipeline.execute()
    assert classify(caught.value).error_type == f"redis_{text.split()[0].lower()}"


@pytest.mark.fault("F44")
async def test_a_wrong_password(server: _Server) -> None:
    server.reply = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    for verdict in (sync_verdict(_port(server), password="no"), await async_verdict(_port(server), password="no")):
        assert_verdict(verdict, "P", "no", "redis_auth", severity=CRITICAL, retryable=False)


async def test_refused() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        assert_verdict(sync_verdict(port), "T", "yes", "connection_error", unsent=True)
        assert_verdict(await async_verdict(port), "T", "yes", "connection_error", unsent=True)
        assert_verdict(await async_verdict(port, host="localhost"), "T", "yes", "connection_error", unsent=True)


async def test_closed_by_the_server(server: _Server) -> None:
    server.reply = b""
    assert_verdict(sync_verdict(_port(server)), "T", "yes", "connection_error")
    assert_verdict(await async_verdict(_port(server)), "T", "yes", "connection_error")


async def test_socket_timeout(server: _Server) -> None:
    server.reply = None
    assert_verdict(sync_verdict(_port(server), socket_timeout=0.3), "T", "yes", "read_timeout")
    assert_verdict(await async_verdict(_port(server), socket_timeout=0.3), "T", "yes", "read_timeout")


async def test_a_tls_handshake_that_stalls(server: _Server) -> None:
    server.reply = None
    verdict = await async_verdict(_port(server), ssl=True, socket_timeout=0.3)
    assert_verdict(verdict, "T", "yes", "connect_timeout", unsent=True)


async def test_tls_to_a_plain_port(server: _Server) -> None:
    server.reply = b"-ERR Protocol error\r\n"
    for verdict in (sync_verdict(_port(server), ssl=True), await async_verdict(_port(server), ssl=True)):
        assert_verdict(verdict, "P", "no", "secure_connection_error", unsent=True)


async def test_refused_on_two_addresses_by_the_asynchronous_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*address, ("127.0.0.1", port)), (*address, ("127.0.0.2", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        verdict = await async_verdict(port, host="two.test")
    assert_verdict(verdict, "T", "yes", "connection_error", unsent=True)


def test_no_redis_on_that_port(server: _Server) -> None:
    server.reply = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    assert_verdict(sync_verdict(_port(server)), "P", "no", "invalid_response")


def test_our_pool_is_too_small(server: _Server) -> None:
    client_library: Any = redis  # its pools are not typed
    for pool in (
        client_library.ConnectionPool(max_connections=1, **settings(_port(server))),
        client_library.BlockingConnectionPool(max_connections=1, timeout=0.01, **settings(_port(server))),
    ):
        held = pool.get_connection()
        with pytest.raises(redis.ConnectionError) as caught:
            pool.get_connection()
        assert_verdict(classify(caught.value), "local", "no", "pool_exhausted", unsent=True)
        pool.release(held)
        pool.disconnect()


async def test_our_asynchronous_pool_is_too_small(server: _Server) -> None:
    client_library: Any = redis  # its pools are not typed
    options = settings(_port(server))
    for pool in (
        client_library.asyncio.ConnectionPool(max_connections=1, **options),
        client_library.asyncio.BlockingConnectionPool(max_connections=1, timeout=0.01, **options),
    ):
        held = await pool.get_connection()
        with pytest.raises(redis.ConnectionError) as caught:
            await pool.get_connection()
        assert_verdict(classify(caught.value), "local", "no", "pool_exhausted", unsent=True)
        await pool.release(held)
        await pool.aclose()


def test_data_that_redis_cannot_hold(server: _Server) -> None:
    with redis.Redis(**settings(_port(server))) as client, pytest.raises(redis.DataError) as caught:
        client.set("key", object())
    assert_verdict(classify(caught.value), "P", "no", "_OTHER")


def _port(server: _Server) -> int:
    port = server.server_address[1]
    assert isinstance(port, int)
    return port
