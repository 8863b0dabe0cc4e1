"""``syncs`` and ``trace``: records of earlier processes, from the message to the attempt that failed."""

from __future__ import annotations

import re

import pytest

from support.cli import Cli, Supplier
from support.redis_server import RedisServer

IN_REDIS = pytest.mark.parametrize("where", ["redis", "state folder"])


def without_redis(where: str) -> dict[str, str]:
    return {} if where == "redis" else {"REDIS_URL": "", "PATH": "/nonexistent"}


@IN_REDIS
def test_a_failed_sync_is_found_after_its_process_has_gone(cli: Cli, supplier: Supplier, where: str) -> None:
    env = without_redis(where)
    good = cli("run", "--json", **env).json
    supplier.play("group-unavailable")
    failed = cli("run", **env)
    assert failed.code == 3
    found = re.search(r"catalog-sync trace ([0-9a-f]{32})", failed.out)
    assert found is not None

    listed = cli("syncs", "--json", **env)
    assert (listed.code, listed.json["total"], listed.json["complete"]) == (0, 2, True)
    first, second = listed.json["syncs"]
    assert (first["correlation_id"], first["outcome"], first["trigger"]) == (found[1], "PARTIAL", "cli")
    assert (second["correlation_id"], second["version"]) == (good["correlation_id"], good["version"])
    assert cli("syncs", "--outcome", "complete", "--json", **env).json["syncs"] == [second]
    assert [each["outcome"] for each in cli("syncs", "--limit", "1", "--json", **env).json["syncs"]] == ["PARTIAL"]

    shown = cli("trace", **env)
    assert shown.code == 0
    [marked] = [line for line in shown.out.splitlines() if "failed here -->" in line]
    assert "failed here --> attempt 3 · after a wait of" in marked
    assert "docs/runbook.md, at 500" in shown.out
    by_prefix = cli("trace", found[1][:8].upper(), "--json", **env).json
    assert by_prefix["correlation_id"] == found[1]
    pasted = cli("trace", f"https://catalog.example/syncs/{found[1]}", "--json", **env).json
    assert pasted["failed_attempt"] == by_prefix["failed_attempt"]
    spans = {span["span_id"]: span for span in by_prefix["spans"]}
    attempt = spans[by_prefix["failed_attempt"]]["attributes"]
    assert (attempt["resilience.attempt.number"], attempt["error.type"]) == (3, "500")
    assert cli.env["ESIM_GO_API_KEY"] not in shown.out + str(by_prefix)

    well = cli("trace", good["correlation_id"], **env)
    assert well.code == 0
    assert "No spans are kept" in well.out


def test_an_unknown_id_is_one_line_and_exit_1(cli: Cli) -> None:
    nothing = cli("trace", "--json")
    assert (nothing.code, nothing.json["error"]["type"]) == (1, "not_found")
    assert len(nothing.json["error"]["correlation_id"]) == 32
    cli("run")
    result = cli("trace", "c0ffee" * 5, "--json")
    assert result.code == 1
    assert "1 sync is kept" in result.json["error"]["message"]
    assert result.json["error"].keys() == {"type", "class", "severity", "message", "retry_after_s", "correlation_id"}
    assert len(result.err.splitlines()) == 1


def test_a_sync_without_redis_is_kept_beside_it(cli: Cli, redis_server: RedisServer) -> None:
    redis_server.kill()
    report = cli("run", "--json").json
    assert report["outcome"] == "LOCK_UNAVAILABLE"
    listed = cli("syncs", "--json")
    assert listed.code == 0
    assert [each["correlation_id"] for each in listed.json["syncs"]] == [report["correlation_id"]]
    assert not listed.json["complete"]
    shown = cli("trace", "--json").json
    assert shown["sync"]["error"]["type"] == report["error"]["type"]


@pytest.mark.fault("U5")
def test_a_sync_that_an_open_circuit_refused_leads_to_the_one_that_opened_it(cli: Cli, supplier: Supplier) -> None:
    """A trace of refused calls says that something is wrong, and not what."""
    supplier.play("outage")
    opener = cli("run", "--json").json
    while (refused := cli("run", "--json").json)["attempts"]:
        opener = refused
    shown = cli("trace", refused["correlation_id"]).out
    assert "Nothing was sent" in shown
    [command] = [line.strip() for line in shown.splitlines() if "catalog-sync trace" in line]
    assert command.endswith(f" trace {opener['correlation_id']}")
    assert "Nothing was sent" not in cli("trace", opener["correlation_id"]).out


def test_links_of_the_settings_are_shown(cli: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    failed = cli("run", "--json").json["correlation_id"]
    links = {
        "ERROR_ALERT_TRACE_URL": "https://traces.test/{trace_id}",
        "ERROR_ALERT_RUNBOOK_URL": "https://runbook.test/{name}",
    }
    shown = cli("trace", failed, "--json", **links).json["links"]
    assert shown["trace"] == f"https://traces.test/{failed}"
    assert shown["runbook"] == "https://runbook.test/sync_failed"
    assert "https://runbook.test/sync_failed" in cli("trace", **links).out
