"""Shared state in Redis: many processes on many machines act as one client. Needs ``redis``, imported when first used.

A step reads the document with the server's time, changes it here, and writes it if nobody else has written meanwhile:
one round trip, and one more if something changed.
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
from otel_resilience.storage.protocol import RateStep, RateView, StorageError

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

KEEP: Final = 7 * 86_400.0
"""Seconds after which an unused key is deleted."""
SOCKET_TIMEOUT: Final = 1.0
"""Seconds for connecting and for one reply. Only a background thread waits that long, no caller."""
ROUNDS: Final = 16
"""Attempts to write a step before giving up because other processes were faster."""
PAUSE: Final = 0.002
"""Upper bound of the random pause after every second lost round, in seconds. A caller waits longer than their sum."""

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
"""KEYS: a document. ARGV: milliseconds for which it is kept, the expected document, the new one; without the last two
it only reads. Returns nothing if it wrote, else the document found and the server's time. It contains no rule."""


LONGEST_TURN: Final = 0.5
"""Seconds for which a turn is reserved for a process; if the wait would be longer it asks again."""
LONGEST_PAUSE: Final = 7 * 86_400.0
"""Seconds ahead; a longer pause was written by something else, and would stop every process for good."""
ALONE_AFTER: Final = 2.0
"""Seconds after which a process without requests counts as gone."""

TAKE_TURN: Final = """
local seconds = redis.call('TIME')
local now = tonumber(seconds[1]) + tonumber(seconds[2]) / 1000000
local gap, window, cost, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local id, longest, alone_after = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local function read(key, ...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then return found end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found) end
  redis.call('DEL', key)
  return {}
end
read(KEYS[2], 'ZREMRANGEBYSCORE', KEYS[2], '-inf', now - alone_after)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now, '+inf')
redis.call('ZADD', KEYS[2], now, id)
local processes = redis.call('ZCARD', KEYS[2])
local alone = processes == 1
local held = read(KEYS[1], 'HMGET', KEYS[1], 'next_turn', 'paused_until')
local next_turn, paused = tonumber(held[1] or '0') or 0, tonumber(held[2] or '0') or 0
if not (paused <= now + tonumber(ARGV[8])) then paused = 0 end
next_turn = math.max(now, math.min(next_turn, now + window + longest))
paused = math.max(paused, now + pause)
local turn = math.max(now, paused)
if not alone then turn = math.max(turn, next_turn) end
local granted = cost > 0 and turn - now <= longest
if granted and alone then
  next_turn = math.min(next_turn + cost * gap, now + window)
elseif granted then
  next_turn = turn + cost * gap
end
redis.call('HSET', KEYS[1], 'next_turn', string.format('%.6f', next_turn))
redis.call('HSET', KEYS[1], 'paused_until', string.format('%.6f', paused))
local keep = math.ceil(1000 * (alone_after + math.max(window, next_turn - now, paused - now)))
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('PEXPIRE', KEYS[2], keep)
return {string.format('%.6f', turn - now), granted and 1 or 0, processes}
"""
"""KEYS: hash of the turns, sorted set of the processes. ARGV: seconds from turn to turn, window in s, cost, pause in s,
process ID, maximum seconds that a turn is reserved, seconds after which a process counts as gone, maximum pause in s.
Stored values that are not numbers, lie beyond the longest pause or have the wrong type are ignored. Returns how long to
wait, whether that turn is reserved for this process, and how many processes take turns.

A single process may send in bursts, as far as its own log allows. Several take turns at even intervals: a late burst of
one and a timely burst of another would meet at the server. Why this rule is a script: docs/decisions/why-lua.md."""


class RedisStorage(DocumentStorage):
    """A :class:`~otel_resilience.storage.Storage` in Redis (5 or later).

    ``server`` is a URL, or a function that returns a blocking client without retries of its own. ``namespace`` prefixes
    all keys. ``clock`` replaces the server's time in tests. Raises ``ValueError`` for an unusable URL; the message does
    not show it.

    ``keep``: seconds, greater than 0, after which an unused key is deleted; a week by default.

    Examples:
        >>> from otel_resilience.storage import RedisStorage, SharedState
        >>> storage = RedisStorage("redis://localhost:6379/0", namespace="shop")
        >>> storage.key("breaker", "supplier")
        'shop:{supplier}:breaker'
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
        self._scripts: dict[str, Any] = {}
        self.lost_rounds = 0
        """How often another process wrote between this one's read and write."""

    def ping(self) -> None:
        """One round trip."""
        self._guarded(lambda client: client.ping())

    def close(self) -> None:
        """Closes the connection; the next step opens a new one."""
        client, self._client = self._client, None
        self._scripts.clear()
        if client is not None:
            client.close()

    def key(self, kind: str, name: str) -> str:
        """The Redis key of a document."""
        return f"{self._namespace}:{{{name}}}:{kind}"

    def rate(self, key: str, step: RateStep) -> RateView:
        """Takes a turn, on the server's clock."""
        names = [self.key("rate", key), self.key("senders", key)]
        gap = step.window / step.limit
        arguments = [gap, step.window, step.cost, step.pause, step.sender, LONGEST_TURN, ALONE_AFTER, LONGEST_PAUSE]
        answer, granted, senders = self._run(TAKE_TURN, names, arguments)
        wait = float(answer)
        if step.cost and not granted:
            wait = max(wait - LONGEST_TURN / 2, LONGEST_TURN / 2)
        return RateView(wait, bool(granted), senders)

    def _step(self, kind: str, key: str, change: Callable[[Document, float], T]) -> T:
        name = self.key(kind, key)
        found = self._compare_and_set(name)
        for attempt in range(ROUNDS):
            text, seconds, microseconds = found
            document = _readable(kind, text)
            now = self._clock() if self._clock is not None else int(seconds) + int(microseconds) / 1e6
            answer = change(document, now)
            changed = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
            if changed == text:
                return answer
            found = self._compare_and_set(name, text, changed)
            if found is None:
                return answer
            self.lost_rounds += 1
            if attempt % 2:
                time.sleep(random.random() * PAUSE)  # noqa: S311  # spreads the processes; not security-relevant
                found = self._compare_and_set(name)
        raise StorageError(f"lost {ROUNDS} rounds to other processes that changed the {kind}")

    def _compare_and_set(self, name: str, *texts: bytes) -> Any:
        return self._run(COMPARE_AND_SET, [name], [self._keep, *texts])

    def _run(self, script: str, names: list[str], arguments: list[Any]) -> Any:
        def send(client: redis.Redis) -> Any:
            if script not in self._scripts:
                self._scripts[script] = client.register_script(script)
            return self._scripts[script](keys=names, args=arguments)

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
    """The document; an unusable one counts as empty."""
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
        client = Redis.from_url(url)
        # After the URL, so that nothing in it changes the type of replies, or how long one is waited for.
        client.connection_pool.connection_kwargs.update(
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            decode_responses=False,
            encoding="utf-8",
        )
        return client

    try:
        make().connection_pool.make_connection()  # not opened: unknown parameters fail here
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            "server is a URL of Redis that is not usable: expected redis://, rediss:// or unix://, with parameters that"
            " redis-py knows"
        ) from None
    return make
