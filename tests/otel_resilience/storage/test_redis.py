"""A step in Redis equals the step in memory: the same steps at the same times through both."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_resilience import BreakerState, CircuitBreakerConfig, RetryBudgetConfig
from otel_resilience.storage import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    Claim,
    MemoryStorage,
    RedisStorage,
    SharedCircuitBreaker,
    SharedState,
    StorageError,
)
from otel_resilience.storage.backends import redis as redis_backend
from otel_resilience.storage.protocol import Merge, RateStep
from otel_resilience.testing import RecordedTelemetry
from support.redis_server import RedisServer
from support.resilience import Script, TransientFault

CONFIGS = [
    CircuitBreakerConfig(monitoring_period=10),
    CircuitBreakerConfig(failure_threshold=3, monitoring_period=10, reset_timeout=8),
    CircuitBreakerConfig(
        consecutive_failures=4, minimum_calls=4, monitoring_period=10, slow_call_duration=2, slow_call_rate=0.5
    ),
    CircuitBreakerConfig(
        consecutive_failures=2, monitoring_period=10, half_open_max_calls=2, max_reset_timeout=16, max_retry_after=20
    ),
]
BUDGETS = [RetryBudgetConfig(), RetryBudgetConfig(capacity=10, transient_cost=2, throttle_cost=1, refill_rate=0.5)]
QUARTERS = st.integers(0, 120).map(lambda number: number / 4)

CLAIMS = st.builds(
    Claim,
    generation=st.integers(1, 12),
    state=st.sampled_from([BreakerState.CLOSED, BreakerState.OPEN, BreakerState.FORCED_OPEN]),
    age=QUARTERS,
    open_left=QUARTERS,
    openings=st.integers(0, 70),
    opened_age=QUARTERS,
)
BREAKER_STEPS = st.fixed_dictionaries(
    {
        "action": st.sampled_from([*Action, Action.FAIL, Action.FAIL, Action.PROBE, Action.SUCCEED]),
        "behind": st.sampled_from([0, 0, 0, 0, 1]),
        "successes": st.integers(0, 4),
        "success_age": st.sampled_from([0.0, 0.25, 1.0, 5.0]),
        "slow": st.booleans(),
        "lease": st.sampled_from(["", "a", "b", "c"]),
        "fraction": st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        "hint": st.sampled_from([None, None, 3.0, 1e12]),
        "error_type": st.sampled_from(["503", "connect_timeout"]),
        "claim": st.one_of(st.none(), st.none(), CLAIMS),
    }
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class OnTestTime:
    """The Redis storage with the time of a test in the place of the server's own."""

    def __init__(self, server: RedisServer) -> None:
        self.client = server.client()
        self.now = 0.0
        self.storage = RedisStorage(lambda: self.client, clock=lambda: self.now)


@pytest.fixture(scope="module")
def remote(server: RedisServer) -> Iterator[OnTestTime]:
    found = OnTestTime(server)
    yield found
    found.storage.close()
    found.client.close()


names = itertools.count()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    config=st.sampled_from(CONFIGS),
    plan=st.lists(st.tuples(QUARTERS | st.just(0.0) | st.just(0.0), BREAKER_STEPS), max_size=30),
)
def test_a_breaker_in_redis_takes_the_same_steps(
    remote: OnTestTime, config: CircuitBreakerConfig, plan: list[tuple[float, dict[str, Any]]]
) -> None:
    now = 1_700_000_000.0
    local = MemoryStorage(clock=lambda: now)
    key = f"breaker-{next(names)}"
    generation = 0
    for elapsed, chosen in plan:
        now += elapsed
        remote.now = now
        details = dict(chosen)
        step = BreakerStep(config=config, lease_for=6, generation=max(0, generation - details.pop("behind")), **details)
        expected = local.breaker(key, step)
        assert remote.storage.breaker(key, step) == expected
        assert expected.generation >= generation
        generation = expected.generation


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    config=st.sampled_from(BUDGETS),
    plan=st.lists(
        st.tuples(
            QUARTERS,
            st.fixed_dictionaries(
                {
                    "cost": st.sampled_from([0.0, 1.0, 2.0]),
                    "given": st.integers(-8, 8).map(lambda number: number / 4),
                    "ran": QUARTERS,
                    "claim": st.one_of(st.none(), st.integers(0, 400).map(lambda number: number / 4)),
                    "merge": st.sampled_from(list(Merge)),
                }
            ),
        ),
        max_size=20,
    ),
)
def test_a_budget_in_redis_takes_the_same_steps(
    remote: OnTestTime, config: RetryBudgetConfig, plan: list[tuple[float, dict[str, Any]]]
) -> None:
    now = 1_700_000_000.0
    local = MemoryStorage(clock=lambda: now)
    key = f"budget-{next(names)}"
    for elapsed, details in plan:
        now += elapsed
        remote.now = now
        step = BudgetStep(config=config, **details)
        expected = local.budget(key, step)
        assert remote.storage.budget(key, step) == expected
        assert 0 <= expected.tokens <= config.capacity


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(plan=st.lists(st.tuples(QUARTERS, QUARTERS), max_size=12))
def test_pauses_in_redis_are_the_same(remote: OnTestTime, plan: list[tuple[float, float]]) -> None:
    now = 1_700_000_000.0
    local = MemoryStorage(clock=lambda: now)
    key = f"pause-{next(names)}"
    for elapsed, seconds in plan:
        now += elapsed
        remote.now = now
        assert remote.storage.pause(key, seconds) == local.pause(key, seconds)


