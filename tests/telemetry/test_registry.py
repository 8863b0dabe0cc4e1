"""The registry of names is well formed, agrees with the code, and everything generated from it is current."""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from opentelemetry.semconv.schemas import Schemas
from tools.telemetry import registry
from tools.telemetry.__main__ import generated
from tools.telemetry.registry import Entry, generation, members

from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.observability import contract as catalog
from catalog_sync.supplier.port import QuarantineReason
from otel_resilience import BreakerState, ErrorClass, Severity
from otel_resilience.alerting.model.alert import Status
from otel_resilience.circuitbreaker.states import TransitionReason
from otel_resilience.classification import error_types
from otel_resilience.telemetry import contract as resilience
from support.conventions import foreign_attributes, foreign_metrics, imported

SCHEMAS = registry.ROOT.parents[1] / "shared" / "data"
FILES = sorted(registry.ROOT.rglob("*.yaml"))
NAMES = registry.load()
NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
SIGNALS = [*NAMES.spans, *NAMES.events, *NAMES.metrics]


def schema(name: str) -> Any:
    path = SCHEMAS / name
    if not path.exists():
        pytest.skip(f"the JSON schemas of the definition format are not in {SCHEMAS}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(registry.ROOT).as_posix())
def test_each_file_has_the_definition_format(path: Path) -> None:
    content = registry.read(path)
    validator = jsonschema_rs.validator_for(
        schema("definition-manifest.v2.json" if path == registry.MANIFEST else "semconv.schema.v2.json")
    )
    if path == registry.MANIFEST:
        # A schema URL is a text to the tool that reads it; the published schema shows how it is held in memory.
        for holder in (content, *content["dependencies"]):
            holder["schema_url"] = {"url": holder["schema_url"]}
    assert [error.message for error in validator.iter_errors(content)] == []


def test_the_manifest_names_a_version_and_the_conventions_that_the_packages_have() -> None:
    manifest = registry.read(registry.MANIFEST)
    assert re.fullmatch(r"https://[^/]+(/[^/]+)*/\d+\.\d+\.\d+", manifest["schema_url"])
    [conventions] = manifest["dependencies"]
    newest = list(Schemas)[-1].value
    assert conventions["schema_url"] == newest
    assert f"v{newest.rpartition('/')[2]}.zip" in conventions["registry_path"]


def test_every_definition_is_whole() -> None:
    for path in FILES:
        assert path == registry.MANIFEST or registry.read(path)["file_format"] == "definition/2"
    for entry in (*NAMES.attributes.values(), *SIGNALS):
        name = entry.get("key") or entry.get("name") or entry["type"]
        assert entry["stability"] == "development", name
        assert entry["brief"].endswith("."), name
    for key, attribute in NAMES.attributes.items():
        assert NAME.fullmatch(key)
        assert "." in key
        if attribute["type"] in ("string", "int", "double"):
            assert attribute["examples"], key
        values = [(member["id"], member["value"], member["stability"]) for member in members(attribute)]
        assert len({name for name, *_ in values}) == len({value for _, value, _ in values}) == len(values), key
        assert all(NAME.fullmatch(name) for name, *_ in values), key


def test_no_name_is_also_a_namespace() -> None:
    """Neither with our own names nor with those of the semantic conventions."""
    keys = NAMES.attributes.keys() | foreign_attributes().keys()
    spaces = {".".join(key.split(".")[:length]) for key in NAMES.attributes for length in range(1, key.count(".") + 1)}
    assert spaces.isdisjoint(keys)
    metrics = [metric["name"] for metric in NAMES.metrics]
    assert not [(one, other) for one in metrics for other in metrics if other.startswith(f"{one}.")]
    assert len({key.replace(".", "_") for key in NAMES.attributes}) == len(NAMES.attributes)


def test_what_the_conventions_define_is_referenced_and_not_defined_again() -> None:
    foreign = foreign_attributes()
    assert NAMES.attributes.keys().isdisjoint(foreign)
    holders = [*SIGNALS, *NAMES.groups.values()]
    for ref in (ref for holder in holders for ref in NAMES.refs(holder)):
        assert ref["ref"] in NAMES.attributes or foreign[ref["ref"]] is False


def test_what_is_imported_exists() -> None:
    for pattern in imported("metrics"):
        assert fnmatch.filter(foreign_metrics(), pattern)
    for pattern in imported("attribute_groups"):
        name = pattern.removeprefix("registry.").lstrip("*").removesuffix(".registry")
        assert [key for key in foreign_attributes() if key.startswith(f"{name}.")]


def test_names_are_defined_once_and_refer_to_each_attribute_once() -> None:
    for kind in (NAMES.spans, NAMES.events, NAMES.metrics):
        named = Counter(
            signal.get("name") if isinstance(signal.get("name"), str) else signal["type"] for signal in kind
        )
        assert set(named.values()) == {1}
    for signal in SIGNALS:
        assert set(Counter(ref["ref"] for ref in NAMES.refs(signal)).values()) <= {1}
        for ref in NAMES.refs(signal):
            level = ref["requirement_level"]
            assert level in ("required", "recommended", "opt_in") or level["conditionally_required"].endswith(".")
    constants = [generation(metric)["constant"] for metric in NAMES.metrics]
    assert len(constants) == len(set(constants))


def test_metrics_carry_only_what_has_few_values() -> None:
    unbounded = {"resilience.attempt.number", "catalog.version", "correlation.id", "exception.message"}
    free = {"resilience.dependency", "resilience.operation", "resilience.channel", "catalog.group", "error.type"}
    for metric in NAMES.metrics:
        keys = {ref["ref"] for ref in NAMES.refs(metric)}
        assert keys.isdisjoint(unbounded)
        assert all(members(NAMES.attributes[key]) for key in keys - free), metric["name"]


def values(key: str) -> set[str]:
    return {member["value"] for member in members(NAMES.attributes[key])}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("resilience.circuit_breaker.state", BreakerState),
        ("resilience.from", BreakerState),
        ("resilience.to", BreakerState),
        ("resilience.error.severity", Severity),
        ("resilience.severity", Severity),
        ("resilience.alert.status", Status),
        ("catalog.kind", SyncKind),
        ("catalog.outcome", Outcome),
        ("catalog.reason", QuarantineReason),
    ],
)
def test_closed_sets_are_those_of_the_code(key: str, kind: type[Enum]) -> None:
    assert values(key) == {member.value for member in kind}


