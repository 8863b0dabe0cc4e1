"""The files that Grafana and Alertmanager load at start; Grafana drops or refuses what it does not know."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from grafana.generate.notifying import TEMPLATES

from support.node import errors_in
from support.programs import require_program
from support.promql import grouping
from support.promtool import filled_in
from support.promtool import rules as prometheus_rules

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "grafana/provisioning"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@functools.cache
def load(name: str) -> Any:
    return yaml.safe_load((PROVISIONING / name).read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [rule for group in load("alerting/rules.yaml")["groups"] for rule in group["rules"]]
EACH_RULE = pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["title"]) for rule in RULES])
KEYS_OF_A_RULE = {
    "uid", "title", "condition", "data", "dashboardUid", "panelId", "noDataState", "execErrState", "for",
    "keepFiringFor", "annotations", "labels", "isPaused",
}  # fmt: skip
DATASOURCES = {source["uid"]: source for source in load("datasources/datasources.yaml")["datasources"]}


def test_grafana_and_prometheus_have_the_same_rules() -> None:
    promtool = prometheus_rules()
    assert {rule["title"] for rule in RULES} == promtool.keys()
    operators = {"gt": ">", "lt": "<"}
    for rule in RULES:
        queries = {query["refId"]: query["model"] for query in rule["data"]}
        evaluator = queries["C"]["conditions"][0]["evaluator"]
        condition = f"({queries['A']['expr']}) {operators[evaluator['type']]} {evaluator['params'][0]:g}"
        twin = promtool[rule["title"]]
        assert twin["expr"] == condition
        assert twin["labels"] == rule["labels"]
        assert [twin.get("for", "0s"), twin.get("keep_firing_for", "0s")] == [
            same_length(rule["for"]),
            same_length(rule["keepFiringFor"]),
        ]
        assert twin["annotations"]["runbook_url"] == rule["annotations"]["runbook_url"]


def same_length(seconds: str) -> str:
    count = int(seconds.removesuffix("s"))
    return f"{count // 60}m" if count and count % 60 == 0 else seconds


@EACH_RULE
def test_a_rule_has_only_keys_that_files_may_have(rule: dict[str, Any]) -> None:
    assert rule.keys() == KEYS_OF_A_RULE
    assert len(rule["uid"]) <= 40
    assert re.fullmatch(r"[a-z-]+", rule["uid"])
    assert rule["condition"] == "C"
    assert rule["isPaused"] is False


@pytest.mark.fault("O7")
@EACH_RULE
def test_a_condition_asks_prometheus_alone_so_that_no_link_can_silence_its_rule(rule: dict[str, Any]) -> None:
    """Grafana fails a rule of which any query fails, and Loki refuses a search over 500 series."""
    assert [(query["refId"], query["datasourceUid"]) for query in rule["data"]] == [
        ("A", "prometheus"),
        ("C", "__expr__"),
    ]
    for text in rule["annotations"].values():
        assert "$values.B" not in text


@pytest.mark.fault("O7")
@EACH_RULE
def test_a_rule_that_cannot_be_evaluated_keeps_its_state_and_one_rule_fires(rule: dict[str, Any]) -> None:
    """Error or OK would end the alerts that fire."""
    unknown = ("Alerting", "Alerting") if rule["title"] == "PrometheusDown" else ("OK", "KeepLast")
    assert (rule["noDataState"], rule["execErrState"]) == unknown


@EACH_RULE
def test_a_rule_leads_to_its_panel_its_runbook_and_its_receiver(rule: dict[str, Any]) -> None:
    board = json.loads((ROOT / f"grafana/dashboards/{rule['dashboardUid']}.json").read_text(encoding="utf-8"))
    assert rule["panelId"] in {panel["id"] for panel in board["panels"] if panel["type"] != "row"}
    annotations = rule["annotations"]
    assert (annotations["__dashboardUid__"], annotations["__panelId__"]) == (rule["dashboardUid"], str(rule["panelId"]))
    assert annotations["runbook_url"].endswith(f"#{rule['title'].lower()}")
    assert annotations["summary"].endswith(".")
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert rule["labels"]["component"] in {"catalogue", "alerting", "telemetry", "heartbeat"}


HERE = {"deployment_environment_name": "production"}


def with_links() -> list[dict[str, Any]]:
    return [rule for rule in RULES if "trace_url" in rule["annotations"]]


def searched(rule: dict[str, Any], link: str, **labels: str) -> dict[str, Any]:
    """The query that opens behind a link, with labels filled in: these, and any value for the others."""
    address = filled_in(rule["annotations"][link], labels)
    assert address.startswith("{{ externalURL }}explore?")
    panes = json.loads(unquote(re.sub(r"\{\{[^}]*\}\}", "abc", address).partition("panes=")[2]))
    (query,) = panes["t"]["queries"]
    found: dict[str, Any] = query | {"datasource": panes["t"]["datasource"], "range": panes["t"]["range"]}
    return found


def test_loki_understands_every_search_of_an_alert() -> None:
    found = [("logql", searched(rule, "logs_url", **labels)["expr"]) for rule in with_links() for labels in ({}, HERE)]
    assert len(found) > 20
    assert set(errors_in(found)) == {0}


def test_tempo_understands_every_search_of_an_alert() -> None:
    found = [
        ("traceql", searched(rule, "trace_url", **labels)["query"]) for rule in with_links() for labels in ({}, HERE)
    ]
    assert set(errors_in(found)) == {0}


@EACH_RULE
def test_no_annotation_holds_what_grafana_would_take_for_a_variable_of_the_environment(rule: dict[str, Any]) -> None:
    for text in rule["annotations"].values():
        assert "${" not in text
    for text in rule["labels"].values():
        assert "$" not in text


@pytest.mark.parametrize("rule", with_links(), ids=lambda rule: rule["title"])
def test_the_links_of_an_alert_find_the_newest_failure_in_either_store_also_the_next_morning(
    rule: dict[str, Any],
) -> None:
    traces, logs = searched(rule, "trace_url"), searched(rule, "logs_url")
    assert (traces["datasource"], logs["datasource"]) == ("tempo", "loki")
    assert traces["query"].endswith(" with (most_recent=true)")
    assert (logs["direction"], logs["expr"].endswith('| trace_id!=""')) == ("backward", True)
    assert traces["range"] == logs["range"] == {"from": "now-24h", "to": "now"}


@pytest.mark.parametrize("rule", with_links(), ids=lambda rule: rule["title"])
def test_the_links_of_an_alert_of_production_find_nothing_of_staging(rule: dict[str, Any]) -> None:
    traces, logs = searched(rule, "trace_url", **HERE)["query"], searched(rule, "logs_url", **HERE)["expr"]
    assert traces.startswith('{ resource.deployment.environment.name = "production" && ')
    assert logs.startswith('{service_name=~"catalog-.+"} | deployment_environment_name="production" | event_name=')
    assert "environment" not in searched(rule, "trace_url")["query"] + searched(rule, "logs_url")["expr"]


@pytest.mark.parametrize("rule", with_links(), ids=lambda rule: rule["title"])
def test_a_link_names_only_labels_that_the_alert_has(rule: dict[str, Any]) -> None:
    labels = grouping(rule["data"][0]["model"]["expr"])
    for link in ("trace_url", "logs_url"):
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"][link])) <= labels | HERE.keys()


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def latest_page(rule: dict[str, Any], grouping_wait: str) -> int:
    """The worst case, in seconds, from the moment when the metric shows it until the message leaves."""
    (every,) = [seconds(group["interval"]) for group in load("alerting/rules.yaml")["groups"] if rule in group["rules"]]
    (page,) = [route for route in POLICY["routes"] if route["receiver"] == "page"]
    scraped = re.search(r"\bup\{|\bgrafana_", rule["data"][0]["model"]["expr"])
    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text(encoding="utf-8"))["global"]
    pushed = EXPORT_INTERVAL + SPAN_METRICS_INTERVAL
    arrives = seconds(config["scrape_interval"]) + SCRAPE_TIMEOUT if scraped else pushed
    pending = math.ceil(seconds(rule["for"]) / every) * every
    return arrives + every + pending + seconds(page[grouping_wait])


SCRAPE_TIMEOUT = 10
"""Seconds; Prometheus' default: a target that hangs is down after it."""
EXPORT_INTERVAL = 15
"""Seconds; OTEL_METRIC_EXPORT_INTERVAL, as docs/configuration.md has it."""
SPAN_METRICS_INTERVAL = 5
"""Seconds; OTELCOL_SPAN_METRICS_INTERVAL."""
PAGES = [
    pytest.param(rule, id=rule["title"])
    for rule in RULES
    # Its subject is the silence of a day; ``for`` gives a new installation time for its first sync.
    if rule["labels"]["severity"] == "critical" and rule["title"] != "NoSyncSeen"
]


