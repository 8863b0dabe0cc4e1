"""``doctor``: what it finds, and what it advises."""

from __future__ import annotations

import pytest

from catalog_sync.cli import checks
from support.cli import API_KEY, Cli, Supplier
from support.redis_server import RedisServer

NAMES = ["settings", "state folder", "store", "supplier", "clock", "alerts", "telemetry", "snapshot"]


def statuses(cli: Cli, **changes: str) -> tuple[int, dict[str, str]]:
    result = cli("doctor", "--json", **changes)
    found = result.json["checks"]
    assert all(check["advice"] for check in found if check["status"] != "ok")
    assert result.json["ok"] == (result.code == 0)
    assert API_KEY not in result.out + result.err
    return result.code, {check["name"]: check["status"] for check in found}


def test_a_healthy_machine(cli: Cli) -> None:
    cli("run")
    assert statuses(cli) == (0, dict.fromkeys(NAMES, "ok"))


def test_before_the_first_run_only_the_snapshot_is_missing(cli: Cli) -> None:
    assert statuses(cli) == (0, {**dict.fromkeys(NAMES, "ok"), "snapshot": "warn"})


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"ESIM_GO_API_KEY": ""}, "supplier"),
        ({"ESIM_GO_API_KEY": "wrong-key-0815"}, "supplier"),
        ({"ESIM_GO_BASE_URL": "http://127.0.0.1:9/v2.5"}, "supplier"),
        ({"REDIS_URL": "redis://127.0.0.1:9"}, "store"),
        ({"CATALOG_STATE_DIR": "/proc/nowhere"}, "state folder"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "telemetry"),
    ],
)
def test_what_does_not_work_fails(cli: Cli, changes: dict[str, str], failed: str) -> None:
    code, found = statuses(cli, **changes)
    assert code == 1
    assert [name for name, status in found.items() if status == "fail"] == [failed]


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
