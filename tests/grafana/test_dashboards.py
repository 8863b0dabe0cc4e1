"""Dashboards obey Grafana's dashboard-linter, query only what exists, and are well formed.

Two rules of the linter are kept in another form: counters go through ``added`` rather than ``rate``, which sees nothing
of a job of seconds; and series without ``instance`` (span metrics, remembered moments) are not asked for it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from grafana.generate import foreign, names
from grafana.generate.rules import all_rules, recording
from grafana.generate.settings import Settings
from grafana.preview.stored import matches
from tools.telemetry import signals

from otel_resilience.telemetry import contract as resilience
from support.node import errors_in, type_errors
from support.programs import require_program
from support.promql import filled, grouping, selectors

FOLDER = Path(__file__).parents[2] / "grafana/dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
KNOWN = names.known_series() | recording.SERIES
ON_EVERY_SERIES = {"job", "instance", "service_name", "deployment_environment_name"}
WITHOUT_INSTANCE = re.compile(r"traces_(span_metrics|kept)_.*")
WITHOUT_UNIT = {"alertlist", "logs", "row"}
WITHOUT_QUERY = {"alertlist"}
UNITS = {"short", "string", "none", "s", "percentunit", "bytes", "locale", "bool_yes_no"}
EVENTS = {event.name for event in (*signals.events("resilience"), *signals.events("catalog"))}
LOG_FIELDS = {"service_name", "event_name", "scope_name", "severity_text", "trace_id"}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def everywhere() -> Iterator[tuple[str, dict[str, Any]]]:
    for uid, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            yield f"{uid}: {panel['title']}", panel


def targets(kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Panel, query and target of one kind of data source."""
    return [
        (place, target.get("expr") or target["query"], target)
        for place, panel in everywhere()
        for target in panel.get("targets", [])
        if target["datasource"]["type"] == kind
    ]


PANELS = pytest.mark.parametrize("panel", [pytest.param(panel, id=place) for place, panel in everywhere()])
BOARDS = pytest.mark.parametrize("board", [pytest.param(board, id=uid) for uid, board in DASHBOARDS.items()])
PROMQL, LOGQL, TRACEQL = targets("prometheus"), targets("loki"), targets("tempo")


def test_there_are_eight_of_them() -> None:
    titles = [board["title"] for board in DASHBOARDS.values()]
    assert sorted(titles) == [
        "API and load",
        "Alerting",
        "Catalogue sync",
        "Circuit breakers",
        "Errors",
        "Overview",
        "Retries",
        "Telemetry health",
    ]


