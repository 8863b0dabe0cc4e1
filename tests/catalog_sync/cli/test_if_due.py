"""``run --if-due``, and what outlives a run: the earliest next start, the open circuit, the spent budget."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from support.cli import Cli, Supplier
from support.redis_server import RedisServer, free_port

OUTAGE_SETTINGS = {"ERROR_CIRCUIT_BREAKER_THRESHOLD": "3", "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": "1200000"}
ASKS_FOR_TIME = {"rules": [{"fault": "status", "status": 429, "retry_after": 700, "when": {"endpoint": "groups"}}]}


@pytest.fixture(params=["redis", "disk"])
def any_cli(request: pytest.FixtureRequest, tmp_path: Path, supplier: Supplier, redis_server: RedisServer) -> Cli:
    """With a Redis of its own and without one: then the disk remembers."""
    return Cli(tmp_path / "state", supplier, redis_server.url if request.param == "redis" else None)


def test_the_first_run_is_due_and_the_next_is_not(any_cli: Cli, supplier: Supplier) -> None:
    assert any_cli("run", "--if-due", "--json").json["outcome"] == "COMPLETE"
    asked = supplier.requests()
    result = any_cli("run", "--if-due", "--json")
    assert result.code == 0
    assert result.json.keys() == {"outcome", "due", "reason", "next_due_at"}
    assert (result.json["outcome"], result.json["due"], result.json["reason"]) == (None, False, "young")
    assert datetime.datetime.fromisoformat(result.json["next_due_at"]) > datetime.datetime.now(datetime.UTC)
    assert supplier.requests() == asked
    assert any_cli("run", "--json").json["outcome"] == "COMPLETE"  # without --if-due a person decides
    assert any_cli("run", "--if-due", "--json", CATALOG_SYNC_EVERY_S="0.001").json["outcome"] == "COMPLETE"


def test_people_read_why_nothing_was_done(cli: Cli) -> None:
    cli("run")
    result = cli("run", "--if-due")
    assert result.code == 0
    assert result.out.startswith("not due: the catalogue is recent enough; due at 20")


@pytest.mark.fault("S3")
@pytest.mark.parametrize(
    "damage",
    [
        ("HSET", "{{cat}}:v:{version}:meta", "json", "{{ no json"),
        ("DEL", "{{cat}}:v:{version}:countries"),
        ("SET", "{{cat}}:current", "../x"),
        ("SET", "{{cat}}:v:{version}:groups", "no hash"),
    ],
    ids=["meta", "index lost", "pointer", "another type"],
)
def test_a_damaged_catalogue_is_due_and_mended(cli: Cli, redis_server: RedisServer, damage: tuple[str, ...]) -> None:
    version = cli("run", "--json").json["version"]
    redis_server.command(*(part.format(version=version) for part in damage))
    assert cli("run", "--if-due", "--json").json["outcome"] == "COMPLETE"
    assert cli("run", "--if-due", "--json").json["reason"] == "young"


def test_a_redis_that_is_gone_is_not_due_and_no_success(cli: Cli, supplier: Supplier) -> None:
    result = cli("run", "--if-due", "--json", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert result.code == 1
    assert (result.json["due"], result.json["reason"]) == (False, "unreadable")
    assert supplier.requests() == 0


def test_a_hint_beyond_the_deadline_ends_the_run_and_moves_the_next_start(any_cli: Cli, supplier: Supplier) -> None:
    supplier.play(ASKS_FOR_TIME)
    short = {"CATALOG_SYNC_DEADLINE_MS": "60000", "CATALOG_SUPPLIER_RATE_PER_S": "200"}  # one that all processes share
    report = any_cli("run", "--json", **short).json
    assert report["outcome"] == "FAILED"
    assert report["duration_s"] < 10
    assert report["error"]["retry_after_s"] == pytest.approx(700, abs=2)
    supplier.reset()
    result = any_cli("run", "--if-due", "--json", **short)
    assert result.code == 0
    assert (result.json["due"], result.json["reason"]) == (False, "paused")
    left = datetime.datetime.fromisoformat(result.json["next_due_at"]) - datetime.datetime.now(datetime.UTC)
    assert 600 < left.total_seconds() <= 700
    assert supplier.requests() == 0
    assert any_cli("status", "--json").json["paused_for_s"] == pytest.approx(690, abs=60)
    assert any_cli("run", "--json", **short).json["outcome"] == "COMPLETE", "a person decided"


def test_a_complete_sync_ends_the_pause_that_was_requested_before_it(any_cli: Cli, supplier: Supplier) -> None:
    """Whoever ran it: the supplier serves again. A pause that is requested after it holds."""
    always = {"CATALOG_SYNC_DEADLINE_MS": "60000", "CATALOG_SYNC_EVERY_S": "0.001"}
    supplier.play(ASKS_FOR_TIME)
    any_cli("run", "--json", **always)
    supplier.reset()
    assert any_cli("run", "--if-due", "--json", **always).json["reason"] == "paused"
    group = any_cli("run", "--group", "Standard - Fixed", "--json", **always).json
    assert (group["outcome"], group["kind"]) == ("COMPLETE", "full"), "nothing is published yet, so all is fetched"

    assert any_cli("status", "--json").json["paused_for_s"] == 0
    assert any_cli("run", "--if-due", "--json", **always).json["outcome"] == "COMPLETE"

    supplier.play(ASKS_FOR_TIME)
    any_cli("run", "--json", **always)
    supplier.reset()
    assert any_cli("run", "--group", "Standard - Fixed", "--json", **always).json["outcome"] == "COMPLETE"
    assert any_cli("run", "--if-due", "--json", **always).json["reason"] == "paused", "a group is no whole catalogue"
    assert any_cli("status", "--json").json["paused_for_s"] > 600


def test_a_complete_sync_of_another_machine_ends_the_pause_here(
    tmp_path: Path, supplier: Supplier, redis_server: RedisServer
) -> None:
    here, there = (Cli(tmp_path / name, supplier, redis_server.url) for name in ("here", "there"))
    always = {"CATALOG_SYNC_DEADLINE_MS": "60000", "CATALOG_SYNC_EVERY_S": "0.001"}
    supplier.play(ASKS_FOR_TIME)
    here("run", "--json", **always)
    supplier.reset()
    assert there("run", "--if-due", "--json", **always).json["reason"] == "paused"
    assert there("run", "--json", **always).json["outcome"] == "COMPLETE"

    assert here("status", "--json").json["paused_for_s"] == 0
    assert here("run", "--if-due", "--json", **always).json["outcome"] == "COMPLETE"


def test_a_part_of_the_catalogue_has_no_due_date(cli: Cli) -> None:
    result = cli("run", "--if-due", "--group", "x", "--json")
    assert result.code == 2
    assert "--if-due" in result.json["error"]["message"]


def test_an_open_circuit_and_a_spent_budget_outlive_the_run(any_cli: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    first = any_cli("run", "--json", **OUTAGE_SETTINGS).json
    assert first["outcome"] == "FAILED"
    asked = supplier.requests()
    assert asked > 0
    for _ in range(2):
        report = any_cli("run", "--json", **OUTAGE_SETTINGS).json
        assert (report["outcome"], report["error"]["type"], report["attempts"]) == ("FAILED", "circuit_open", 0)
    assert supplier.requests() == asked
    status = any_cli("status", "--json", **OUTAGE_SETTINGS).json
    breaker = {entry["dependency"]: entry for entry in status["breakers"]}["esim-go"]
    assert breaker["state"] == "OPEN"
    assert 60 < breaker["retry_after_s"] <= 1200
    budget = {entry["dependency"]: entry for entry in status["budgets"]}["esim-go"]
    assert budget["tokens"] < budget["capacity"]


def test_another_environment_of_the_supplier_has_a_circuit_of_its_own(cli: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    cli("run", "--json", **OUTAGE_SETTINGS)
    supplier.reset()
    other = supplier.base_url.replace("127.0.0.1", "localhost")
    assert cli("run", "--json", ESIM_GO_BASE_URL=other, **OUTAGE_SETTINGS).json["outcome"] == "COMPLETE"


def test_a_damaged_file_of_state_is_set_aside_and_the_run_goes_on(
    tmp_path: Path, supplier: Supplier, redis_server: RedisServer
) -> None:
    cli = Cli(tmp_path / "state", supplier, None)
    cli("run", "--json")
    (file,) = (tmp_path / "state" / "protection").glob("*.json")
    file.write_text("{", encoding="utf-8")
    result = cli("run", "--json")
    assert result.json["outcome"] == "COMPLETE"
    warnings = [line for line in result.logs if line.get("event") == "resilience.storage.damaged"]
    assert len(warnings) == 1
    assert file.with_suffix(".damaged").read_text("utf-8") == "{"
    assert json.loads(file.read_text("utf-8"))["format"] == 1
