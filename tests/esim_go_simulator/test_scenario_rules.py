"""When a rule fires: pure, with the time passed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator.faults import FaultPlan, Incoming, parse_scenario
from esim_go_simulator.scenarios import NAMES, built_in, load_scenario

GROUPS = ("A", "B", "C")


def plan(*conditions: dict[str, Any], seed: int = 0) -> FaultPlan:
    rules = [{"fault": "status", "status": 500 + number, "when": when} for number, when in enumerate(conditions)]
    return FaultPlan(parse_scenario({"rules": rules, "seed": seed}), started=100.0)


def page(number: int, group: str | None = "A", method: str = "GET") -> Incoming:
    return Incoming("catalogue", method, f"/catalogue?page={number}&group={group}", group, number)


def fires(script: FaultPlan, *requests: Incoming, now: float = 100.0) -> list[bool]:
    return [script.decide(request, now, GROUPS) is not None for request in requests]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({}, [True] * 6),
        ({"endpoint": "groups"}, [False] * 6),
        ({"endpoint": ["groups", "catalogue"]}, [True] * 6),
        ({"method": "get"}, [True] * 6),
        ({"method": "POST"}, [False] * 6),
        ({"page": 2}, [False, True, False, False, True, False]),
        ({"page": [1, 3]}, [True, False, True, True, False, True]),
        ({"from_page": 2}, [False, True, True, False, True, True]),
        ({"from_page": 2, "until_page": 2}, [False, True, False, False, True, False]),
        ({"nth": [1, 4]}, [True, False, False, True, False, False]),
        ({"skip": 4}, [False] * 4 + [True] * 2),
        ({"every": 3}, [False, False, True, False, False, True]),
        ({"skip": 1, "every": 2}, [False, False, True, False, True, False]),
        ({"count": 2}, [True, True] + [False] * 4),
        ({"attempt": 1}, [True] * 3 + [False] * 3),
        ({"attempt": 2, "page": 3}, [False] * 5 + [True]),
        ({"probability": 0}, [False] * 6),
    ],
)
def test_a_rule_fires_when_all_its_conditions_hold(when: dict[str, Any], expected: list[bool]) -> None:
    assert fires(plan(when), *(page(number) for number in (1, 2, 3, 1, 2, 3))) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("B", [False, True, False]), (0, [True, False, False]), (-1, [False, False, True]),
     (["A", -1], [True, False, True]), (9, [False, False, True]), ("D", [False] * 3)],
)  # fmt: skip
def test_groups_are_named_or_counted(wanted: object, expected: list[bool]) -> None:
    assert fires(plan({"group": wanted}), *(page(1, group) for group in GROUPS)) == expected
    assert fires(plan({"group": wanted}), page(1, None)) == [False]


def test_time_counts_from_when_the_scenario_was_set() -> None:
    script = plan({"after_s": 2, "until_s": 5})
    assert [fires(script, page(1), now=now)[0] for now in (100.0, 101.9, 102.0, 104.9, 105.0)] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_the_first_rule_that_fires_decides_and_the_later_ones_do_not_count() -> None:
    script = plan({"page": 1}, {})
    decided = [script.decide(page(number), 100.0, GROUPS) for number in (1, 2)]
    assert [rule and rule.status for rule in decided] == [500, 501]
    assert script.fired() == [
        {"fault": "status", "matched": 1, "fired": 1},
        {"fault": "status", "matched": 1, "fired": 1},
    ]


def test_probability_depends_on_the_seed_and_the_request_but_not_on_the_order() -> None:
    pages = [page(number) for number in range(1, 501)]
    drawn = fires(plan({"probability": 0.3}), *pages)
    assert 100 <= sum(drawn) <= 200
    assert list(reversed(fires(plan({"probability": 0.3}), *reversed(pages)))) == drawn
    assert fires(plan({"probability": 0.3}, seed=1), *pages) != drawn


def test_faults_of_pages_do_not_fire_elsewhere() -> None:
    groups = Incoming("groups", "GET", "/organisation/groups", None, None)
    for fault in ("null_bundles", "contradiction", "repeated_page", "paging_drift", "bad_rows", "string_prices"):
        script = FaultPlan(parse_scenario({"rules": [{"fault": fault}]}), started=0.0)
        assert fires(script, groups, page(1)) == [False, True]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ([], "scenario"),
        ({"rules": [{"fault": "fire"}]}, "rules.0.fault"),
        ({"rules": [{"fault": "hang", "when": {"pages": 1}}]}, "rules.0.when.pages"),
        ({"rules": [{"fault": "status", "status": 200}]}, "rules.0.status"),
        ({"rules": [{"fault": "hang", "when": {"after_s": 5, "until_s": 5}}]}, "rule 1: until_s"),
        ({"rules": [{"fault": "bad_rows", "ratio": 2}]}, "rules.0.ratio"),
        ({"catalogue": {"withdraw_ratio": -1}}, "catalogue.withdraw_ratio"),
    ],
)
def test_a_wrong_scenario_is_refused_with_one_line_naming_the_field(data: object, named: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the scenario is not valid: .+$") as caught:
        parse_scenario(data)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_built_in_scenario_is_valid_and_documented() -> None:
    document = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
    for name in NAMES:
        assert built_in(name).description
        assert f"`{name}`" in document


def test_a_scenario_comes_by_name_or_from_a_file(tmp_path: Path) -> None:
    assert load_scenario("flaky") == built_in("flaky")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"rules": [{"fault": "hang"}]}))
    assert load_scenario(str(file)).name == "mine"
    file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"mine\.json is not a scenario"):
        load_scenario(str(file))
    with pytest.raises(ConfigurationError, match="no scenario 'nothing'; there are: calm"):
        load_scenario("nothing")
