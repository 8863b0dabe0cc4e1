"""Incidents shared through Redis, so that processes on many machines make one incident of one outage.

The only module of the alerting package that needs redis-py; the client is passed in. Give it short timeouts: the alert
service waits for it, though no caller does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from otel_resilience.alerting.persistence.store import DAMAGE, MAX_AGE, MAX_RECORDS, Record, Swap, as_record
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from redis import Redis

_SWAP: Final = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
local revision = ''
if held then
    local readable, record = pcall(cjson.decode, held)
    if readable and type(record) == 'table' and record['revision'] then revision = '=' .. record['revision'] end
end
if revision ~= ARGV[2] then return {0, held} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {1}
"""
"""Compare-and-set of one record; a damaged record counts as absent."""


class RedisStore:
    """One hash for all incidents, which expires once no process writes any more. Raises ``ConnectionError`` if Redis
    cannot be reached.

    Services may share a ``prefix``: fingerprints keep their incidents apart. ``max_age``: seconds after which a record
    that no process wrote is dropped.

    Examples:
        >>> import redis
        >>> from otel_resilience.alerting import AlertConfig, AlertService, RedisStore
        >>> client = redis.Redis(socket_timeout=0.5, socket_connect_timeout=0.5)
        >>> service = AlertService(AlertConfig(service="checkout"), [], store=RedisStore(client, prefix="shop:"))
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "alerts:",
        max_age: float = MAX_AGE,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._key = f"{prefix}incidents"
        self._max_age = max_age
        self._now = wall_clock

    def load(self) -> Iterable[Record]:
        """Every record that is readable and not too old; others are removed."""
        return list(self._asked(self._all))

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        """Compared and replaced by one script."""
        revision = "" if expected is None else f"={expected}"
        ttl = max(1, int(self._max_age))
        arguments = (fingerprint, revision, json.dumps(record), ttl)
        answer: Any = self._asked(lambda: self._client.eval(_SWAP, 1, self._key, *arguments))
        if answer[0]:
            return Swap(True, None)
        return Swap(False, None if answer[1] is None else _object(answer[1]))

    def _all(self) -> list[Record]:
        found: list[Record] = []
        useless: list[Any] = []
        held: Any = self._client.hgetall(self._key)
        for fingerprint, value in held.items():
            record = _object(value)
            saved_at = None if record is None else record.get("saved_at")
            if record is None or not isinstance(saved_at, (int, float)) or self._now() - saved_at > self._max_age:
                useless.append(fingerprint)
            elif len(found) < MAX_RECORDS:
                found.append(record)
        if useless:
            self._client.hdel(self._key, *useless)
        return found

    def _asked(self, question: Callable[[], Any]) -> Any:
        from redis.exceptions import RedisError, ResponseError  # installed, since the client was passed in

        try:
            return question()
        except (RedisError, ValueError) as error:
            # An error reply of Redis names the command or the key, for example one that it forbids.
            said = f": {redact(str(error))[:200]}" if isinstance(error, ResponseError) else ""
            raise ConnectionError(f"the incident store did not answer: {type(error).__name__}{said}") from error


def _object(value: Any) -> Record | None:
    """The record; ``None`` if it is damaged."""
    try:
        return as_record(json.loads(value))
    except DAMAGE:
        return None
