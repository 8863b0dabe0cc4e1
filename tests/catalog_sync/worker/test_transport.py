"""The transport of workers when the broker goes away: no state of kombu stops a worker for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kombu.transport
import pytest
from kombu.connection import Connection
from kombu.message import Message

from catalog_sync.worker import transport
from catalog_sync.worker.transport import GuardedTransport
from support.redis_server import RedisServer

QUEUE = "q"
OPTIONS = {"socket_connect_timeout": 1.0, "socket_timeout": 1.0}
End = Callable[[Message], Any]


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[Connection]:
    """To an empty Redis."""
    redis_server.command("FLUSHALL")
    with Connection(redis_server.url, transport=GuardedTransport, transport_options=OPTIONS) as opened:
        yield opened


def taken(connection: Connection) -> tuple[Message, Any]:
    """A message that takes the only place of its channel."""
    queue = connection.SimpleQueue(QUEUE)
    queue.channel.basic_qos(0, 1, False)
    queue.put("work")
    message = queue.get(timeout=5)
    assert not queue.channel.qos.can_consume()
    return message, queue.channel


@pytest.mark.fault("W2")
@pytest.mark.parametrize("end", [Message.ack, Message.reject, Message.requeue], ids=["ack", "reject", "requeue"])
def test_what_ends_while_redis_is_away_makes_room(connection: Connection, redis_server: RedisServer, end: End) -> None:
    message, channel = taken(connection)
    redis_server.kill()
    try:
        with pytest.raises(connection.connection_errors):
            end(message)
        assert channel.qos.can_consume()
    finally:
        redis_server.start()


@pytest.mark.fault("W2")
@pytest.mark.parametrize("url", ["redis://h:6379/0", "rediss://h:6379/0", "redis+socket:///run/redis.sock"])
def test_a_worker_meets_no_broker_without_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("redis", "rediss"):
        monkeypatch.setitem(kombu.transport.TRANSPORT_ALIASES, scheme, kombu.transport.TRANSPORT_ALIASES[scheme])
    monkeypatch.setattr(kombu.transport, "_transport_cache", {})
    transport.install()
    assert Connection(url).get_transport_cls() is GuardedTransport