@BOARDS
def test_a_dashboard_is_read_only_refreshes_and_links_to_the_others(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert board["refresh"]
    assert [link["tags"] for link in board["links"]] == [board["tags"]]
    assert board["schemaVersion"] in {41, 42}
    assert len(board["uid"]) <= 40


@BOARDS
def test_its_variables_are_those_that_the_linter_asks_for(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    sources = {f"{kind}_datasource": kind for kind in ("prometheus", "loki", "tempo")}
    for name, kind in sources.items():
        assert variables[name]["query"] == kind
        assert variables[name]["label"] == f"{kind.title()} data source"
    for name in variables.keys() - sources.keys():
        variable = variables[name]
        assert variable["label"] == name.title()
        assert variable["datasource"]["uid"] == "${prometheus_datasource}"
        assert (variable["type"], variable["multi"], variable["allValue"], variable["refresh"]) == (
            "query",
            True,
            ".*" if name in {"instance", "environment"} else ".+",  # not everything has one
            2,
        )
    assert {"environment", "job", "instance"} <= variables.keys()


def _counts() -> set[str]:
    """Attributes that are whole numbers, by the registry."""
    found = set()
    for path in (FOLDER.parents[1] / "telemetry").rglob("*.yaml"):
        for each in yaml.safe_load(path.read_text(encoding="utf-8")).get("attributes", []):
            if each.get("type") == "int":
                found.add(names.label(each["key"]))
    return found


def test_counts_in_tables_are_whole_and_text_stays_text() -> None:
    """5,200 bundles are not 5.20 K, and a fingerprint such as 12345678e1234567 is no number."""
    counts, seen = _counts(), set()
    for place, panel in everywhere():
        organized = [each["options"] for each in panel.get("transformations", []) if each["id"] == "organize"]
        if panel["type"] != "table" or not organized:
            continue
        assert panel["fieldConfig"]["defaults"]["unit"] == "string", place
        units = {
            override["matcher"]["options"]: prop["value"]
            for override in panel["fieldConfig"]["overrides"]
            for prop in override["properties"]
            if prop["id"] == "unit"
        }
        for name, heading in organized[0]["renameByName"].items():
            found = [unit for pattern, unit in units.items() if re.fullmatch(pattern, heading)]
            if name in counts:
                assert found == ["locale"], f"{place}: {heading}"
                seen.add(heading)
            elif heading in {"Fingerprint", "Error", "Trace", "Dependency"}:
                assert not found, f"{place}: {heading}"
    assert "Bundles" in seen


def test_a_number_that_is_not_there_has_no_colour() -> None:
    """Grafana gives it the lowest threshold's: "never" was green, and "no failures" red."""
    for place, panel in everywhere():
        if panel["type"] == "stat":
            defaults = panel["fieldConfig"]["defaults"]
            special = [each["options"] for each in defaults["mappings"] if each["type"] == "special"]
            if defaults["noValue"] == "0":
                assert not special, place
            else:
                (absent,) = special
                assert absent["match"] == "null+nan"
                assert absent["result"]["text"] == defaults["noValue"], place
                colors = {step["color"] for step in defaults["thresholds"]["steps"]}
                assert absent["result"]["color"] not in colors, place


def test_the_first_page_lists_every_rule_that_notifies_somebody_and_no_other() -> None:
    """Watchdog always fires; beside "Is anything wrong?" it would say yes for ever."""
    (board,) = [panel for panel in panels(DASHBOARDS["catalog-overview"]) if panel["type"] == "alertlist"]
    selector = board["options"]["alertInstanceLabelFilter"]
    for rule in all_rules(Settings()):
        assert matches({"severity": rule.severity}, selector) is (rule.severity != "none"), rule.name
    (every,) = [panel for panel in panels(DASHBOARDS["catalog-alerting"]) if panel["type"] == "alertlist"]
    assert every["options"]["alertInstanceLabelFilter"] == ""


def variable_selectors() -> list[tuple[str, str]]:
    """Dashboard and selector of each variable that asks for labels."""
    return [
        (uid, re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["query"]["query"]))
        for uid, board in DASHBOARDS.items()
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]


@BOARDS
def test_nothing_is_left_empty_beside_a_panel(board: dict[str, Any]) -> None:
    """Every line is filled to the right and to the height of its highest panel."""
    cells = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in board["panels"])
    assert cells == 24 * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])


@BOARDS
def test_it_begins_with_a_question_and_panels_do_not_overlap(board: dict[str, Any]) -> None:
    assert board["panels"][0]["type"] == "row"
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert all(title.endswith("?") for title in rows)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@BOARDS
def test_titles_and_ids_are_unique(board: dict[str, Any]) -> None:
    for key in ("title", "id"):
        values = [panel[key] for panel in panels(board)]
        assert len(values) == len(set(values))


@BOARDS
def test_every_change_of_a_breaker_is_marked_with_a_link_to_its_trace(board: dict[str, Any]) -> None:
    (marks,) = [annotation for annotation in board["annotations"]["list"] if annotation["datasource"]["type"] == "loki"]
    assert resilience.EVENT_STATE_CHANGED in marks["expr"]
    assert "{{trace_id}}" in marks["textFormat"]
    assert marks["enable"] is True


