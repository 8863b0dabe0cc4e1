"""No command makes a person wait long for a Redis that refuses connections or does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_sync import composition
from catalog_sync.settings.settings import Settings
from otel_resilience.storage import SharedState
from support.cli import Cli
from support.error_rows import closed_port, silent_port
from support.redis_server import RedisServer
from support.settings import make_settings
from support.timing import quickest, seconds_of

COMMANDS = {
    ("status",): 0,
    ("search", "--limit", "1"): 6,
    ("trace", "4bf92f3577b34da6a3ce929d0e0e4736"): 1,
    ("run",): 5,
    ("run", "--if-due"): 1,
    ("doctor",): 1,
}
"""With their exit codes where nothing was ever published."""
WITHIN = 10.0
"""Seconds, with room for a process that starts on a busy machine: unbounded, the waits alone take 15."""


@pytest.fixture(scope="module", params=[silent_port, closed_port], ids=["silent", "refused"])
def away(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where no Redis answers."""
    with request.param() as port:
        yield port


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.fault("F40")
def test_a_command_says_soon_which_redis_does_not_answer(cli: Cli, away: int, command: tuple[str, ...]) -> None:
    said = "not everything could be read" if command[0] == "trace" else f"Redis does not answer at 127.0.0.1:{away}"

    def ask() -> None:
        result = cli(*command, REDIS_URL=f"redis://127.0.0.1:{away}/0")
        assert result.code == COMMANDS[command]
        assert said in " ".join((result.out + result.err).split())

    assert quickest(lambda: seconds_of(ask), WITHIN) <= WITHIN


def test_only_the_redis_that_was_just_silent_gets_less_time(monkeypatch: pytest.MonkeyPatch, away: int) -> None:
    monkeypatch.setattr(composition, "_silent", False)
    given = []
    for environment in ({}, {"REDIS_URL": f"redis://127.0.0.1:{away}/0"}, {}):
        composition.check_redis(Settings.from_env(environment))
        given.append(composition.first_answer())

    assert given == [None, composition.FIRST_ANSWER, None]


def test_a_redis_that_was_silent_at_the_start_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, away: int, redis_server: RedisServer, tmp_path: Path
) -> None:
    """By the first question to the store, and not for the shared state before it."""
    monkeypatch.setattr(composition, "_silent", False)
    waited: list[float] = []
    monkeypatch.setattr(SharedState, "ready", lambda _, seconds: waited.append(seconds))
    for url, waits in ((f"redis://127.0.0.1:{away}/0", []), (redis_server.url, [composition.FIRST_CONTACT])):
        settings = make_settings("http://127.0.0.1:9", tmp_path, redis_url=url)
        composition.check_redis(settings)
        composition.Policies.of(settings).close()
        assert waited == waits
