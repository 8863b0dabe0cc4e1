"""Reads the registry: definitions in the format of OpenTelemetry Weaver, version 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2] / "telemetry"
MANIFEST: Final = ROOT / "manifest.yaml"
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C if it was built: ten times as fast."""

Entry = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Registry:
    """Everything that some files define."""

    attributes: dict[str, Entry]
    """By key."""
    groups: dict[str, Entry]
    """By ID."""
    spans: list[Entry]
    events: list[Entry]
    metrics: list[Entry]

    def refs(self, signal: Entry) -> Iterator[Entry]:
        """The attributes that a signal or a group refers to, groups among them inlined."""
        for ref in signal.get("attributes", ()):
            if "ref_group" in ref:
                yield from self.refs(self.groups[ref["ref_group"]])
            else:
                yield ref

    def vocabularies(self) -> Iterator[tuple[str, Entry]]:
        """The closed sets of values of attributes that are defined elsewhere: key and vocabulary."""
        for group in self.groups.values():
            for ref in self.refs(group):
                if "vocabulary" in ref.get("annotations", {}):
                    yield ref["ref"], ref["annotations"]["vocabulary"]


def load(part: str = "") -> Registry:
    """The definitions of one part, or all: in the order of the files' names, and within a file as they stand."""
    paths = [path for path in sorted(ROOT.rglob("*.yaml")) if path != MANIFEST]
    files = [read(path) for path in paths if path.relative_to(ROOT).with_suffix("").parts[0].startswith(part)]

    def every(section: str) -> list[Entry]:
        return [entry for file in files for entry in file.get(section, ())]

    return Registry(
        attributes={entry["key"]: entry for entry in every("attributes")},
        groups={entry["id"]: entry for entry in every("attribute_groups")},
        spans=every("spans"),
        events=every("events"),
        metrics=every("metrics"),
    )


def read(path: Path) -> Entry:
    """One file."""
    content: Entry = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)  # one of the safe ones
    return content


def schema_url() -> str:
    """The URL that names the registry and its version."""
    return str(read(MANIFEST)["schema_url"])


def generation(entry: Entry) -> Entry:
    """What an entry says to the generator of constants."""
    found: Entry = entry.get("annotations", {}).get("code_generation", {})
    return found


def members(attribute: Entry) -> list[Entry]:
    """The members of an enumeration; none if the attribute is of another type."""
    kind = attribute["type"]
    return list(kind["members"]) if isinstance(kind, dict) else []


def value_type(attribute: Entry) -> str:
    """The type of an attribute's values; an enumeration's are strings."""
    return "string" if members(attribute) else str(attribute["type"])
