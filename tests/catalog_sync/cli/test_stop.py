"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from catalog_sync.terminal import signals
from support.cli import Cli, Supplier, wait_until
from support.redis_server import RedisServer
from support.timing import quickest

LOCK = "{cat}:lock"
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
ANY = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@ANY
@pytest.mark.fault("F52")
def test_a_stopped_run_frees_the_lock_and_says_so(
    cli: Cli, supplier: Supplier, redis_server: RedisServer, number: signal.Signals
) -> None:
    good = cli("run", "--json").json
    supplier.reset()
    supplier.play("slow")
    running = cli.start("run", "--json")
    wait_until(lambda: supplier.requests() >= 5)
    result, seconds = running.stop(number)
    assert result.code == 128 + number
    assert seconds < 5
    assert not redis_server.command("EXISTS", LOCK)
    assert f"stopped by {number.name}; the lock was released" in result.err
    report = result.json
    assert (report["outcome"], report["error"]["type"]) == ("FAILED", "cancelled")
    assert report["version"] == good["version"]
    assert report["attempts"] > 0
    assert cli("status", "--json").json["last_sync"] == report


@pytest.mark.fault("F52")
def test_a_terminal_that_is_closed_stops_it_too(cli: Cli, supplier: Supplier, redis_server: RedisServer) -> None:
    supplier.play("slow")
    ours, its = pty.openpty()
    # A session of its own, whose terminal is the first that it opens.
    opens_it = "import os, sys; os.open(sys.argv[1], 2); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    command = [sys.executable, "-c", opens_it, os.ttyname(its), "-m", "catalog_sync", "run"]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **cli.env}, start_new_session=True
    ) as running:
        os.close(its)
        reader = threading.Thread(target=_read_all, args=(ours,), daemon=True)
        reader.start()
        wait_until(lambda: supplier.requests() >= 5)
        os.close(ours)
        assert running.wait(60) > 0, "it ended by itself, though it could not print why"
    assert not redis_server.command("EXISTS", LOCK)


def _read_all(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_nohup_keeps_it_from_being_stopped(cli: Cli, supplier: Supplier) -> None:
    supplier.play("slow")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; what is started inherits it
    try:
        running = cli.start("run", "--json")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: supplier.requests() >= 5)
    running.process.send_signal(signal.SIGHUP)
    supplier.play("calm")
    assert running.result().json["outcome"] == "COMPLETE"


def test_people_read_it_too(cli: Cli, supplier: Supplier) -> None:
    supplier.play("hang")
    running = cli.start("run")
    wait_until(lambda: supplier.requests() >= 1)
    result, _ = running.stop(signal.SIGINT)
    assert result.code == 130
    assert "stopped by SIGINT; the lock was released" in result.out


@BOTH
def test_it_ends_in_time_also_when_redis_hangs(
    cli: Cli, supplier: Supplier, redis_server: RedisServer, number: signal.Signals
) -> None:
    def ending() -> float:
        supplier.reset()
        supplier.play("slow")
        running = cli.start("run", "--force", "--json")
        wait_until(lambda: supplier.requests() >= 2)
        redis_server.pause()
        result, seconds = running.stop(number)
        redis_server.resume()
        redis_server.command("DEL", LOCK)
        assert result.code == 128 + number
        assert result.json["error"]["type"] == "cancelled"
        assert "the lock was released" not in result.err
        return seconds

    good = signals.STOP_WITHIN + 0.5
    assert quickest(ending, good) <= good


def test_a_second_ctrl_c_ends_it_at_once(cli: Cli, supplier: Supplier, redis_server: RedisServer) -> None:
    def ending() -> float:
        supplier.reset()
        supplier.play("slow")
        running = cli.start("run", "--force")
        wait_until(lambda: supplier.requests() >= 2)
        redis_server.pause()
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.process.poll() is None
        result, seconds = running.stop(signal.SIGINT)
        redis_server.resume()
        redis_server.command("DEL", LOCK)
        assert result.code == 130
        return seconds

    assert quickest(ending, 1.0) < 1.0


@pytest.mark.slow
def test_the_lock_is_free_also_when_the_signal_comes_as_it_is_taken(
    cli: Cli, supplier: Supplier, redis_server: RedisServer
) -> None:
    supplier.play("slow")
    for _ in range(4):
        running = cli.start("run", "--json")
        with redis_server.client() as client:
            while not client.exists(LOCK):
                pass
        result, seconds = running.stop(signal.SIGTERM)
        assert result.code == 143
        assert seconds < 4
        assert not redis_server.command("EXISTS", LOCK)


@pytest.mark.parametrize("after", [0.1, 0.15, 0.2, 0.3, 0.45, 0.6])
def test_it_may_come_at_any_moment(cli: Cli, supplier: Supplier, after: float) -> None:
    supplier.play("slow")
    running = cli.start("run", "--json")
    time.sleep(after)
    result, seconds = running.stop(signal.SIGTERM)
    assert seconds < 5
    # Before the handlers are installed the signal ends the process as it ends any other.
    if result.code != -signal.SIGTERM:
        assert result.code == 143
        assert (result.json["outcome"], result.json["error"]["type"]) == ("FAILED", "cancelled")
        assert "Traceback" not in result.err


def test_it_ends_in_time_also_with_a_collector_that_does_not_answer(
    cli: Cli, supplier: Supplier, redis_server: RedisServer
) -> None:
    supplier.play("hang")
    running = cli.start("run", "--json", OTEL_EXPORTER_OTLP_ENDPOINT="http://10.255.255.1:4318")
    wait_until(lambda: supplier.requests() >= 1)
    result, seconds = running.stop(signal.SIGTERM)
    assert result.code == 143
    assert seconds < 5
    assert result.json["error"]["type"] == "cancelled"
    assert not redis_server.command("EXISTS", LOCK)


@pytest.mark.fault("F51")
def test_the_next_run_starts_clean_after_sigkill(cli: Cli, supplier: Supplier, redis_server: RedisServer) -> None:
    good = cli("run", "--json").json
    supplier.play("slow")
    supplier.reset()
    supplier.play("slow")
    running = cli.start("run", "--json")
    wait_until(lambda: supplier.requests() >= 3)
    assert running.stop(signal.SIGKILL)[0].code == -signal.SIGKILL
    supplier.play("calm")
    assert cli("search", "--json").json["version"] == good["version"]
    assert cli("status", "--json").json["lock"]["state"] == "held"
    redis_server.command("DEL", LOCK)  # or wait until it expires
    assert cli("run", "--json").json["outcome"] == "COMPLETE"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_that_hangs_says_that_it_was_stopped_before_it_is_ended(as_json: bool) -> None:
    """Also while it is still being loaded, when it knows of no result."""
    code = (
        "import sys, time; from catalog_sync.cli import main; from catalog_sync.terminal import arguments, signals\n"
        "signals.STOP_WITHIN = 0.1\n"
        "def hang(answer, signals):\n    print('hangs', file=sys.stderr, flush=True)\n    while True: time.sleep(1)\n"
        "arguments.parse = lambda *_: hang\n"
        f"sys.exit(main.main({['status', '--json'][: 1 + as_json]}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "hangs\n"
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 143
    assert err == "catalog-sync: stopped by SIGTERM\n"
    assert ("cancelled" in out) == as_json


def test_last_words_that_hang_delay_the_end_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(signals, "FINAL_OUTPUT_WITHIN", 0.01)
    monkeypatch.setattr("os._exit", ended.append)
    stop = signals.StopSignals()
    silence = threading.Event()
    stop.on_forced_exit = silence.wait
    stop._end()
    silence.set()
    assert ended == [143]
