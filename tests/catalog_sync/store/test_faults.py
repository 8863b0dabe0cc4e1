"""Every way in which a real Redis refuses or disappears results in a typed error."""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis.exceptions

from catalog_sync.domain.errors import (
    CacheAuthenticationError,
    CacheConnectionError,
    CacheWritesPausedError,
    ConfigurationError,
)
from catalog_sync.store import CatalogStore, CorruptEntryError, open_store
from catalog_sync.store.client import GuardedRedis, connect_url
from otel_resilience import CircuitBreakerConfig, Policy
from support.published import make_bundle, publish, quick_policy, store_settings
from support.redis_server import RedisServer, free_port

PASSWORD = "hunter2-hunter2"


class ScriptedRedis:
    """Answers the handshake like a server and every other command with one reply; counts those commands."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.commands = 0
        self.url = ""

    async def __aenter__(self) -> ScriptedRedis:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readline():
                parts = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2])
                writer.write(self._answer(parts))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, parts: list[bytes]) -> bytes:
        if parts[0].upper() == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        if parts[0].upper() == b"CLIENT":
            return b"+OK\r\n"
        self.commands += 1
        return self.reply

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)


@pytest.fixture
async def replica(server: RedisServer, tmp_path: Path) -> AsyncIterator[RedisServer]:
    with RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port)) as running:
        yield running


@pytest.mark.fault("F40")
async def test_f40_a_refused_port_is_a_connection_error(tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path, f"redis://127.0.0.1:{free_port()}/0"), quick_policy()) as store:
        with pytest.raises(CacheConnectionError) as caught:
            await store.current()
        assert caught.value.__cause__ is not None


@pytest.mark.fault("F41")
async def test_f41_a_redis_that_dies_and_comes_back_is_used_again(store: CatalogStore, server: RedisServer) -> None:
    await store.ping()
    server.kill()
    with pytest.raises(CacheConnectionError):
        await store.ping()
    server.start()
    await store.ping()


@pytest.mark.fault("F41")
async def test_f41_the_policy_of_the_store_rides_out_a_restart(server: RedisServer, tmp_path: Path) -> None:
    settings = store_settings(tmp_path, server.url)
    async with open_store(settings) as store:
        await store.ping()
        server.kill()
        server.start()
        await store.ping()


@pytest.mark.fault("F44")
async def test_f44_a_wrong_password_is_sent_at_most_twice_under_the_policy_of_the_store(tmp_path: Path) -> None:
    async with (
        ScriptedRedis(b"-WRONGPASS invalid username-password pair\r\n") as scripted,
        open_store(store_settings(tmp_path, scripted.url)) as store,
    ):
        with pytest.raises(CacheAuthenticationError):
            await store.current()
        assert scripted.commands <= 2


@pytest.mark.fault("F44")
@pytest.mark.parametrize("credentials", ["", ":wrong@", "nobody:wrong@"])
async def test_f44_on_a_unix_socket_credentials_are_as_wrong(tmp_path: Path, credentials: str) -> None:
    path = tmp_path / "s"
    with RedisServer(tmp_path / "secret", "--unixsocket", str(path), password=PASSWORD):
        async with open_store(store_settings(tmp_path, f"unix://{credentials}{path}")) as store:
            with pytest.raises(CacheAuthenticationError) as caught:
                await store.current()
    assert caught.value.error_type == "redis_auth"


@pytest.mark.fault("F42")
async def test_f42_a_replica_refuses_writes_as_a_passing_fault(replica: RedisServer, tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path, replica.url), quick_policy()) as store:
        with pytest.raises(CacheConnectionError) as caught:
            await publish(store, "v1", [make_bundle("a")])
        assert caught.value.error_type == "redis_readonly"


@pytest.mark.parametrize(
    ("reply", "error", "error_type"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", CacheConnectionError, "redis_loading"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", CacheWritesPausedError, "redis_oom"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", CacheWritesPausedError, "redis_misconf"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", CacheWritesPausedError, "redis_noreplicas"),
        (b"-NOPERM this user has no permissions\r\n", CacheAuthenticationError, None),
        (b"-CLUSTERDOWN The cluster is down\r\n", CacheConnectionError, "redis_clusterdown"),
        (
            b"-ERR Error running script (call to f_x): @user_script:1: -OOM command not allowed\r\n",
            CacheWritesPausedError,
            "redis_oom",
        ),
    ],
)
@pytest.mark.fault("F42", "F43", "F44")
async def test_f42_f43_f44_replies_become_typed_errors(
    reply: bytes, error: type[Exception], error_type: str | None, tmp_path: Path
) -> None:
    async with (
        ScriptedRedis(reply) as scripted,
        open_store(store_settings(tmp_path, scripted.url), quick_policy()) as store,
    ):
        with pytest.raises(error) as caught:
            await store.current()
        if error_type is not None:
            assert getattr(caught.value, "error_type", None) == error_type
        assert scripted.commands == 1


@pytest.mark.fault("F44")
async def test_f44_a_wrong_password_is_not_a_connection_error_and_stays_secret(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server", password=PASSWORD) as server:
        for wrong in (None, "wrong-wrong-wrong"):
            async with open_store(store_settings(tmp_path, server.url_with(wrong)), quick_policy()) as store:
                with pytest.raises(CacheAuthenticationError) as caught:
                    await store.current()
            shown = "".join(traceback.format_exception(caught.value))
            assert "wrong-wrong-wrong" not in shown
        async with open_store(store_settings(tmp_path, server.url), quick_policy()) as store:
            assert await store.current() is None


@pytest.mark.fault("F45")
async def test_f45_a_slow_redis_is_given_up_after_the_attempt_timeout(server: RedisServer, tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path, server.url), quick_policy(1.0)) as store:
        await store.ping()
        server.pause()
        try:
            with pytest.raises(CacheConnectionError):
                await store.ping()
        finally:
            server.resume()
        await store.ping()


class NotesDeadlines(Policy):
    """Runs nothing: answers, or does not."""

    answers = False

    def __init__(self) -> None:
        super().__init__("redis")
        self.deadlines: list[float | None] = []

    async def execute(self, operation: Any, *_: Any, **options: Any) -> Any:  # type: ignore[override]
        self.deadlines.append(options["deadline"])
        if not self.answers:
            raise TimeoutError
        return await operation()


async def test_the_first_answer_is_waited_for_no_longer_than_asked_the_others_as_the_policy_says() -> None:
    policy = NotesDeadlines()
    redis = GuardedRedis(fakeredis.FakeAsyncRedis(), policy, first_answer=1.5)
    for deadline in (None, 0.5, 4.0):
        with pytest.raises(CacheConnectionError):
            await redis.call("ask", lambda client: client.ping(), deadline=deadline)
    policy.answers = True
    for deadline in (None, None, 4.0):
        await redis.call("ask", lambda client: client.ping(), deadline=deadline)
    assert policy.deadlines == [1.5, 0.5, 1.5, 1.5, None, 4.0]
    await redis.aclose()


async def test_an_open_circuit_is_told_as_such(tmp_path: Path) -> None:
    policy = Policy("redis", breaker=CircuitBreakerConfig(failure_threshold=1))
    async with open_store(store_settings(tmp_path, f"redis://127.0.0.1:{free_port()}/0"), policy) as store:
        with pytest.raises(CacheConnectionError):
            await store.ping()
        with pytest.raises(CacheConnectionError) as caught:
            await store.ping()
        assert caught.value.error_type == "circuit_open"
        assert caught.value.retry_after is not None


async def test_corrupt_json_is_an_error_and_not_a_missing_bundle(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", [make_bundle("a")])
    server.command("HSET", "{cat}:v:v1:bundles", "a", "{half a bun")
    with pytest.raises(CorruptEntryError) as caught:
        await store.get_bundles("v1", ["a"])
    assert "half" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://x", "redis://:pass-word@host:notaport/0", "nonsense"])
async def test_an_unusable_url_is_a_configuration_error_that_does_not_show_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with open_store(store_settings(tmp_path, url), quick_policy()):
            pass
    assert "pass-word" not in "".join(traceback.format_exception(caught.value))
    assert "REDIS_URL" in str(caught.value)
    assert os.linesep not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://[::1]:6399/2", "[::1]:6399"),
        ("redis://cache/0", "cache:6379"),
        ("rediss://cache", "cache:6379"),
        ("unix:///run/r.sock", "/run/r.sock"),
    ],
)
async def test_who_does_not_answer_is_named_as_it_is_written_in_a_url(url: str, address: str) -> None:
    client = connect_url(url)

    async def refused(_: object) -> None:
        raise redis.exceptions.ConnectionError("refused")

    with pytest.raises(CacheConnectionError, match=re.escape(f"Redis does not answer at {address} (")):
        await GuardedRedis(client, Policy("redis")).call("ask", refused)
    await client.aclose()
