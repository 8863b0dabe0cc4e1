"""``run``: every outcome with its exit code and its JSON object."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from support.alert_receivers import FakeWebhook, served
from support.cli import Cli, Supplier, wait_until
from support.redis_server import RedisServer

REPORT_FIELDS = {
    "outcome", "correlation_id", "version", "bundles", "quarantined", "groups", "duration_s", "attempts", "retries",
    "holder", "error",
}  # fmt: skip
LOCK = "{cat}:lock"


def test_a_complete_sync_exits_0(cli: Cli) -> None:
    result = cli("run", "--json")
    report = result.json
    assert result.code == 0
    assert report.keys() >= REPORT_FIELDS
    assert report["outcome"] == "COMPLETE"
    assert report["bundles"] == 300
    assert report["error"] is None
    assert report["holder"] is None
    assert {group["status"] for group in report["groups"]} == {"ok"}
    assert sum(group["bundles"] for group in report["groups"]) == 300


def test_logs_are_json_lines_under_the_correlation_id_of_the_report(cli: Cli, supplier: Supplier) -> None:
    supplier.play("rate-limited")
    result = cli("run", "--json")
    assert len(result.logs) == len(result.err.splitlines())
    finished = [line for line in result.logs if line.get("event") == "catalog.sync.finished"]
    assert [line["correlation_id"] for line in finished] == [result.json["correlation_id"]]


def test_people_get_a_summary(cli: Cli) -> None:
    result = cli("run")
    assert result.code == 0
    assert "COMPLETE" in result.out
    assert "300 bundles" in result.out
    assert "correlation ID" in result.out
    assert "\x1b" not in result.out + result.err


@pytest.mark.parametrize(
    ("option", "kind"), [("--group=Standard - Fixed", "group"), ("--country=FR", "country"), ("--bundle", "bundle")]
)
def test_a_part_of_the_catalogue(cli: Cli, option: str, kind: str) -> None:
    cli("run")
    name = cli("search", "--json", "--limit", "1").json["bundles"][0]["name"]
    result = cli("run", "--json", *([option, name] if kind == "bundle" else [option]))
    assert result.code == 0
    assert result.json["kind"] == kind
    assert result.json["bundles"] == 300


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--country", "Portugal", "PT (Portugal)"),
        ("--country", "ZZ", "not a country code"),
        ("--group", "Standard - Fixd", "'Standard - Fixed'"),
        ("--bundle", "..", "cannot be the name"),
        ("--bundle", "a\nb", "cannot be the name"),
    ],
)
def test_a_typo_is_refused_before_the_sync_and_pages_no_one(
    cli: Cli, supplier: Supplier, option: str, value: str, hint: str
) -> None:
    before = cli("run", "--json").json
    asked = supplier.requests()
    with served(FakeWebhook()) as webhook:
        result = cli("run", option, value, "--json", ERROR_ALERT_WEBHOOK_URL=webhook.url)
        assert not webhook.requests
    assert result.code == 2
    assert (result.json["error"]["type"], result.json["error"]["severity"]) == ("unknown_scope", "LOW")
    assert hint in result.json["error"]["message"]
    assert supplier.requests() == asked
    status = cli("status", "--json").json
    assert status["catalogue"]["version"] == before["version"]
    assert status["last_sync"]["correlation_id"] == before["correlation_id"]
    assert status["alerts"]["incidents"] == []


def test_a_bundle_that_neither_supplier_nor_catalogue_has_exits_2_and_pages_no_one(cli: Cli) -> None:
    before = cli("run", "--json").json
    with served(FakeWebhook()) as webhook:
        result = cli("run", "--bundle", "NOPE", "--json", ERROR_ALERT_WEBHOOK_URL=webhook.url)
        assert not webhook.requests
    assert result.code == 2
    assert result.json["error"]["type"] == "bundle_not_found"
    assert result.json["version"] == before["version"]
    assert cli("status", "--json").json["alerts"]["incidents"] == []


def test_a_group_of_a_first_sync_that_the_supplier_does_not_list_exits_2(cli: Cli) -> None:
    result = cli("run", "--group", "No such", "--json")
    assert result.code == 2
    assert result.json["error"]["type"] == "unknown_scope"
    assert "Standard - Fixed" in result.json["error"]["message"]


def test_a_group_in_the_spelling_of_a_search_is_synced(cli: Cli) -> None:
    cli("run")
    assert cli("search", "--json", "--group", "standardfixed").json["total"] > 0
    assert cli("run", "--json", "--group", "standardfixed").json["outcome"] == "COMPLETE"


def test_a_failed_sync_exits_1_and_keeps_the_catalogue(cli: Cli, supplier: Supplier) -> None:
    good = cli("run", "--json").json
    supplier.play("outage")
    result = cli("run", "--json")
    assert result.code == 1
    assert result.json["outcome"] == "FAILED"
    assert result.json["version"] == good["version"]
    assert result.json["error"].keys() == {"type", "class", "severity", "message", "retry_after_s", "correlation_id"}
    assert cli("search", "--json").json["version"] == good["version"]


def test_a_refused_key_is_critical(cli: Cli) -> None:
    result = cli("run", "--json", ESIM_GO_API_KEY="wrong-key-0815")
    assert result.code == 1
    assert result.json["error"]["severity"] == "CRITICAL"
    assert "wrong-key-0815" not in result.out + result.err
    assert "***" not in result.json["error"]["message"], "nothing of it looks like a secret"


def test_a_group_that_fails_makes_it_partial_and_exits_3(cli: Cli, supplier: Supplier) -> None:
    cli("run")
    supplier.play("group-unavailable")
    result = cli("run", "--json")
    assert result.code == 3
    assert result.json["outcome"] == "PARTIAL"
    assert result.json["bundles"] == 300
    stale = [group for group in result.json["groups"] if group["status"] == "stale"]
    assert [group["error"]["type"] for group in stale] == ["500"]


def test_a_refused_publication_can_be_forced(cli: Cli, supplier: Supplier) -> None:
    cli("run")
    supplier.play("vanished-group")
    refused = cli("run", "--json")
    assert refused.code == 1
    assert refused.json["error"]["type"] == "publish_refused"
    assert cli("run", "--json", "--force").json["outcome"] == "COMPLETE"


def test_a_second_run_says_who_holds_the_lock_and_exits_4(
    cli: Cli, supplier: Supplier, redis_server: RedisServer
) -> None:
    supplier.play("slow")
    first = cli.start("run", "--json", CATALOG_ATTEMPT_TIMEOUT_MS="30000")
    wait_until(lambda: redis_server.command("EXISTS", LOCK))
    first.process.send_signal(signal.SIGSTOP)  # so that it holds the lock, however long the second one takes
    second = cli("run", "--json")
    supplier.play("calm")
    first.process.send_signal(signal.SIGCONT)
    assert second.code == 4
    assert second.json["outcome"] == "SKIPPED_LOCKED"
    assert second.json["holder"].keys() >= {"owner", "since"}
    done = first.result()
    assert done.code == 0
    assert second.json["holder"]["correlation_id"] == done.json["correlation_id"]


def test_no_redis_is_lock_unavailable_and_exits_5(cli: Cli, supplier: Supplier, redis_server: RedisServer) -> None:
    redis_server.kill()
    supplier.reset()
    result = cli("run", "--json")
    assert result.code == 5
    assert result.json["outcome"] == "LOCK_UNAVAILABLE"
    assert result.json["error"]["type"] == "connection_error"
    assert supplier.requests() == 0


def test_a_wrong_redis_password_is_told_without_the_password(cli: Cli, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "locked", password="the-right-one") as server:
        result = cli("run", "--json", REDIS_URL=server.url_with("s3cret-pass"))
    assert result.code == 5
    assert result.json["error"]["severity"] == "CRITICAL"
    assert "s3cret-pass" not in result.out + result.err


def test_without_any_redis_there_is_a_banner_and_others_read_the_snapshot(cli: Cli) -> None:
    result = cli("run", "--json", REDIS_URL="", PATH="/nonexistent")
    assert result.code == 0
    assert "kept inside this process" in result.err
    found = cli("search", "--json", REDIS_URL="", PATH="/nonexistent")
    assert found.code == 0
    assert (found.json["source"], found.json["total"]) == ("snapshot", 300)


def test_a_run_that_keeps_nothing_exits_1_and_sends_no_heartbeat(cli: Cli, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    with served(FakeWebhook()) as heart:
        beat = {"ERROR_ALERT_HEARTBEAT_URL": heart.url}
        result = cli("run", "--json", REDIS_URL="", CATALOG_STATE_DIR=str(blocked / "state"), **beat)
        assert result.code == 1
        assert (result.json["outcome"], result.json["version"]) == ("FAILED", None)
        assert "CATALOG_STATE_DIR" in result.json["error"]["message"]
        assert not heart.requests
        assert cli("run", "--json", **beat).code == 0
        assert len(heart.requests) == 1


def test_a_run_leaves_its_report_breakers_and_budgets(cli: Cli) -> None:
    report = cli("run", "--json").json
    left = json.loads((cli.state_dir / "last_run.json").read_text())
    assert left["report"] == report
    assert {entry["dependency"] for entry in left["breakers"]} == {"esim-go", "redis"}
    assert {entry["dependency"] for entry in left["budgets"]} == {"esim-go", "redis"}
    assert not list(cli.state_dir.glob("last_run.json*.tmp"))


def test_a_state_folder_that_cannot_be_written_does_not_undo_a_sync(cli: Cli) -> None:
    result = cli("run", "--json", CATALOG_STATE_DIR="/proc/nowhere")
    assert result.code == 0
    assert result.json["outcome"] == "COMPLETE"
    assert "was not written" in result.err


@pytest.mark.fault("F49")
def test_a_dead_collector_costs_a_bounded_time(cli: Cli) -> None:
    result = cli("run", "--json", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert result.code == 0
    assert result.json["outcome"] == "COMPLETE"
