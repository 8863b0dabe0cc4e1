"""``doctor``: what it finds, and what it advises."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from catalog_sync.cli import checks
from catalog_sync.jobs.keys import WORKER_PREFIX
from support.alert_receivers import FakeWebhook, served
from support.cli import API_KEY, Cli, Supplier
from support.redis_server import RedisServer

NAMES = [
    *("settings", "state folder", "disk", "store", "catalogue", "supplier"),
    *("clock", "alerts", "workers", "telemetry", "snapshot"),
]


def statuses(cli: Cli, **changes: str) -> tuple[int, dict[str, str]]:
    result = cli("doctor", "--json", **changes)
    found = result.json["checks"]
    assert all(check["advice"] for check in found if check["status"] != "ok")
    assert result.json["ok"] == (result.code == 0)
    assert ("error" in result.json) == (result.code != 0)
    for check in found:
        assert check["status"] != "fail" or check["message"] in result.json["error"]["message"]
    assert API_KEY not in result.out + result.err
    return result.code, {check["name"]: check["status"] for check in found}


def test_a_healthy_machine(cli: Cli) -> None:
    cli("run")
    assert statuses(cli) == (0, dict.fromkeys(NAMES, "ok"))


def test_before_the_first_run_only_the_snapshot_is_missing(cli: Cli) -> None:
    assert statuses(cli) == (0, {**dict.fromkeys(NAMES, "ok"), "snapshot": "warn"})


@pytest.mark.fault("U9")
@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"ESIM_GO_API_KEY": ""}, "supplier"),
        ({"ESIM_GO_API_KEY": "wrong-key-0815"}, "supplier"),
        ({"ESIM_GO_BASE_URL": "http://127.0.0.1:9/v2.5"}, "supplier"),
        ({"REDIS_URL": "redis://127.0.0.1:9"}, "store"),
        ({"CATALOG_STATE_DIR": "/proc/nowhere"}, "state folder"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "telemetry"),
        ({"CATALOG_JOBS": "workers"}, "workers"),
        ({"ERROR_ALERT_WEBHOOK_URL": "http://127.0.0.1:9/hook"}, "channel webhook"),
        ({"ERROR_ALERT_HEARTBEAT_URL": "http://127.0.0.1:9/beat"}, "heartbeat"),
        ({"ERROR_ALERT_PAGERDUTY_ROUTING_KEY": "R" * 32, "HTTPS_PROXY": "http://127.0.0.1:9"}, "channel pagerduty"),
    ],
)
def test_what_does_not_work_fails(cli: Cli, changes: dict[str, str], failed: str) -> None:
    code, found = statuses(cli, **changes)
    assert code == 1
    other = {"state folder": {"disk"}}.get(failed, set())
    assert {name for name, status in found.items() if status == "fail"} == {failed} | other


def test_a_receiver_is_reached_and_gets_no_message(cli: Cli) -> None:
    with served(FakeWebhook()) as receiver:
        found = statuses(cli, ERROR_ALERT_WEBHOOK_URL=receiver.url, ERROR_ALERT_HEARTBEAT_URL=receiver.url)[1]
        assert receiver.requests == []
    assert (found["channel webhook"], found["heartbeat"]) == ("ok", "ok")


def test_a_worker_that_is_there_is_named(cli: Cli, redis_server: RedisServer) -> None:
    redis_server.command("SET", f"{WORKER_PREFIX}w-1", json.dumps({"name": "w-1"}))
    result = cli("doctor", "--json", CATALOG_JOBS="workers")
    (check,) = (check for check in result.json["checks"] if check["name"] == "workers")
    assert (check["status"], "w-1" in check["message"]) == ("ok", True)


def test_what_is_written_to_redis_is_removed(cli: Cli, redis_server: RedisServer) -> None:
    cli("doctor")
    assert b"doctor" not in redis_server.command("KEYS", "*")


@pytest.mark.fault("U9")
def test_a_redis_that_takes_no_writes_fails(cli: Cli, redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    result = cli("doctor", "--json")
    (check,) = (check for check in result.json["checks"] if check["name"] == "store")
    assert (check["status"], "takes no writes" in check["message"]) == ("fail", True)


@pytest.mark.fault("S11")
def test_a_changed_row_fails_until_the_next_sync(cli: Cli, redis_server: RedisServer) -> None:
    cli("run")
    key = f"{{cat}}:v:{redis_server.command('GET', '{cat}:current').decode()}:bundles"
    name = redis_server.command("HKEYS", key)[0]
    row = json.loads(redis_server.command("HGET", key, name))
    redis_server.command("HSET", key, name, json.dumps({**row, "price": "0.01"}))
    result = cli("doctor", "--json")
    (check,) = (check for check in result.json["checks"] if check["name"] == "catalogue")
    assert (check["status"], "is not as it was published" in check["message"]) == ("fail", True)
    assert cli("show", name.decode(), "--json").json["bundle"]["price"] == row["price"]
    cli("run")
    assert statuses(cli)[1]["catalogue"] == "ok"


class TestFolder:
    @pytest.mark.fault("U9")
    def test_a_full_disk_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        found = checks.state_dir(tmp_path)
        assert (found.status, found.advice) == (
            "fail",
            "make room there, or set CATALOG_STATE_DIR to a folder on another disk",
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("blocks", "inodes", "files", "status"),
        [(10**9, 10**6, 10**7, "ok"), (100, 10**6, 10**7, "warn"), (10**9, 3, 10**7, "warn"), (10**9, 0, 0, "ok")],
    )
    def test_space_and_inodes_are_judged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, inodes: int, files: int, status: str
    ) -> None:
        left = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_favail=inodes, f_files=files)
        monkeypatch.setattr(os, "statvfs", lambda _: left)
        assert checks.disk(tmp_path).status == status


def test_a_full_disk_fails_although_an_empty_file_can_be_made(cli: Cli) -> None:
    result = cli.under(("sh", "-c", 'ulimit -f 8; exec "$@"', "sh"), "doctor", "--json")
    [check] = [check for check in result.json["checks"] if check["name"] == "state folder"]
    assert (check["status"], check["advice"].partition(",")[0]) == ("fail", "make room there")


def test_a_wrong_setting_is_a_failed_check(cli: Cli) -> None:
    assert statuses(cli, CATALOG_PAGE_SIZE="many") == (2, {"settings": "fail"})


def test_an_outage_of_the_supplier_fails_within_its_limit(cli: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    assert statuses(cli)[1]["supplier"] == "fail"


def test_an_eviction_policy_that_loses_the_catalogue_is_told(cli: Cli, redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory", "100mb")
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert statuses(cli)[1]["store"] == "warn"


def test_people_read_what_to_do(cli: Cli) -> None:
    result = cli("doctor", ESIM_GO_API_KEY="")
    assert result.code == 1
    assert "→ set ESIM_GO_API_KEY" in result.out
    assert result.out.rstrip().endswith(" ok, 1 warning, 1 failed")  # the snapshot, before the first run


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Tue, 24 Nov 2026 02:00:00 GMT", "ok"),
        ("Tue, 24 Nov 2026 02:05:00 GMT", "warn"),
        ("Tue, 24 Nov 2026 01:00:00 GMT", "warn"),
        ("yesterday", "warn"),
        (None, "warn"),
    ],
)
def test_the_clock_is_compared_with_the_suppliers(date: str | None, status: str) -> None:
    assert checks.clock(date, now=1795485602.0).status == status


@pytest.mark.parametrize(("skew", "status"), [(0.2, "ok"), (-4.0, "ok"), (3600.0, "warn"), (-90.0, "warn")])
def test_and_with_that_of_redis(skew: float, status: str) -> None:
    found = checks.clock(None, store_skew=skew)
    assert (found.status, "Redis" in found.message) == (status, True)


@pytest.mark.parametrize(
    ("settings", "lacks"),
    [
        ({"maxmemory": "1mb"}, "maxmemory"),
        ({"min-replicas-to-write": "1"}, "min-replicas-to-write"),
    ],
)
def test_a_redis_that_takes_no_writes_is_given_what_it_lacks(
    cli: Cli, redis_server: RedisServer, settings: dict[str, str], lacks: str
) -> None:
    for name, value in settings.items():
        redis_server.command("CONFIG", "SET", name, value)
    try:
        [store] = [check for check in cli("doctor", "--json").json["checks"] if check["name"] == "store"]
    finally:
        for name in settings:
            redis_server.command("CONFIG", "SET", name, "0")
    assert store["status"] == "fail"
    assert lacks in store["advice"]
    assert "reads go on" in store["advice"]


def test_a_misspelt_name_is_to_be_corrected_and_a_wrong_value_replaced(cli: Cli) -> None:
    for changes, advice in (
        ({"CATALOG_STALE_AFTER": "5"}, "correct its name, or unset it"),
        ({"CATALOG_STALE_AFTER_S": "soon"}, "set the variable to an allowed value"),
    ):
        result = cli("doctor", "--json", **changes)
        assert (result.code, [check["advice"] for check in result.json["checks"]]) == (2, [advice])


@pytest.mark.fault("U9")
def test_an_escalation_to_a_channel_that_is_not_set_up_is_a_warning(cli: Cli) -> None:
    with served(FakeWebhook()) as receiver:
        changes = {
            "ERROR_ALERT_WEBHOOK_URL": f"{receiver.url}/hook",
            "ERROR_ALERT_ESCALATION": "after=60 channels=webhook+PagerDuty; returns=2 channels=email",
        }
        result = cli("doctor", "--json", **changes)
    [found] = [check for check in result.json["checks"] if check["name"] == "alerts"]
    assert (result.code, found["status"]) == (0, "warn")
    assert found["message"] == "ERROR_ALERT_ESCALATION goes to pagerduty, email, which is not set up"


@pytest.mark.fault("U9")
def test_silences_that_last_are_shown(cli: Cli) -> None:
    """Nothing else says why there is no message: what they cover becomes no incident."""
    with served(FakeWebhook()) as receiver:
        changes = {
            "ERROR_ALERT_WEBHOOK_URL": f"{receiver.url}/hook",
            "ERROR_ALERT_SILENCES": "kind=sync_failed severity=HIGH; dependency=redis until=2099-01-01T06:00:00+01:00;"
            " kind=lock_lost until=2020-01-01T00:00:00Z",
        }
        result = cli("doctor", "--json", **changes)
    [found] = [check for check in result.json["checks"] if check["name"] == "alerts"]
    assert "; silenced kind=sync_failed severity=HIGH for ever; " in found["message"]
    assert "; silenced dependency=redis until 2099-01-01T05:00:00.000Z; " in found["message"]
    assert "lock_lost" not in found["message"]


@pytest.fixture
def own_redis(tmp_path: Path, supplier: Supplier) -> Iterator[tuple[RedisServer, Cli]]:
    """A server whose rights a test may change."""
    with RedisServer(tmp_path / "redis") as server:
        yield server, Cli(tmp_path / "state", supplier, server.url)


def test_all_that_the_acl_of_redis_forbids_is_named_in_one_line(own_redis: tuple[RedisServer, Cli]) -> None:
    server, cli = own_redis
    server.command("ACL", "SETUSER", "default", "-hget", "-expire", "-script|load", "-set")
    [found] = [each for each in cli("doctor", "--json").json["checks"] if each["name"] == "store"]
    assert found["status"] == "fail"
    assert found["message"] == "the ACL of this user forbids EXPIRE, HGET, SET, SCRIPT LOAD"


@pytest.mark.parametrize("rights", [("-info",), ("-@dangerous",)], ids=" ".join)
def test_a_user_who_may_not_ask_about_the_server_is_served_all_the_same(
    own_redis: tuple[RedisServer, Cli], rights: tuple[str, ...]
) -> None:
    server, cli = own_redis
    server.command("ACL", "SETUSER", "shop", "on", ">pass-word-1", "~*", "allchannels", "+@all", *rights)
    cli.env["REDIS_URL"] = server.url.replace("://", "://shop:pass-word-1@")
    assert cli("run").code == 0
    result = cli("doctor", "--json")
    found = {check["name"]: check for check in result.json["checks"]}
    assert (result.code, found["store"]["status"], found["catalogue"]["status"]) == (0, "warn", "ok")
    assert found["store"]["message"] == "redis, the ACL of this user forbids INFO: version, role and memory are unknown"


def test_whoever_may_not_ask_about_the_server_learns_what_else_is_forbidden(own_redis: tuple[RedisServer, Cli]) -> None:
    server, cli = own_redis
    server.command("ACL", "SETUSER", "default", "-info", "-time", "-hget")
    [found] = [each for each in cli("doctor", "--json").json["checks"] if each["name"] == "store"]
    assert (found["status"], found["message"]) == ("fail", "the ACL of this user forbids INFO, HGET, TIME")


def test_every_command_that_programs_send_is_tried(own_redis: tuple[RedisServer, Cli]) -> None:
    server, cli = own_redis
    server.command("CONFIG", "RESETSTAT")
    for command in ("run", "status", "search", "alerts", "syncs"):
        assert cli(command).code == 0
    with server.client() as client:
        sent = {name.removeprefix("cmdstat_").replace("|", " ").upper() for name in client.info("commandstats")}
    assert {"EVALSHA", "HSET", "EXPIRE"} <= sent
    not_apart = {"HELLO", "PING", "INFO", "CONFIG RESETSTAT", "CLIENT SETINFO", "WATCH"}
    assert sent - {checks._name(line) for line in checks.NEEDED} <= not_apart
    assert server.command("KEYS", "*doctor*") == []


def test_a_command_that_is_forbidden_within_a_script_is_said_to_be(own_redis: tuple[RedisServer, Cli]) -> None:
    server, cli = own_redis
    server.command("ACL", "SETUSER", "default", "-expire")
    error = cli("run", "--json").json["error"]
    assert error["message"].endswith("NOPERM, the ACL of this user forbids a command, which ACL LOG names)") or (
        "forbids EXPIRE" in error["message"]  # newer servers name it
    )
    assert error["type"] == "redis_noperm"
