"""``search``, ``show`` and ``status``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli import Cli, Supplier
from support.redis_server import RedisServer

BUNDLE_FIELDS = {
    "name", "description", "groups", "countries", "region", "data_mb", "unlimited", "duration_days", "price",
    "currency", "speeds", "stale",
}  # fmt: skip
ANSWER_FIELDS = {"source", "as_of", "stale", "version", "total", "bundles"}


@pytest.fixture
def synced(cli: Cli) -> Cli:
    assert cli("run").code == 0
    return cli


def test_search_answers_with_bundles_and_their_origin(synced: Cli) -> None:
    answer = synced("search", "--json").json
    assert answer.keys() == ANSWER_FIELDS
    assert (answer["source"], answer["stale"], answer["total"]) == ("fresh", False, 300)
    assert len(answer["bundles"]) == 50
    assert all(bundle.keys() == BUNDLE_FIELDS for bundle in answer["bundles"])


def test_search_takes_all_conditions_together(synced: Cli) -> None:
    every = synced("search", "--json", "--limit", "0").json["bundles"]
    assert len(every) == 300
    sample = every[0]
    options = {
        "--country": sample["countries"][0].lower(),
        "--group": sample["groups"][0],
        "--region": sample["region"],
        "--min-days": str(sample["duration_days"]),
        "--max-days": str(sample["duration_days"]),
        "--text": sample["name"][:8],
    }
    answer = synced("search", "--json", *(word for option in options.items() for word in option)).json
    assert sample in answer["bundles"]
    assert answer["total"] < 300


def test_search_pages(synced: Cli) -> None:
    every = synced("search", "--json", "--limit", "0").json["bundles"]
    page = synced("search", "--json", "--limit", "7", "--offset", "20").json
    assert page["bundles"] == every[20:27]
    assert page["total"] == 300


def test_nothing_found_is_an_answer(synced: Cli) -> None:
    result = synced("search", "--json", "--country", "ZZ")
    assert result.code == 0
    assert (result.json["total"], result.json["bundles"]) == (0, [])
    assert "none of 0" in synced("search", "--country", "ZZ").out


@pytest.mark.parametrize(
    ("option", "value", "nearest"),
    [
        ("--country", "Portugal", "'Portugal' is not a country code; nearest: PT (Portugal)"),
        ("--country", "Portgual", "nearest: PT (Portugal)"),
        ("--group", "Standard Fixd", "there is no group 'Standard Fixd'; nearest: 'Standard - Fixed'"),
    ],
)
def test_a_misspelt_group_or_country_does_not_look_like_no_bundles(
    synced: Cli, option: str, value: str, nearest: str
) -> None:
    for form in ((), ("--json",)):
        result = synced("search", option, value, *form)
        assert result.code == 0
        assert f"{nearest}" in result.err
        assert result.err.startswith("catalog-sync: ")


def test_a_country_without_bundles_is_not_a_mistake(synced: Cli) -> None:
    assert synced("search", "--country", "BV").err == ""
    assert synced("search", "--group", "standardfixed", "--text", "no such text").err == ""


def test_people_get_a_table_of_plain_text_in_a_pipe(synced: Cli) -> None:
    result = synced("search", "--limit", "3")
    assert result.code == 0
    assert "1 to 3 of 300" in result.out
    assert "\x1b" not in result.out
    assert max(map(len, result.out.splitlines())) <= 100


def test_a_reader_that_leaves_early_ends_the_command_quietly(synced: Cli) -> None:
    running = synced.start("search", "--limit", "0")
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.process.stderr is not None
    err = running.process.stderr.read()
    assert running.process.wait(60) == 141
    running.process.stderr.close()
    assert not [line for line in err.splitlines() if not line.startswith("{")]


def test_show_one_bundle(synced: Cli) -> None:
    bundle = synced("search", "--json", "--limit", "1").json["bundles"][0]
    shown = synced("show", bundle["name"], "--json")
    assert shown.code == 0
    assert shown.json.keys() >= {"source", "as_of", "stale", "bundle"}
    assert shown.json["bundle"] == bundle
    assert bundle["name"] in synced("show", bundle["name"]).out


def test_no_such_bundle_exits_1(synced: Cli) -> None:
    result = synced("show", "esim_nothing", "--json")
    assert result.code == 1
    assert result.json["error"]["type"] == "bundle_not_found"


@pytest.mark.parametrize("command", [("search",), ("show", "x")])
def test_no_catalogue_exits_6(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "--json")
    assert result.code == 6
    assert result.json["error"]["type"] == "catalog_unavailable"
    assert len([line for line in cli(*command).err.splitlines() if not line.startswith("{")]) == 1


def test_without_redis_the_snapshot_answers(synced: Cli, redis_server: RedisServer) -> None:
    before = synced("search", "--json", "--country", "FR").json
    redis_server.kill()
    answer = synced("search", "--json", "--country", "FR")
    assert answer.code == 0
    assert answer.json == {**before, "source": "snapshot", "stale": True}
    assert "SNAPSHOT" in synced("search").out


def test_status_of_a_healthy_catalogue(synced: Cli) -> None:
    result = synced("status", "--json")
    status = result.json
    assert result.code == 0
    assert status.keys() >= {"catalogue", "last_sync", "lock", "breakers", "budgets", "alerts"}
    assert status["catalogue"]["bundles"] == 300
    assert status["catalogue"]["source"] == "fresh"
    assert status["last_sync"]["outcome"] == "COMPLETE"
    assert status["lock"] == {"state": "free", "holder": None}
    assert {entry["state"] for entry in status["breakers"]} == {"CLOSED"}
    assert status["alerts"] == {"channels": ["log"], "incidents": [], "outbox": [], "dead_letters": []}
    assert "channels: log; no incidents open" in synced("status").out


def test_status_shows_an_open_circuit(synced: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    assert synced("run", ERROR_CIRCUIT_BREAKER_THRESHOLD="2").code == 1
    breakers = {entry["dependency"]: entry for entry in synced("status", "--json").json["breakers"]}
    assert breakers["esim-go"]["state"] == "OPEN"
    assert breakers["esim-go"]["last_transition"]["reason"] == "failure_threshold"


def test_status_before_anything_happened(cli: Cli) -> None:
    status = cli("status", "--json").json
    assert status["catalogue"] is None
    assert status["last_sync"] is None
    assert cli("status").code == 0


def test_status_without_retries_has_no_budget_of_the_supplier(synced: Cli) -> None:
    result = synced("status", "--json", ERROR_RETRY_MAX_ATTEMPTS="1")
    assert result.code == 0, result.err
    assert [entry["dependency"] for entry in result.json["breakers"]][:1] == ["esim-go"]


def test_status_without_redis_shows_the_snapshot(synced: Cli, redis_server: RedisServer) -> None:
    redis_server.kill()
    result = synced("status", "--json")
    assert result.code == 0
    assert result.json["catalogue"]["source"] == "snapshot"
    assert result.json["lock"]["state"] == "unknown"
    assert result.json["store"]["reachable"] is False


def test_status_survives_a_damaged_last_run(synced: Cli) -> None:
    (synced.state_dir / "last_run.json").write_text('{"report": ')
    result = synced("status", "--json")
    assert result.code == 0
    assert result.json["last_sync"]["outcome"] == "COMPLETE"  # as the history keeps it


def test_status_shows_the_last_sync_of_another_machine(synced: Cli, supplier: Supplier, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    shown = synced("status", "--json", CATALOG_STATE_DIR=elsewhere).json["last_sync"]
    assert shown["outcome"] == "COMPLETE"
    supplier.play("outage")
    failed = synced("run", "--json", CATALOG_STATE_DIR=elsewhere).json
    shown = synced("status", "--json").json["last_sync"]  # not the sync that this machine ran before
    assert shown == failed
    assert f"FAILED, started {failed['started_at']}" in " ".join(synced("status").out.split())


def test_status_shows_the_last_sync_of_this_machine_where_redis_does_not_answer(
    synced: Cli, redis_server: RedisServer
) -> None:
    redis_server.kill()
    assert synced("status", "--json").json["last_sync"]["outcome"] == "COMPLETE"


@pytest.mark.parametrize("part", ["bundles", "meta"])
def test_a_damaged_catalogue_is_told_from_a_store_that_does_not_answer(
    synced: Cli, redis_server: RedisServer, part: str
) -> None:
    version = synced("status", "--json").json["catalogue"]["version"]
    redis_server.command("DEL", f"{{cat}}:v:{version}:{part}")
    found = synced("status", "--json").json
    assert found["store"]["reachable"]
    assert found["store"]["error"]["type"] == "version_gone"
    assert found["catalogue"]["source"] == "snapshot"
    assert found["lock"]["state"] == "free"
    assert "a full sync repairs it" in " ".join(synced("status").out.split())


@pytest.mark.parametrize("report", [{}, {"outcome": 7}, None, []])
def test_a_report_of_the_last_run_that_cannot_be_read_spoils_nothing_else(synced: Cli, report: object) -> None:
    file = synced.state_dir / "last_run.json"
    file.write_text(json.dumps({"report": report, "breakers": [], "budgets": []}))
    result = synced("status")
    assert result.code == 0
    assert "COMPLETE" in result.out  # as the history keeps it
