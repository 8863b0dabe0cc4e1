"""The incidents as data: complete, and with existing alerts."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from drill.incidents import EVERYDAY, INCIDENTS, Incident, chosen, playable
from drill.pace import Pace, application
from grafana.generate.rules import all_rules
from grafana.generate.settings import Settings

from catalog_sync.alerts import outcomes
from esim_go_simulator.faults import parse_scenario
from otel_resilience.alerting import sources

RULES = {rule.name: rule for rule in all_rules(Settings())}
INCIDENT_NAMES = [
    "outage", "brownout", "429-storm", "bad-payload", "key-revoked", "redis-down", "redis-full", "stale-catalogue",
    "refused-publication", "webhook-down", "collector-down", "job-never-ran", "stores-down", "log-store-dead",
    "trace-store-dead", "clock-off", "operators-mistake", "workers-outage",
]  # fmt: skip


def each(incident: Incident) -> str:
    return incident.name


def test_the_twelve_and_what_they_could_not_show_are_played() -> None:
    assert [incident.name for incident in INCIDENTS] == INCIDENT_NAMES


@pytest.mark.parametrize("incident", INCIDENTS, ids=each)
def test_its_rules_exist_and_one_of_them_leads_to_a_trace_where_there_is_one(incident: Incident) -> None:
    expected = incident.expectation
    assert expected.silent is not bool(expected.rules)
    assert expected.rules | expected.every | expected.also <= RULES.keys()
    if expected.shows:
        assert all(RULES[name].trace for name in expected.rules)


@pytest.mark.parametrize("incident", INCIDENTS, ids=each)
def test_its_kinds_are_those_of_the_application(incident: Incident) -> None:
    of_library = {sources.CIRCUIT_BREAKER, sources.AUTHENTICATION, sources.CONTRACT_DRIFT, sources.ERRORS}
    known = {*outcomes.KINDS, *of_library}
    assert incident.expectation.kinds | incident.expectation.also_kinds <= known


def test_the_calm_is_a_scenario_of_the_simulator() -> None:
    assert parse_scenario(EVERYDAY).name == "everyday"


@pytest.mark.parametrize("waits", [1.0, 1.5, 3.0])
def test_what_is_slow_in_the_brownout_takes_longer_than_an_attempt_at_every_pace(waits: float) -> None:
    played: list[Any] = []
    world: Any = SimpleNamespace(pace=Pace(waits), supplier=SimpleNamespace(play=played.append))
    [brownout] = chosen(short=False, names=["brownout"])
    brownout.begin(world)
    attempt = int(application(Pace(waits))["CATALOG_ATTEMPT_TIMEOUT_MS"]) / 1000
    assert attempt < played[0]["rules"][0]["delay_s"] < 2 * attempt


def test_the_shortened_drill_is_an_outage_a_key_and_a_job() -> None:
    names = [incident.name for incident in chosen(short=True, names=[])]
    assert names == ["outage", "key-revoked", "job-never-ran"]


def test_incidents_can_be_named() -> None:
    assert [incident.name for incident in chosen(short=False, names=["redis-full", "outage"])] == [
        "redis-full",
        "outage",
    ]


def test_an_incident_whose_program_is_missing_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    able, lines = playable(INCIDENTS)
    assert [incident.name for incident in INCIDENTS if incident not in able] == ["clock-off"]
    assert lines == ["clock-off is left out: the program cc is not here"]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert playable(INCIDENTS) == (list(INCIDENTS), [])


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=re.escape("no incident 'fire'; there are: outage, ")):
        chosen(short=False, names=["fire"])


class World:
    """Records which fault is switched."""

    def __init__(self) -> None:
        self.turned: list[Any] = []

    @property
    def supplier(self) -> World:
        return self

    def play(self, scenario: Any) -> None:
        self.turned.append(scenario)


def test_what_a_scenario_begins_calm_ends() -> None:
    world: Any = World()
    outage = INCIDENTS[0]
    outage.begin(world)
    outage.end(world)
    assert world.turned == ["outage", "calm"]


@pytest.mark.parametrize("incident", INCIDENTS, ids=each)
def test_what_is_prepared_for_an_incident_is_undone_after_it(incident: Incident) -> None:
    assert (incident.prepare is None) is (incident.restore is None)
