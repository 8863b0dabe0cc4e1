"""Shared state in Redis: many processes on many machines act as one client. Needs ``redis``, imported when first used.

A step reads the document with the server's time, changes it here, and writes it if nobody else did meanwhile: one round
trip, and one more where something changed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience.redaction import redact
from otel_resilience.storage.backends import validity
from otel_resilience.storage.backends.base import DocumentStorage
from otel_resilience.storage.documents import Document
from otel_resilience.storage.protocol import StorageError

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

KEEP: Final = 7 * 86_400.0
"""Seconds after which a key that nobody uses is gone."""
SOCKET_TIMEOUT: Final = 1.0
"""Seconds for connecting and for one answer. Only a thread waits that long, no caller."""
ROUNDS: Final = 16
"""Attempts to write a step before another process writes its own."""
PAUSE: Final = 0.002
"""Upper bound of the random pause after every second round lost, in seconds. All of them together stay below the time
that a caller waits."""

COMPARE_AND_SET: Final = """
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
  return false
end
local now = redis.call('TIME')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {found, now[1], now[2]}
"""
"""KEYS: a document. ARGV: milliseconds for which it is kept, the document expected, the new one; without the last two
it only reads. Answers nothing where it wrote, else the document found and the server's time. It holds no rule."""


class RedisStorage(DocumentStorage):
    """A :class:`~otel_resilience.storage.Storage` in Redis (5 or later).

    ``server`` is a URL, or a function that makes a blocking client without retries of its own. ``namespace`` begins all
    keys. ``clock`` stands in for the server's time, in tests. Raises ``ValueError`` on an unusable URL; the message
    does not show it.
    """

    name = "redis"
    remote = True

    def __init__(
        self,
        server: str | Callable[[], redis.Redis],
        *,
        namespace: str = "resilience",
        keep: float = KEEP,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._namespace = check.label("namespace", namespace)
        self._keep = int(check.seconds("keep", keep) * 1000)
        if not isinstance(server, str):
            check.def_function("server", server)
        if clock is not None:
            check.def_function("clock", clock)
        self._make = server if callable(server) else _maker(server)
        self._clock = clock
        self._client: redis.Redis | None = None
        self._script: Any = None
        self.lost_rounds = 0
        """How often another process wrote between this one's reading and writing."""

    def ping(self) -> None:
        """One round trip."""
        self._guarded(lambda client: client.ping())

    def close(self) -> None:
        """Closes the connection; the next step opens a new one."""
        client, self._client = self._client, None
        self._script = None
        if client is not None:
            client.close()

    def key(self, kind: str, name: str) -> str:
        """The Redis key of a document."""
        return f"{self._namespace}:{{{name}}}:{kind}"

    def _step(self, kind: str, key: str, change: Callable[[Document, float], T]) -> T:
        name = self.key(kind, key)
        found = self._call(name)
        for attempt in range(ROUNDS):
            text, seconds, microseconds = found
            document = _readable(kind, text)
            now = self._clock() if self._clock is not None else int(seconds) + int(microseconds) / 1e6
            answer = change(document, now)
            changed = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
            if changed == text:
                return answer
            found = self._call(name, text, changed)
            if found is None:
                return answer
            self.lost_rounds += 1
            if attempt % 2:
                time.sleep(random.random() * PAUSE)  # noqa: S311  # spreads the processes, no secret
                found = self._call(name)
        raise StorageError(f"other processes changed the {kind} {ROUNDS} times meanwhile")

    def _call(self, name: str, *texts: bytes) -> Any:
        def send(client: redis.Redis) -> Any:
            if self._script is None:
                self._script = client.register_script(COMPARE_AND_SET)
            return self._script(keys=[name], args=[self._keep, *texts])

        return self._guarded(send)

    def _guarded(self, send: Callable[[redis.Redis], Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = self._make()
            return send(self._client)
        except (RedisError, OSError) as error:
            text = redact(str(error)).splitlines()
            raise StorageError(text[0][:200] if text else type(error).__name__) from error


def _readable(kind: str, text: bytes | str) -> Document:
    """The document; what is not usable counts as empty."""
    try:
        document = json.loads(text)
        validity.check_document(kind, document)
    except (ValueError, RecursionError):
        return {}
    found: Document = document
    return found


def _maker(url: str) -> Callable[[], redis.Redis]:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    def make() -> redis.Redis:
        return Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )

    try:
        make()
    except (ValueError, RedisError):
        raise ValueError(
            "server is a URL of Redis that is not usable: expected redis://, rediss:// or unix://"
        ) from None
    return make
