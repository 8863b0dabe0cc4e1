"""Redis behind the policy: every command gets its retries, circuit breaker and timeouts there and nowhere else."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import redis as blocking
import redis.asyncio as redis
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry as BlockingRetry

from catalog_sync.domain.cancellation import heeding_cancellation
from catalog_sync.domain.errors import (
    CacheAuthenticationError,
    CacheConnectionError,
    CacheWritesPausedError,
    CatalogSyncError,
    ConfigurationError,
)
from catalog_sync.observability.sdk import summarized, untraced
from catalog_sync.store.errors import CacheReplyError, CorruptEntryError
from catalog_sync.store.keys import Key
from otel_resilience import AttemptTimeoutError, CircuitOpenError, DeadlineExceededError, Policy, classify
from otel_resilience.classification import error_types
from otel_resilience.redaction import redact

T = TypeVar("T")
P = TypeVar("P", bound=str | bytes | int)

SOCKET_TIMEOUT = 5.0
"""Seconds for connecting and for one reply; usually the policy's attempt timeout ends a slow command first."""
HEALTH_CHECK_INTERVAL = 30

_DRIVER = DriverInfo(lib_version=blocking.__version__)
"""For ``CLIENT LIST``. Otherwise redis-py would read its version from the package metadata for each connection."""

_DEFAULT_PORT = 6379

READ = "read"
WRITE = "write"
"""The operations of Redis on metrics; the spans of the client have the exact commands."""
_READING = frozenset(
    {"EXISTS", "GET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "LLEN", "LRANGE", "MGET", "PING", "SCAN", "TIME",
     "ZREVRANGE"}
)  # fmt: skip