def look(storage: RedisStorage, key: str = "supplier") -> BreakerView:
    return storage.breaker(key, BreakerStep(action=Action.LOOK, config=CircuitBreakerConfig(), lease_for=6))


FAILURE = BreakerStep(action=Action.FAIL, config=CircuitBreakerConfig(failure_threshold=1000), lease_for=6)


def test_a_look_is_one_round_trip_and_a_change_two(server: RedisServer) -> None:
    storage = RedisStorage(server.url, namespace="trips")
    storage.breaker("supplier", FAILURE)

    def commands() -> int:
        stats = server.command("INFO", "commandstats")
        return sum(int(value["calls"]) for name, value in stats.items() if "evalsha" in name or "script" in name)

    before = commands()
    for _ in range(10):
        look(storage)
    assert commands() - before == 10
    for _ in range(10):
        storage.breaker("supplier", FAILURE)
    assert commands() - before == 30
    storage.close()


class Interrupted:
    """A client whose step is overtaken by that of another process, as often as asked."""

    def __init__(self, server: RedisServer, times: int) -> None:
        self.other = RedisStorage(server.url, namespace="contended")
        self.client = server.client()
        self.times = times
        self.writes = 0
        self.storage = RedisStorage(lambda: self, namespace="contended")  # type: ignore[arg-type, return-value]

    def register_script(self, text: str) -> Any:
        script = self.client.register_script(text)

        def run(keys: list[str], args: list[Any]) -> Any:
            if len(args) > 1:
                self.writes += 1
                if self.writes <= self.times:
                    self.other.breaker("supplier", FAILURE)
            return script(keys=keys, args=args)

        return run

    def ping(self) -> None:
        self.client.ping()

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def contended(server: RedisServer) -> Iterator[Callable[[int], Interrupted]]:
    made: list[Interrupted] = []

    def make(times: int) -> Interrupted:
        made.append(Interrupted(server, times))
        return made[-1]

    yield make
    server.command("FLUSHALL")
    for each in made:
        each.storage.close()
        each.other.close()


def test_a_step_that_was_overtaken_is_made_again_on_what_the_other_wrote(
    contended: Callable[[int], Interrupted],
) -> None:
    one = contended(redis_backend.ROUNDS - 1)
    assert one.storage.breaker("supplier", FAILURE).failures == redis_backend.ROUNDS
    assert one.storage.lost_rounds == one.times
    assert look(one.other).failures == redis_backend.ROUNDS


def test_a_step_that_is_overtaken_again_and_again_is_given_up_unmade(contended: Callable[[int], Interrupted]) -> None:
    one = contended(10**6)
    with pytest.raises(StorageError, match="other processes"):
        one.storage.breaker("supplier", FAILURE)
    assert look(one.other).failures == one.writes == redis_backend.ROUNDS


def test_a_breaker_whose_step_is_given_up_goes_on_alone_and_reports_it_later(
    contended: Callable[[int], Interrupted],
) -> None:
    """As in an outage of the storage, for that one step."""
    one = contended(0)
    config = CircuitBreakerConfig(consecutive_failures=2, failure_rate=None)
    with RecordedTelemetry().recording() as recorded:
        shared = SharedState(one.storage, wait=5.0)
        breaker = SharedCircuitBreaker("supplier", config, shared=shared)
        assert shared.ready(10)
        one.times, one.writes = redis_backend.ROUNDS, 0
        for _ in range(2):
            with pytest.raises(TransientFault):
                breaker.execute(Script(TransientFault).play)
        assert breaker.state is BreakerState.OPEN
        give_up = time.monotonic() + 30
        while look(one.other).state is not BreakerState.OPEN:
            assert time.monotonic() < give_up, "the others were not informed"
            time.sleep(0.01)
        assert recorded.event_names().count("resilience.storage.degraded") == 1
        shared.close()


