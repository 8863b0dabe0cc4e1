"""Celery's Redis transport with a guard: an entry of the queue that is no message does not end the worker.

Kombu reads an entry before anything of Celery sees it, and what it cannot read ends the process.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from kombu.transport import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _nobody(entry: bytes, error: Exception) -> None:
    """Before a worker says who is told, nothing is read."""


class GuardedChannel(redis.Channel):
    """Hands on what kombu can read, and tells of the rest."""

    unreadable: ClassVar[Callable[[bytes, Exception], None]] = staticmethod(_nobody)
    """Is told of an entry that was taken from the queue and is no message."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous=asynchronous)
        client.set_response_callback("BRPOP", self._readable)
        return client

    def _readable(self, response: Sequence[bytes] | None, **_: Any) -> tuple[bytes, bytes] | None:
        """The answer to BRPOP; one that holds no message reads as none, so that the worker asks again."""
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
    """``broker_transport`` of a worker."""

    Channel = GuardedChannel