@pytest.mark.fault("O8")
@pytest.mark.parametrize("rule", PAGES)
def test_a_page_leaves_within_a_minute_in_the_worst_case(rule: dict[str, Any]) -> None:
    assert latest_page(rule, "group_wait") <= 60


@pytest.mark.fault("O8")
@pytest.mark.parametrize("rule", PAGES)
def test_a_page_that_comes_back_while_its_group_is_remembered_leaves_within_a_minute(rule: dict[str, Any]) -> None:
    hanging_scrape = SCRAPE_TIMEOUT if rule["title"] == "PrometheusDown" else 0  # it does not scrape itself so
    assert latest_page(rule, "group_interval") - hanging_scrape <= 60


POLICY = load("alerting/policies.yaml")["policies"][0]
POINTS = {point["name"]: point["receivers"] for point in load("alerting/contact-points.yaml")["contactPoints"]}
REQUIRED = {"slack": {"url", "title", "text"}, "pagerduty": {"integrationKey", "url", "severity"}, "webhook": {"url"}}


def test_pages_go_to_slack_pagerduty_and_a_webhook() -> None:
    assert [receiver["type"] for receiver in POINTS["page"]] == ["slack", "pagerduty", "webhook"]
    assert [receiver["type"] for receiver in POINTS["team"]] == ["slack", "webhook"]