_REPLY_PREFIX = re.compile(r"-?\b([A-Z][A-Z0-9]{2,})\b")
_COMMAND = re.compile(r"'([a-z|]{2,40})' command")
_IN_SCRIPT = re.compile(r"ACL failure in script|user executing the script can't")
"""How servers before 7.2 report NOPERM for a command within a script."""
_WRITES_PAUSED = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
_CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_UNREACHABLE = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    CircuitOpenError,
    AttemptTimeoutError,
    DeadlineExceededError,
    OSError,
)
_CREDENTIAL_ERRORS = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)
_PIPELINE_TEXT = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: (?:\(['\"])?", re.DOTALL)
"""redis-py puts the command before the server's reply, and newer versions wrap the reply in a tuple."""


def connect_url(url: str, *, max_connections: int | None = None) -> redis.Redis:
    """A client for ``url`` without retries of its own. Nothing is sent yet.

    Raises :class:`ConfigurationError` for an unusable URL; the message does not show it.
    """
    try:
        return redis.Redis.from_url(url, max_connections=max_connections, **_options())
    except (ValueError, redis_errors.RedisError) as error:
        message = "REDIS_URL is not usable: expected redis://, rediss:// or unix://, with a numeric port and database"
        raise ConfigurationError(message) from _without_text(error)


def connect_socket(path: str) -> redis.Redis:
    """A client for a server on a unix socket."""
    return redis.Redis(unix_socket_path=path, **_options())


def connect_blocking(url: str, *, timeout: float = 1.0) -> blocking.Redis:
    """A client for code without an event loop, without retries of its own; nothing is sent yet.

    ``timeout`` in seconds, for connecting and for one reply. Raises ``ValueError`` for an unusable URL.
    """
    no_retry = BlockingRetry(NoBackoff(), 0)
    return blocking.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=no_retry, driver_info=_DRIVER
    )


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        "driver_info": _DRIVER,
    }


def _without_text(error: Exception) -> Exception:
    """An error of the same type without its text, which may quote the URL."""
    return type(error)("details withheld, they may contain the password")


def text_of(raw: Any, what: str) -> str:
    """A text from Redis. Raises :class:`CorruptEntryError` if it is not UTF-8."""
    try:
        return bytes(raw).decode()
    except ValueError as error:
        raise CorruptEntryError(f"{what} is not UTF-8") from error


def named(parts: Sequence[P], prefix: str) -> list[P | str]:
    """The parts of a command, with the installation's prefix before every :class:`~catalog_sync.store.keys.Key`."""
    return [part.under(prefix) if isinstance(part, Key) else part for part in parts]


class GuardedRedis:
    """A redis client whose every use goes through a policy and ends in a result or a :class:`CatalogSyncError`."""

    def __init__(
        self, client: redis.Redis, policy: Policy, *, prefix: str = "", first_answer: float | None = None
    ) -> None:
        """``prefix`` is put before every :class:`~catalog_sync.store.keys.Key`. ``first_answer``: maximum seconds that
        calls take, with all retries, until one has been answered; ``None``: as long as the policy allows."""
        self.raw = client
        self._first_answer = first_answer
        self.prefix = prefix
        self.policy = policy
        self._loaded: set[str] = set()
        """Hashes of the scripts that the server has received."""

    async def call(
        self,
        name: str,
        operation: Callable[[redis.Redis], Awaitable[T]],
        *,
        writes: bool = False,
        deadline: float | None = None,
    ) -> T:
        """Runs ``operation``, which must be safe to repeat. ``deadline`` in seconds limits it with all retries.

        ``name`` is shown in errors and on the spans of the client; metrics only distinguish reads from ``writes``.

        Raises :class:`CacheConnectionError`, :class:`CacheAuthenticationError`, :class:`CacheWritesPausedError` or
        :class:`CacheReplyError`, each with redis-py's exception as its cause.
        """
        try:
            return await self.policy.execute(
                functools.partial(self._attempt, name, operation),
                name=WRITE if writes else READ,
                idempotent=True,
                deadline=min((limit for limit in (deadline, self._first_answer) if limit is not None), default=None),
            )
        except CatalogSyncError:
            raise
        except (redis_errors.RedisError, *_UNREACHABLE) as error:
            raise translated(name, error, self._address()) from error

    async def script(
        self,
        name: str,
        text: str,
        *,
        keys: Sequence[str],
        args: Sequence[str | bytes | int],
        writes: bool = True,
        deadline: float | None = None,
    ) -> Any:
        """Runs a Lua script by its hash; the script is sent before the first use, and again if the server lost it."""
        keys, args = named(keys, self.prefix), named(args, self.prefix)
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def run(client: redis.Redis) -> Any:
            if sha not in self._loaded:
                await client.script_load(text)
                self._loaded.add(sha)
            try:
                return await _evaluated(client, sha, keys, args)
            except redis_errors.NoScriptError:  # another server by now, or a restarted one
                await client.script_load(text)
                return await _evaluated(client, sha, keys, args)

        return await self.call(name, run, writes=writes, deadline=deadline)

    async def command(self, name: str, *parts: str | bytes | int) -> Any:

        async def send(client: redis.Redis) -> Any:
            return await client.execute_command(*named(parts, self.prefix))  # type: ignore[no-untyped-call]  # redis-py has no types here

        return await self.call(name, send, writes=parts[0] not in _READING)

    async def read_many(self, name: str, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Sends several reading commands in one round trip."""

        async def send(client: redis.Redis) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*named(command, self.prefix))
                return list(await pipeline.execute())

        return await self.call(name, send)

    async def past_policy(self, name: str, operation: Callable[[redis.Redis], Awaitable[T]]) -> T:
        """Runs ``operation`` once, without policy and spans: for waiting, and for code that must not observe itself.

        Raises like :meth:`call`.
        """
        with untraced():
            try:
                return await heeding_cancellation(operation(self.raw))
            except (redis_errors.RedisError, OSError) as error:
                raise translated(name, error, self._address()) from error

    def _address(self) -> str:
        where = self.raw.connection_pool.connection_kwargs
        host = str(where.get("host"))
        return str(where.get("path") or f"{f'[{host}]' if ':' in host else host}:{where.get('port', _DEFAULT_PORT)}")

    async def _attempt(self, name: str, operation: Callable[[redis.Redis], Awaitable[T]]) -> T:
        try:
            with summarized(name):
                answer = await heeding_cancellation(operation(self.raw))
        except redis_errors.ReadOnlyError:
            # After a failover the old connections still lead to what is now a replica.
            await self.raw.connection_pool.disconnect(inuse_connections=False)
            raise
        except redis_errors.RedisError as error:
            _forget_command(error)
            raise
        self._first_answer = None
        return answer

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.raw.aclose()


async def _evaluated(client: redis.Redis, sha: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
    return await client.evalsha(sha, len(keys), *keys, *args)


def _forget_command(error: redis_errors.RedisError) -> None:
    """Removes the command, and with it the values, that a pipeline adds to the error's text."""
    if error.args and isinstance(error.args[0], str):
        error.args = (_PIPELINE_TEXT.sub("", error.args[0]), *error.args[1:])


def translated(name: str, error: BaseException, address: str = "") -> CatalogSyncError:
    """Our own error for an exception of a redis call. Its message names the operation and shows no value."""
    if type(error) is redis_errors.ConnectionError and isinstance(error.__cause__, redis_errors.RedisError):
        error = error.__cause__  # the server's reply to the greeting on a unix socket
    verdict = classify(error)
    prefix = _reply_prefix(error)
    kind: type[CatalogSyncError]
    if isinstance(error, _CREDENTIAL_ERRORS) or prefix in _CREDENTIALS:
        kind, what = CacheAuthenticationError, "Redis refuses the credentials or the command"
    elif isinstance(error, redis_errors.OutOfMemoryError) or prefix in _WRITES_PAUSED:
        kind, what = CacheWritesPausedError, "Redis takes no writes"
    elif isinstance(error, CircuitOpenError):
        kind, what = CacheConnectionError, "Redis is not asked while its circuit is open"
    elif isinstance(error, _UNREACHABLE):
        kind, what = CacheConnectionError, f"Redis does not answer at {address}".removesuffix(" at ")
    elif prefix == "WRONGTYPE":
        kind, what = CorruptEntryError, "a key holds another type of data than expected"
    else:
        kind, what = CacheReplyError, "Redis refuses the command"
    if verdict.unclassified or verdict.error_type == error_types.OTHER:
        chosen = kind.default if prefix is None else kind.default.replace(error_type=error_types.redis_reply(prefix))
    else:
        chosen = verdict
    detail = prefix or _detail(error)
    if prefix == "NOPERM":
        detail += _forbidden(str(error))
    retry_after = getattr(error, "retry_after", None)
    return kind(
        f"{what} ({name}: {detail})",
        classification=chosen,
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        context={"operation": name, "reply": prefix},
    )


def _reply_prefix(error: BaseException) -> str | None:
    by_type: Mapping[type[BaseException], str] = {
        redis_errors.OutOfMemoryError: "OOM",
        redis_errors.ReadOnlyError: "READONLY",
        redis_errors.BusyLoadingError: "LOADING",
        redis_errors.NoPermissionError: "NOPERM",
        redis_errors.MasterDownError: "MASTERDOWN",
        redis_errors.ClusterDownError: "CLUSTERDOWN",
    }
    for kind, prefix in by_type.items():
        if isinstance(error, kind):
            return prefix
    if not isinstance(error, redis_errors.ResponseError):
        return None
    text = str(error)
    if _IN_SCRIPT.search(text):
        return "NOPERM"
    if text.startswith("Error running script") or "ERR Error running script" in text:
        inner = re.search(r"-?\b(OOM|READONLY|MISCONF|BUSY|NOREPLICAS|WRONGTYPE|NOPERM)\b", text)
        if inner:
            return inner[1]
    found = _REPLY_PREFIX.match(text)
    return found[1] if found else "ERR"


def _forbidden(text: str) -> str:
    """What the ACL of our user lacks, as far as Redis says."""
    command = _COMMAND.search(text)
    if command:
        return f", the ACL of this user forbids {command[1].upper().replace('|', ' ')}"
    what = "one of the keys" if re.search(r"\bkeys?\b", text) else "a command, which ACL LOG names"
    return f", the ACL of this user forbids {what}"


def _detail(error: BaseException) -> str:
    """For errors that are not a reply of the server: their text contains at most an address."""
    if isinstance(error, redis_errors.ResponseError):
        return type(error).__name__
    text = redact(str(error)).splitlines()
    return text[0][:200] if text and text[0] else type(error).__name__