@PANELS
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    if panel["type"] not in WITHOUT_UNIT:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@PANELS
def test_a_panel_asks_the_data_source_of_its_variables(panel: dict[str, Any]) -> None:
    if panel["type"] in WITHOUT_QUERY:
        return
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == f"${{{target['datasource']['type']}_datasource}}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))


@pytest.mark.parametrize(("place", "query", "target"), PROMQL)
def test_a_promql_query_names_only_series_and_labels_that_exist(place: str, query: str, target: dict[str, Any]) -> None:
    found = selectors(query)
    assert found
    allowed = set(ON_EVERY_SERIES)
    for name, matchers in found:
        assert name in KNOWN, f"{place}: {name}"
        assert matchers.keys() - ON_EVERY_SERIES <= KNOWN[name], f"{place}: {name}"
        allowed |= KNOWN[name]
    assert grouping(query) <= allowed, place
    shown = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
    assert shown <= allowed, place
    if grouping(query):
        assert shown <= grouping(query), place


@pytest.mark.parametrize(("place", "query", "target"), PROMQL)
def test_a_promql_query_follows_the_variables(place: str, query: str, target: dict[str, Any]) -> None:
    for name, matchers in selectors(query):
        # What has no environment, as the Collector, is shown in each.
        assert matchers["deployment_environment_name"] == "=~$environment|", place
        if name in recording.SERIES:
            continue
        assert matchers["job"] == "=~$job", place
        if not WITHOUT_INSTANCE.fullmatch(name):
            assert matchers["instance"] == "=~$instance", place


def is_counter(series: str) -> bool:
    return series.endswith(("_total", "_bucket", "_count", "_sum")) or bool(
        re.match(r"otelcol_\w+_(accepted|refused|sent|send_failed|enqueue_failed)_", series)
    )


@pytest.mark.parametrize(("place", "query", "target"), PROMQL)
def test_a_counter_is_never_shown_or_summed_as_it_is(place: str, query: str, target: dict[str, Any]) -> None:
    """It goes through the two halves of ``added``; ``rate`` would miss jobs that live for seconds."""
    assert not re.search(r"\b(i?rate|increase|delta)\(", query)
    for name, _ in selectors(query):
        if is_counter(name) and not target["exemplar"]:
            plain = re.findall(rf"(?<!last_over_time\(){name}\{{", query)
            assert plain == [], place


@pytest.mark.parametrize(("place", "query", "target"), LOGQL)
def test_a_logql_query_names_only_events_and_attributes_that_exist(
    place: str, query: str, target: dict[str, Any]
) -> None:
    event = re.search(r'event_name="([^"]+)"', query)
    fields = set(re.findall(r"\| (\w+)\s*[=!]", query))
    allowed = set(LOG_FIELDS)
    if event:
        assert event[1] in EVENTS, place
        allowed |= names.event_labels(event[1])
    assert fields <= allowed, place


def test_the_columns_of_event_tables_exist_in_their_event() -> None:
    for place, panel in everywhere():
        for step in panel.get("transformations", []):
            if step["id"] != "organize" or "includeByName" not in step["options"]:
                continue
            event = re.search(r'event_name="([^"]+)"', panel["targets"][0]["expr"])
            assert event
            columns = step["options"]["includeByName"].keys() - {"Time", "timestamp", "trace_id"}
            assert columns <= names.event_labels(event[1]), place


@pytest.mark.parametrize(("place", "query", "target"), TRACEQL)
def test_a_traceql_query_names_only_spans_and_attributes_that_exist(
    place: str, query: str, target: dict[str, Any]
) -> None:
    known = {
        attribute for span in (*signals.spans("resilience"), *signals.spans("catalog")) for attribute in span.attributes
    }
    assert set(re.findall(r"span\.([\w.]+)", query)) <= known, place
    for asked in re.findall(r'\bname =~? "([^"]+)"', query):
        assert set(asked.split("|")) <= set(names.span_names()), place


