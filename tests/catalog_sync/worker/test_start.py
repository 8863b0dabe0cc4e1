"""A worker that cannot work ends with 2 and says which variable is wrong; one that works shows it, and only then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.models import Outcome, SyncRequest
from catalog_sync.worker.celery_app import configure
from support.redis_server import RedisServer
from support.worker_world import GIVEN_UP_AFTER, WorkerProcess, WorkerWorld, process_environment

MakeWorld = Callable[..., WorkerWorld]

LONG_STEPS = {"name": "slow", "rules": [{"fault": "latency", "delay_s": 25.0, "when": {"endpoint": "catalogue"}}]}
STALE = 10.0
"""Seconds: twice the time between two signs of an idle worker."""
WORKER_WHOSE_PROCESSES_DIE = """
import os, signal, sys
from celery import signals
from catalog_sync.worker.__main__ import main

def die(**_):
    try:
        deaths = os.open({deaths!r}, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    os.write(deaths, b"x")
    os.kill(os.getpid(), signal.SIGKILL)

signals.worker_process_init.connect(die, weak=False)
sys.exit(main())
"""
"""While the file is there every process of the pool is killed as it starts, and leaves a letter in it."""


def run(program: str, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        env={**process_environment(), **env},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER,
        check=False,
    )


UNUSABLE = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_PROPAGATORS", "b3"),
    ("REDIS_URL", "redis://127.0.0.1:{port}/77"),
    ("REDIS_URL", ""),
    ("ESIM_GO_API_KEY", ""),
    ("CATALOG_STATE_DIR", "/dev/null/state"),
]


@pytest.mark.fault("W1")
@pytest.mark.parametrize(("name", "value"), UNUSABLE)
def test_a_worker_that_cannot_work_ends_with_2_and_one_line_that_names_the_variable(
    name: str, value: str, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    health = tmp_path / "alive"
    env = {**world.env, name: value.format(port=world.redis.port)}
    ended = run("catalog_sync.worker", {n: v for n, v in env.items() if v}, "--health-file", str(health))
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert name in ended.stderr
    assert "4711" not in ended.stderr
    assert not health.exists()


@pytest.mark.fault("W1")
def test_a_wrong_password_ends_a_worker_that_starts(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    with RedisServer(tmp_path / "guarded", password="right-0815") as guarded:
        for password in ("wrong-4711", None):
            ended = run("catalog_sync.worker", {**world.env, "REDIS_URL": guarded.url_with(password)})
            assert ended.returncode == 2, ended.stderr
            assert len(ended.stderr.splitlines()) == 1, ended.stderr
            assert "REDIS_URL" in ended.stderr
            assert "4711" not in ended.stderr


@pytest.mark.fault("W1")
def test_what_only_a_process_of_the_pool_finds_out_ends_the_worker_with_2_too(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    """The parent sets up no telemetry; and Celery swallows what the start of a pool's process raises."""
    world = make_world(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "name = 'OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES'\n"
        "os.register_at_fork(after_in_child=lambda: os.environ.update({name: 'NONSENSE'}))\n"
    )
    health = tmp_path / "alive"
    env = {**world.env, "PYTHONPATH": str(tmp_path)}
    ended = run("catalog_sync.worker", env, "--concurrency", "3", "--health-file", str(health))
    assert ended.returncode == 2, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("catalog-worker:")]
    assert set(lines) == {lines[0]}
    assert "RETRYABLE_ERROR_CODES" in lines[0]
    assert not health.exists()


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_the_broker_is_that_of_redis_url_whatever_celery_reads_itself(
    name: str, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    monkeypatch.setenv(name, "redis://elsewhere:1/0")
    app = configure(world.settings)
    ports = {app.connection_for_write().port, app.connection_for_read().port}
    assert ports == {world.redis.port}
    assert name in caplog.text


@pytest.mark.fault("W1")
def test_beside_a_worker_that_cannot_start_a_sync_ends(make_world: MakeWorld) -> None:
    world = make_world()

    async def sync() -> None:
        async with world.opened():
            broken = world.start_worker(OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318")
            world.start_worker()
            job = await world.jobs.submit(SyncRequest())
            assert (await world.ended(job.id)).outcome is Outcome.COMPLETE
            assert await asyncio.to_thread(broken.process.wait, GIVEN_UP_AFTER) == 2

    asyncio.run(sync())


async def touched(health: Path, *, within: float = GIVEN_UP_AFTER) -> None:
    """Return once the file has been touched after now."""
    began, give_up = time.time(), time.monotonic() + within
    while not health.exists() or health.stat().st_mtime < began:
        assert time.monotonic() < give_up, "the health file is not touched"
        await asyncio.sleep(0.1)


async def stays_untouched(health: Path) -> bool:
    await asyncio.sleep(3.0)  # what was under way
    seen = health.stat().st_mtime
    await asyncio.sleep(STALE)
    return health.stat().st_mtime == seen


async def died(deaths: Path, times: int) -> None:
    """Return once that many processes of the pool have died."""
    async with asyncio.timeout(GIVEN_UP_AFTER):
        while deaths.stat().st_size < times:
            await asyncio.sleep(0.1)


def start(world: WorkerWorld, health: Path, **changes: Any) -> WorkerProcess:
    return world.start_worker(health_file=health, **changes)


@pytest.mark.fault("W1")
async def test_an_idle_worker_is_well_while_a_process_of_its_pool_can_reach_redis(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    health = tmp_path / "alive"
    async with world.opened():
        worker = start(world, health)
        await touched(health)
        [child] = worker.children
        os.kill(child, signal.SIGSTOP)
        try:
            assert await stays_untouched(health), "the parent lives, and nothing that could do a step"
        finally:
            os.kill(child, signal.SIGCONT)
        await touched(health)
        world.redis.pause()
        try:
            assert await stays_untouched(health), "no step can be done without Redis"
        finally:
            world.redis.resume()
        await touched(health)


async def test_a_worker_is_well_while_its_steps_go_on(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(CATALOG_ATTEMPT_TIMEOUT_MS="30000")
    health = tmp_path / "alive"
    async with world.opened():
        start(world, health)
        await touched(health)
        world.supplier.play(LONG_STEPS)
        job = await world.jobs.submit(SyncRequest())
        begun = await world.until(job.id, lambda seen: any(group.status == "running" for group in seen.groups))
        for _ in range(3):
            await touched(health)
        still = await world.jobs.get(job.id)
        assert [group.status for group in still.groups] == [group.status for group in begun.groups], "during one step"
        world.supplier.reset()


@pytest.mark.fault("W1")
async def test_a_worker_whose_processes_die_again_and_again_is_not_well(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    health, deaths = tmp_path / "alive", tmp_path / "deaths"
    code = WORKER_WHOSE_PROCESSES_DIE.format(deaths=str(deaths))
    async with world.opened():
        worker = world.start_worker(health_file=health, program=("-c", code))
        await touched(health)
        deaths.touch()
        for child in worker.children:
            os.kill(child, signal.SIGKILL)
        await died(deaths, 1)
        assert await stays_untouched(health)
        await died(deaths, 3)
        seen = health.stat().st_mtime
        await died(deaths, 5)
        assert health.stat().st_mtime == seen
        deaths.unlink()
        await touched(health)


@pytest.mark.fault("W1")
async def test_a_worker_whose_consumer_is_stopped_is_not_well(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    health = tmp_path / "alive"
    async with world.opened():
        worker = start(world, health)
        await touched(health)
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            assert await stays_untouched(health)
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)


@pytest.mark.fault("W2")
def test_a_worker_that_ends_unasked_does_not_end_with_0(make_world: MakeWorld, redis_server: RedisServer) -> None:
    """Celery ends with 0 where its loop stops by itself."""
    world = make_world()
    code = (
        "import sys\n"
        "from celery.worker.consumer import Consumer\n"
        "from celery.exceptions import WorkerTerminate\n"
        "def start(self): raise WorkerTerminate(0)\n"
        "Consumer.start = start\n"
        "from catalog_sync.worker.__main__ import main\n"
        "sys.exit(main([]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**process_environment(), **world.env},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr


@pytest.mark.fault("W1")
def test_the_schedulers_health_is_that_of_its_messages(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    health = tmp_path / "alive"
    log = (tmp_path / "beat.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "catalog_sync.worker.beat", "--health-file", str(health)],
        env={**process_environment(), **world.env},
        stdout=log,
        stderr=log,
    )
    try:
        asyncio.run(touched(health))
        world.redis.kill()
        try:
            assert asyncio.run(stays_untouched(health))
        finally:
            world.redis.start()
        asyncio.run(touched(health))
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(GIVEN_UP_AFTER) == 0
        log.close()


PROGRAMS = (
    ("catalog_sync.worker.beat",),
    ("catalog_sync.api.command",),
    ("catalog_sync.up",),
    ("esim_go_simulator",),
    ("catalog_sync", "simulate"),
    ("catalog_sync", "run"),
    ("catalog_sync", "search"),
    ("catalog_sync", "status"),
    ("catalog_sync", "alerts"),
    ("catalog_sync", "doctor"),
    ("catalog_sync", "demo", "--fast"),
)
NEVER_ALLOWED = (
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_PROPAGATORS", "b3"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
)


@pytest.mark.fault("W1")
@pytest.mark.parametrize(
    ("program", "variable"),
    [(program, NEVER_ALLOWED[number % len(NEVER_ALLOWED)]) for number, program in enumerate(PROGRAMS)],
    ids=lambda value: " ".join(value),
)
def test_every_program_ends_with_2_and_names_a_variable_that_is_not_allowed(
    program: tuple[str, ...], variable: tuple[str, str], tmp_path: Path
) -> None:
    name, value = variable
    env = {
        "CATALOG_STATE_DIR": str(tmp_path),
        "ESIM_GO_API_KEY": "key-of-the-tests",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        name: value,
    }
    ended = run(program[0], env, *program[1:])
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert f"{name}='{value}' is not allowed" in ended.stderr


@pytest.mark.fault("W1")
@pytest.mark.parametrize(
    "program", [program for program in PROGRAMS if program[-1] not in {"simulate", "--fast", "esim_go_simulator"}]
)
def test_every_program_of_the_catalogue_refuses_an_option_of_redis_that_not_all_clients_take(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    env = {
        "CATALOG_STATE_DIR": str(tmp_path),
        "ESIM_GO_API_KEY": "key-of-the-tests",
        "REDIS_URL": "redis://127.0.0.1:9/0?decode_responses=true",
    }
    ended = run(program[0], env, *program[1:])
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "REDIS_URL='redis://127.0.0.1:9/0?***' is not allowed" in ended.stderr


@pytest.mark.fault("W1")
@pytest.mark.parametrize("program", ["catalog_sync.up", "catalog_sync.api.command"])
def test_what_does_syncs_does_not_start_without_a_state_folder(program: str) -> None:
    ended = run(program, {"CATALOG_STATE_DIR": "/dev/null/state"})
    assert ended.returncode == 2, ended.stderr
    assert "CATALOG_STATE_DIR" in ended.stderr
