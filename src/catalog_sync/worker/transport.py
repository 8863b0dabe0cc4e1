"""Celery's Redis transport, protected against three cases in which kombu stops a worker for good.

Kombu reads an entry of the queue before any code of Celery sees it, and an unreadable one ends the process. If Redis is
unreachable when a message is done, kombu counts that message as not done: once every slot is taken this way, the worker
requests nothing more, and so never notices that its connection is lost. And only a lost connection makes kombu
reconnect; any other error that Redis replies with (READONLY after a failover, UNBLOCKED, OOM, LOADING, NOAUTH,
CLUSTERDOWN …) ends the process.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _ignore(entry: bytes, error: Exception) -> None:
    """The callback until a worker sets its own; nothing is read before that."""


class GuardedQoS(redis.QoS):
    """A message that is done frees its slot, whether or not Redis received the acknowledgement.

    Without it Redis redelivers the message; steps may run twice.
    """

    def ack(self, delivery_tag: str) -> None:
        """Raises what Redis raises, like kombu's own."""
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Raises what Redis raises, like kombu's own."""
        try:
            super().reject(delivery_tag, requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class GuardedChannel(redis.Channel):
    """Passes on what kombu can read, and reports the rest."""

    QoS = GuardedQoS
    unreadable: ClassVar[Callable[[bytes, Exception], None]] = staticmethod(_ignore)
    """Called with an entry that was taken from the queue and is not a message."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous=asynchronous)
        client.set_response_callback("BRPOP", self._readable)
        return client

    def _readable(self, response: Sequence[bytes] | None, **_: Any) -> tuple[bytes, bytes] | None:
        """The reply to BRPOP; an invalid message counts as no message, so that the worker asks again."""
        if not response:
            return None
        key, entry = response
        try:
            message = self.Message(json.loads(entry), channel=self)
            message.delivery_info["exchange"], message.delivery_info["routing_key"]  # kombu needs them
            hash(message.delivery_tag)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            type(self).unreadable(entry, error)
            return None
        return key, entry


class GuardedTransport(redis.Transport):
    """Kombu's Redis transport with guarded channels. After any error of Redis it reconnects."""

    Channel = GuardedChannel
    brpop_timeout = 3
    """Seconds after which the queue is polled again; a message arrives immediately. Shutdown waits for a poll."""
    connection_errors = (*redis.Transport.connection_errors, RedisError)
    channel_errors = tuple(error for error in redis.Transport.channel_errors if not issubclass(error, RedisError))


def install() -> None:
    """Guards every connection to a broker that this process makes from now on, whatever the scheme of its URL."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{GuardedTransport.__name__}"
