"""Incidents shared through Redis, so that processes on many machines make one incident of one outage.

The only module of the alerting room that needs redis-py; its client is given to it. Give it short time limits: the
alert service waits for it, though no sync does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from otel_resilience.alerting.store import MAX_AGE, Record

if TYPE_CHECKING:
    from redis import Redis

_CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[2])
return false
"""
_RELEASE: Final = """
local function is_mine(value) return value and cjson.decode(value)['id'] == ARGV[3] end
local held = redis.call('GET', KEYS[1])
if held and not is_mine(held) then return 0 end
if not held and is_mine(redis.call('GET', KEYS[2])) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
"""


class RedisStore:
    """One key per incident, which expires by itself. Raises ``ConnectionError`` where Redis cannot be asked."""

    def __init__(self, client: Redis, *, prefix: str = "alerts:incident:", max_age: float = MAX_AGE) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl = max(1, int(max_age))

    def load(self) -> Iterable[Record]:
        """Every record under the prefix."""
        return list(self._asked(self._all))

    def claim(self, fingerprint: str, record: Record) -> Record | None:
        """One script: granted to the process that sets the key first."""
        found = self._run(_CLAIM, fingerprint, record)
        return None if found is None else self._asked(lambda: _object(found))

    def save(self, fingerprint: str, record: Record) -> None:
        """``SET XX``."""
        self._asked(lambda: self._client.set(self._open(fingerprint), json.dumps(record), xx=True, ex=self._ttl))

    def release(self, fingerprint: str, record: Record) -> bool:
        """One script: whoever finds the key tells of the end."""
        return bool(self._run(_RELEASE, fingerprint, record, record["id"]))

    def watch(self, fingerprint: str, record: Record) -> None:
        """Kept beside what is over."""
        self._asked(lambda: self._client.set(self._over(fingerprint), json.dumps(record), ex=self._ttl))

    def forget(self, fingerprint: str) -> None:
        """``DEL``."""
        self._asked(lambda: self._client.delete(self._over(fingerprint)))

    def _run(self, script: str, fingerprint: str, record: Record, *more: str) -> Any:
        keys = (self._open(fingerprint), self._over(fingerprint))
        return self._asked(lambda: self._client.eval(script, len(keys), *keys, json.dumps(record), self._ttl, *more))

    def _all(self) -> list[Record]:
        keys = list(self._client.scan_iter(match=f"{self._prefix}*", count=500))
        values: list[Any] = self._client.mget(keys) if keys else []
        return [_object(value) for value in values if value is not None]

    def _open(self, fingerprint: str) -> str:
        return f"{self._prefix}{fingerprint}"

    def _over(self, fingerprint: str) -> str:
        return f"{self._prefix}over:{fingerprint}"

    def _asked(self, question: Callable[[], Any]) -> Any:
        from redis.exceptions import RedisError  # there where its client is

        try:
            return question()
        except (RedisError, ValueError) as error:
            raise ConnectionError(f"the store of incidents did not answer: {type(error).__name__}") from error


def _object(value: Any) -> Record:
    record = json.loads(value)
    if not isinstance(record, dict):
        raise ValueError("no object")  # noqa: TRY004  # handled with what json raises
    return record