def test_most_panels_that_count_failures_offer_example_traces() -> None:
    with_examples = [place for place, _, target in PROMQL if target["exemplar"]]
    assert len(with_examples) >= 15
    for place, _, target in PROMQL:
        if target["exemplar"]:
            assert not target["instant"], place


@pytest.mark.fault("O11")
def test_example_traces_come_from_kept_traces_and_draw_no_line() -> None:
    for place, query, target in PROMQL:
        if target["exemplar"]:
            assert query.startswith("traces_kept_duration_seconds_bucket{"), place
            assert query.endswith("} < 0"), place
        else:
            assert "traces_kept" not in query, place


def test_the_queries_of_a_panel_have_letters_of_their_own() -> None:
    for place, panel in everywhere():
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert letters == sorted(set(letters)), place


@pytest.mark.fault("O10")
def test_a_search_from_a_panel_covers_the_range_of_the_dashboard_and_asks_for_what_spans_have() -> None:
    panel = next(panel for _, panel in everywhere() if panel["title"] == "Top fingerprints")
    (url,) = [link["url"] for link in panel["fieldConfig"]["overrides"][0]["properties"][0]["value"]]
    query = unquote(url)
    assert '"range":{"from":"${__from}","to":"${__to}"}' in query
    (attempt,) = [span for span in signals.spans("resilience") if span.name == resilience.ATTEMPT_SPAN]
    assert set(re.findall(r"span\.([\w.]+)", query)) <= set(attempt.attributes)


@pytest.mark.parametrize("kind", ["event table", "trace table"])
def test_rows_about_a_failure_open_its_trace(kind: str) -> None:
    wanted = {
        "event table": {"Failed syncs", "Latest errors", "Changes of state", "Failed deliveries"},
        "trace table": {"Failed groups and publications", "Traces with failed attempts", "Traces of failed deliveries"},
    }[kind]
    found = {panel["title"]: panel for _, panel in everywhere() if panel["title"] in wanted}
    assert found.keys() == wanted
    for panel in found.values():
        assert "explore" in json.dumps(panel) or panel["targets"][0]["queryType"] == "traceql"


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"q{number}", "expr": filled(query)} for number, (_, query, _) in enumerate(PROMQL)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    answer = subprocess.run(
        [require_program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_published_grammars_understand_every_query() -> None:
    queries = [
        (language, filled(query), place)
        for language, found in (("promql", PROMQL), ("logql", LOGQL), ("traceql", TRACEQL))
        for place, query, _ in found
    ]
    queries += [("promql", filled(selector), uid) for uid, selector in variable_selectors()]
    broken = [("promql", "sum(rate(x[5m])"), ("logql", '{a="b"} | | c'), ("traceql", "{ status = && }")]
    *errors, first, second, third = errors_in([(language, query) for language, query, _ in queries] + broken)
    assert [(place, query) for (_, query, place), count in zip(queries, errors, strict=True) if count] == []
    assert min(first, second, third) > 0


def test_the_published_types_know_every_field_and_no_misspelt_one() -> None:
    broken = json.loads(json.dumps(DASHBOARDS["catalog-sync"]))
    panels(broken)[0]["fieldConfig"]["defaults"]["untis"] = "s"
    errors = type_errors(DASHBOARDS | {"broken": broken}).splitlines()
    assert len(errors) == 1
    assert "'\"untis\"' does not exist" in errors[0]


def test_foreign_names_are_those_that_the_sdk_defines() -> None:
    """The semantic conventions that are installed hold every name; so does what an update renames."""
    from opentelemetry.semconv._incubating.metrics import otel_metrics

    defined = {value for key, value in vars(otel_metrics).items() if key.startswith("OTEL_SDK_")}
    assert {metric.name for metric in foreign.SDK} <= defined
