"""Shared state in Redis: many processes on many machines act as one client. Needs ``redis``, imported when first used.

Every step is one script, hence one round trip, on the clock of the server.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason
from otel_resilience.redaction import redact
from otel_resilience.storage.backends import redis_scripts as scripts
from otel_resilience.storage.protocol import BreakerStep, BreakerView, BudgetStep, BudgetView, StorageError

if TYPE_CHECKING:
    import redis

KEEP: Final = 7 * 86_400.0
"""Seconds after which a key that nobody uses is gone."""
SOCKET_TIMEOUT: Final = 1.0
"""Seconds for connecting and for one answer. Only a thread waits that long, no caller."""


class RedisStorage:
    """A :class:`~otel_resilience.storage.Storage` in Redis (5 or later).

    ``server`` is a URL, or a function that makes a blocking client without retries of its own. ``namespace`` begins all
    keys. Raises ``ValueError`` on an unusable URL; the message does not show it.
    """

    name = "redis"
    remote = True

    def __init__(
        self,
        server: str | Callable[[], redis.Redis],
        *,
        namespace: str = "resilience",
        keep: float = KEEP,
        clock: str = scripts.SERVER_CLOCK,
    ) -> None:
        self._namespace = check.label("namespace", namespace)
        self._keep = int(check.seconds("keep", keep) * 1000)
        if not isinstance(server, str):
            check.def_function("server", server)
        self._make = server if callable(server) else _maker(server)
        self._clock = check.text("clock", clock)
        self._client: redis.Redis | None = None
        self._scripts: dict[str, Any] = {}

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        """A step of a circuit breaker."""
        answer = self._run("breaker", scripts.BREAKER, key, _breaker_json(step))
        return BreakerView(
            **{
                **answer,
                "age": answer.get("age"),
                "state": BreakerState(answer["state"]),
                "reason": TransitionReason(answer["reason"]),
            }
        )

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        """A step of a retry budget."""
        config = step.config
        asked: dict[str, Any] = {
            "capacity": config.capacity,
            "refill_rate": config.refill_rate,
            "cost": step.cost,
            "given": step.given,
            "ran": step.ran,
        }
        if step.claim is not None:
            asked.update(claim=step.claim, merge=step.merge.value)
        return BudgetView(**self._run("budget", scripts.BUDGET, key, asked))

    def pause(self, key: str, seconds: float) -> float:
        """What is left of the longest pause."""
        return float(self._run("pause", scripts.PAUSE, key, {"seconds": seconds})["left"])

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

    def _run(self, kind: str, text: str, name: str, asked: dict[str, Any]) -> Any:
        def send(client: redis.Redis) -> Any:
            script = self._scripts.get(kind)
            if script is None:
                script = self._scripts[kind] = client.register_script(self._clock + text)
            return script(keys=[self.key(kind, name)], args=[json.dumps(asked), self._keep])

        answer = self._guarded(send)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise StorageError("Redis answered something that is no answer") from error

    def _guarded(self, send: Callable[[redis.Redis], Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = self._make()
            return send(self._client)
        except (RedisError, OSError) as error:
            text = redact(str(error)).splitlines()
            raise StorageError(text[0][:200] if text else type(error).__name__) from error


def _breaker_json(step: BreakerStep) -> dict[str, Any]:
    config = step.config
    asked: dict[str, Any] = {
        "action": step.action.value,
        "generation": step.generation,
        "successes": step.successes,
        "success_age": step.success_age,
        "slow": step.slow,
        "lease": step.lease,
        "lease_for": step.lease_for,
        "fraction": step.fraction,
        "error_type": step.error_type,
        "period": config.monitoring_period,
        "minimum_calls": config.minimum_calls,
        "slow_call_rate": config.slow_call_rate,
        "reset_timeout": config.reset_timeout,
        "cap": config.open_time_cap,
        "max_retry_after": config.max_retry_after,
        "slots": config.half_open_max_calls,
    }
    optional = {
        "hint": step.hint,
        "failure_threshold": config.failure_threshold,
        "consecutive_failures": config.consecutive_failures,
        "failure_rate": config.failure_rate,
    }
    asked.update((name, value) for name, value in optional.items() if value is not None)
    if step.claim is not None:
        asked["claim"] = {**dataclasses.asdict(step.claim), "state": step.claim.state.value}
    return asked


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