@pytest.mark.parametrize("name", POINTS)
def test_every_address_comes_from_the_environment_and_has_a_default_in_compose(name: str) -> None:
    """An empty one would keep Grafana from starting."""
    environment = COMPOSE["services"]["grafana"]["environment"]
    for receiver in POINTS[name]:
        settings = receiver["settings"]
        assert settings.keys() >= REQUIRED[receiver["type"]]
        variables = [value[1:] for value in settings.values() if isinstance(value, str) and value.startswith("$")]
        assert variables
        for variable in variables:
            assert re.fullmatch(rf"\$\{{{variable}:-.+\}}", environment[variable])


def test_receivers_have_ids_of_their_own() -> None:
    ids = [receiver["uid"] for receivers in POINTS.values() for receiver in receivers]
    assert len(ids) == len(set(ids))


@pytest.mark.fault("O8")
def test_every_route_leads_to_a_contact_point_and_a_page_waits_for_no_other() -> None:
    mutes = {timing["name"] for timing in load("alerting/mute-timings.yaml")["muteTimes"]}
    for route in (POLICY, *POLICY["routes"]):
        assert route["receiver"] in POINTS
        together = {"page": ["..."], "team": ["component", "deployment_environment_name"], "heartbeat": ["component"]}
        assert route["group_by"] == together[route["receiver"]]
        assert {"group_wait", "group_interval", "repeat_interval"} <= route.keys()
        assert set(route.get("mute_time_intervals", [])) <= mutes
    muted = [route["receiver"] for route in POLICY["routes"] if "mute_time_intervals" in route]
    assert muted == ["team"]


def test_templates_are_balanced_and_hold_no_dollar_sign() -> None:
    (template,) = load("alerting/templates.yaml")["templates"]
    assert template["template"] == TEMPLATES
    assert "$" not in TEMPLATES
    opened = re.findall(r"\{\{-? ?(define|if|range|with)\b", TEMPLATES)
    assert len(opened) == len(re.findall(r"\{\{-? ?end\b", TEMPLATES))
    used = set(re.findall(r'\{\{-? ?template "([^"]+)"', TEMPLATES + json.dumps(POINTS).replace('\\"', '"')))
    assert used == set(re.findall(r'define "([^"]+)"', TEMPLATES))


def test_datasources_are_linked_in_every_direction() -> None:
    prometheus, loki, tempo = (DATASOURCES[name]["jsonData"] for name in ("prometheus", "loki", "tempo"))
    assert {link["name"]: link["datasourceUid"] for link in prometheus["exemplarTraceIdDestinations"]} == {
        "trace_id": "tempo",
        "traceID": "tempo",
    }
    (field,) = loki["derivedFields"]
    assert (field["matcherType"], field["datasourceUid"], field["url"]) == ("label", "tempo", "$${__value.raw}")
    assert (tempo["tracesToLogsV2"]["datasourceUid"], tempo["tracesToMetrics"]["datasourceUid"]) == (
        "loki",
        "prometheus",
    )
    assert tempo["serviceMap"]["datasourceUid"] == "prometheus"


def test_grafana_keeps_every_dollar_sign_of_a_datasource() -> None:
    """It expands variables in this file: a sign that shall stay is written twice."""
    text = (PROVISIONING / "datasources/datasources.yaml").read_text(encoding="utf-8")
    assert "$$" in text
    assert not re.search(r"(?<!\$)\$(?!\$)", text.replace("$$", ""))


ALERTMANAGER = ROOT / "grafana/alertmanager/alertmanager.yml"


def test_alertmanager_takes_its_configuration() -> None:
    command = [str(require_program("amtool")), "check-config", str(ALERTMANAGER)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=critical", "component=catalogue"], "page"),
        (["severity=warning", "component=telemetry"], "team"),
        (["severity=none", "component=heartbeat"], "heartbeat"),
        (["severity=unheard-of"], "team"),
    ],
)
def test_alertmanager_routes_as_grafana_does(labels: list[str], receiver: str) -> None:
    command = [str(require_program("amtool")), "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == receiver
    tree = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["route"]
    for ours, grafanas in zip((tree, *tree["routes"]), (POLICY, *POLICY["routes"]), strict=True):
        for key in ("receiver", "group_by", "group_wait", "group_interval", "repeat_interval"):
            assert ours[key] == grafanas[key]


def test_prometheus_takes_its_configuration() -> None:
    command = [str(require_program("promtool")), "check", "config", str(ROOT / "grafana/prometheus/prometheus.yml")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