def test_sets_that_several_signals_share_hold_the_values_of_each() -> None:
    assert values("resilience.reason") == {*TransitionReason, *resilience.ALERT_SUPPRESS_REASONS}
    assert values("resilience.outcome") == {*resilience.OUTCOMES, *resilience.ALERT_OUTCOMES}
    # A cancelled call is never reported as an error.
    assert values("resilience.error.class") == {*ErrorClass} - {ErrorClass.CANCELLED}


def test_generated_sets_are_among_the_values_of_their_attribute() -> None:
    for key, attribute in NAMES.attributes.items():
        for listed in generation(attribute).get("values", {}).values():
            assert set(listed) <= values(key)


def vocabulary(part: str) -> Iterator[Entry]:
    for key, found in registry.load(part).vocabularies():
        if key == "error.type":
            yield from found["members"]


def test_error_types_are_those_of_the_code() -> None:
    ours = {member["id"] for member in vocabulary("resilience")}
    assert ours | {error_types.OTHER} == error_types.NAMES
    assert {member["id"] for member in vocabulary("catalog")} == set(catalog.ERROR_TYPES)
    assert ours.isdisjoint(catalog.ERROR_TYPES)


def test_what_follows_from_the_registry_is_current() -> None:
    stale = [path.name for path, text in generated() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_the_page_of_changes_has_this_version() -> None:
    page = registry.ROOT.parent / "docs" / "telemetry-changes.md"
    newest = re.search(r"^## (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == registry.schema_url().rpartition("/")[2]


def test_library_and_application_name_the_registry() -> None:
    assert resilience.SCHEMA_URL == catalog.SCHEMA_URL == registry.schema_url()