def test_no_step_of_processes_at_the_same_time_is_lost(server: RedisServer) -> None:
    script = f"""
        from otel_resilience import CircuitBreakerConfig
        from otel_resilience.storage import Action, BreakerStep, RedisStorage, StorageError
        storage = RedisStorage({server.url!r}, namespace="crowd")
        config = CircuitBreakerConfig(failure_threshold=1000, monitoring_period=600)
        step = BreakerStep(action=Action.FAIL, config=config, lease_for=6)
        made = 0
        while made < 50:
            try:
                storage.breaker("supplier", step)
                made += 1
            except StorageError:  # the others were faster each time: then nothing was changed
                pass
    """
    workers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)]) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    storage = RedisStorage(server.url, namespace="crowd")
    config = CircuitBreakerConfig(failure_threshold=1000, monitoring_period=600)
    assert storage.breaker("supplier", BreakerStep(action=Action.LOOK, config=config, lease_for=6)).failures == 200
    storage.close()


def test_the_clock_of_the_server_counts(server: RedisServer) -> None:
    storage = RedisStorage(server.url, namespace="clock")
    config = CircuitBreakerConfig(consecutive_failures=1, reset_timeout=5)
    opened = storage.breaker("s", BreakerStep(action=Action.FAIL, config=config, lease_for=6, fraction=0.999))
    assert opened.state is BreakerState.OPEN
    assert 4.9 < opened.open_left <= 5
    assert opened.age == pytest.approx(0, abs=0.01)
    storage.close()


def test_an_unused_key_expires_and_what_cannot_be_read_counts_as_empty(server: RedisServer) -> None:
    storage = RedisStorage(server.url, namespace="spoilt", keep=100)
    key = storage.key("breaker", "supplier")
    for spoilt in (
        b"{ no json",
        b"\xff",
        b"[]",
        b"null",
        b'{"state": "ajar"}',
        b'{"leases": {"a": null}}',
        b'{"width": 6}',
    ):
        server.command("SET", key, spoilt)
        assert look(storage).generation == 0
    assert 99_000 < int(server.command("PTTL", key)) <= 100_000
    assert look(storage).generation == 0
    server.command("PEXPIRE", key, 50_000)
    look(storage)
    assert 99_000 < int(server.command("PTTL", key)) <= 100_000, "a look alone keeps it too"
    storage.close()


@pytest.mark.parametrize("field", ["paused_until", "next_turn"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "99999999999", "soon", "", "-1"])
def test_a_turn_that_someone_else_wrote_stops_no_process(server: RedisServer, field: str, value: str) -> None:
    server.command("FLUSHALL")
    storage = RedisStorage(server.url)
    step = RateStep(limit=10, window=1.0, cost=1, pause=0.0, sender="a")
    server.command("HSET", storage.key("rate", "supplier"), field, value)
    assert storage.rate("supplier", step).wait <= 1.0
    assert 0 < server.command("PTTL", storage.key("rate", "supplier")) < 60_000


@pytest.mark.parametrize("kind", ["rate", "senders"])
def test_turns_of_another_type_are_started_again(server: RedisServer, kind: str) -> None:
    server.command("FLUSHALL")
    storage = RedisStorage(server.url)
    server.command("RPUSH", storage.key(kind, "supplier"), "x")
    view = storage.rate("supplier", RateStep(limit=10, window=1.0, cost=1, pause=0.0, sender="a"))
    assert (view.granted, view.senders) == (True, 1)


def test_a_key_of_another_type_is_an_error_of_the_storage(server: RedisServer) -> None:
    storage = RedisStorage(server.url, namespace="list")
    server.command("LPUSH", storage.key("breaker", "supplier"), "x")
    with pytest.raises(StorageError, match="WRONGTYPE") as raised:
        look(storage)
    assert isinstance(raised.value.__cause__, redis.ResponseError)
    storage.close()


@pytest.mark.parametrize("url", ["http://user:hunter2@somewhere", "redis://:hunter2@host:port", "no url"])
def test_an_unusable_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="not usable") as raised:
        RedisStorage(url)
    assert "hunter2" not in str(raised.value)


def test_a_password_is_not_in_an_error(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="right-one") as server:
        storage = RedisStorage(server.url_with("wrong-password-4711"))
        with pytest.raises(StorageError) as raised:
            look(storage)
        assert "4711" not in str(raised.value)
        storage.close()


@pytest.mark.fault("S8")
@pytest.mark.parametrize(
    "parameters", ["decode_responses=true", "decode_responses=yes&encoding=utf-16", "socket_timeout=0"]
)
def test_parameters_of_the_url_change_neither_answers_nor_time_limits(tmp_path: Path, parameters: str) -> None:
    with RedisServer(tmp_path) as server:
        storage = RedisStorage(f"{server.url}?{parameters}")
        assert storage.pause("a", 30) == 30
        assert 20 < storage.pause("a", 0) <= 30
        assert storage.lost_rounds == 0
        storage.close()


@pytest.mark.parametrize("parameters", ["colour=red", "socket_timeout=soon"])
def test_parameters_that_nobody_knows_are_refused_without_the_url(parameters: str) -> None:
    with pytest.raises(ValueError, match="not usable") as caught:
        RedisStorage(f"redis://:pass-word-1@localhost/0?{parameters}")
    assert "pass-word-1" not in str(caught.value)
