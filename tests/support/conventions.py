"""Compares what was received over OTLP with the registry of names and OpenTelemetry's semantic conventions.

Checks the same as OpenTelemetry's own checker: whether every name is defined and not deprecated, each value has the
defined type, each metric its instrument and unit, each of our signals what it requires. Stricter in one respect: our
sets of values are closed.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from tools.telemetry import registry
from tools.telemetry.registry import Entry, members, value_type

from otel_resilience.testing import RecordedTelemetry
from support.otlp_sink import OtlpSink, SinkPoint, SinkSpan

OURS: Final = {"otel_resilience": "resilience", "catalog_sync": "catalog"}
"""Instrumentation scopes and their part of the registry."""
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "int": (int,),
    "double": (float,),
    "boolean": (bool,),
    "any": (object,),
}
_NUMBERS: Final = re.compile(r".*\.port|http\.response\.status_code|.*\.size|.*_count|db\.response\.returned_rows")
"""Attributes of the semantic conventions that are whole numbers; no package has their types."""
_TRUTHS: Final = frozenset({"exception.escaped", "messaging.destination.anonymous", "messaging.destination.temporary"})
_ERROR_TYPES_ELSEWHERE: Final = re.compile(r"\d{3}|redis_[a-z0-9]+|_OTHER")
_NAMES: Final = registry.load()


def sink_of(recorded: RecordedTelemetry) -> OtlpSink:
    """Telemetry that was recorded in memory, as it would arrive over OTLP."""
    sink = OtlpSink()
    metrics = recorded._reader.get_metrics_data()
    sink.receive("/v1/traces", encode_spans(recorded.spans).SerializeToString(), "")
    sink.receive("/v1/logs", encode_logs(recorded.events).SerializeToString(), "")
    if metrics is not None:
        sink.receive("/v1/metrics", encode_metrics(metrics).SerializeToString(), "")
    return sink


def findings(sink: OtlpSink) -> list[str]:
    """What is wrong with the telemetry in the sink, without repetitions."""
    return sorted(set(_findings(sink)))


def _findings(sink: OtlpSink) -> Iterator[str]:
    for span in sink.spans:
        where = f"span {span.name}"
        yield from _attributes(where, span.attributes)
        yield from _attributes("resource", span.resource)
        if span.scope in OURS and span.kind == "INTERNAL":
            yield from _signal(where, _span(span), span.attributes)
        for name, attributes in span.events:
            yield from _event(f"event {name} on {where}", name, span.scope, attributes)
    for log in sink.logs:
        yield from _attributes("resource", log.resource)
        yield from _event(f"log {log.event_name or log.scope}", log.event_name, log.scope, log.attributes)
    for point in sink.points:
        yield from _attributes("resource", point.resource)
        yield from _attributes(f"metric {point.name}", point.attributes)
        yield from _metric(point)


def _event(where: str, name: str, scope: str, attributes: Entry) -> Iterator[str]:
    yield from _attributes(where, attributes)
    if name and (scope in OURS or where.startswith("log ")):
        defined = next((event for event in _NAMES.events if event["name"] == name), None)
        yield from _signal(where, defined, attributes)


def _metric(point: SinkPoint) -> Iterator[str]:
    where = f"metric {point.name}"
    instrument = ("counter" if point.monotonic else "updowncounter") if point.kind == "sum" else point.kind
    if point.name.startswith(tuple(f"{part}." for part in OURS.values())):
        defined = next((metric for metric in _NAMES.metrics if metric["name"] == point.name), None)
        yield from _signal(where, defined, point.attributes)
        expected = (defined["instrument"], defined["unit"]) if defined else None
    else:
        expected = foreign_metrics().get(point.name)
        if not any(fnmatch.fnmatchcase(point.name, pattern) for pattern in imported("metrics")):
            yield f"{where}: not imported"
    if expected is None:
        yield f"{where}: not defined"
    elif expected != (instrument, point.unit):
        yield f"{where}: {instrument}, {point.unit} instead of {', '.join(expected)}"


def _span(span: SinkSpan) -> Entry | None:
    named = _spans_of(span.scope)
    return named.get(span.name, named.get("{dependency} {operation}"))


@functools.cache
def _spans_of(scope: str) -> dict[str, Entry]:
    return {registry.generation(each)["name"]: each for each in registry.load(OURS[scope]).spans}


def _signal(where: str, defined: Entry | None, attributes: Entry) -> Iterator[str]:
    if defined is None:
        yield f"{where}: not defined"
        return
    refs = {ref["ref"]: ref for ref in _NAMES.refs(defined)}
    for key in attributes.keys() - refs.keys():
        yield f"{where}: {key} is not listed for it"
    if not _known_error_type(attributes.get("error.type", "_OTHER")):
        yield f"{where}: error.type {attributes['error.type']!r} is not in the vocabulary"
    for key, ref in refs.items():
        if ref.get("requirement_level") == "required" and key not in attributes:
            yield f"{where}: {key} is missing"


def _attributes(where: str, attributes: Entry) -> Iterator[str]:
    for key, value in attributes.items():
        ours = _NAMES.attributes.get(key)
        if ours is None:
            deprecated = foreign_attributes().get(key)
            if deprecated is not False:
                yield f"{where}: {key} is {'not defined' if deprecated is None else 'deprecated'}"
            elif key.partition(".")[0] not in _imported_namespaces():
                yield f"{where}: {key} is not imported"
            elif not isinstance(value, expected := _foreign_type(key)) or (isinstance(value, bool) and expected is int):
                yield f"{where}: {key} is {type(value).__name__} instead of {expected}"
            continue
        if not isinstance(value, _TYPES[value_type(ours)]) or (isinstance(value, bool) and ours["type"] == "int"):
            yield f"{where}: {key} is {type(value).__name__} instead of {value_type(ours)}"
        allowed = {member["value"] for member in members(ours)}
        if allowed and value not in allowed:
            yield f"{where}: {key} {value!r} is not among its values"


def _foreign_type(key: str) -> type | tuple[type, ...]:
    if key in _TRUTHS:
        return bool
    return int if _NUMBERS.fullmatch(key) else (str, list)


def _known_error_type(value: Any) -> bool:
    return isinstance(value, str) and (value in _error_types() or _ERROR_TYPES_ELSEWHERE.fullmatch(value) is not None)


@functools.cache
def _error_types() -> set[str]:
    return {member["id"] for key, one in _NAMES.vocabularies() if key == "error.type" for member in one["members"]}


@functools.cache
def imported(section: str) -> list[str]:
    """The patterns of what the registry imports from the semantic conventions."""
    patterns: list[str] = registry.read(registry.ROOT / "foreign.yaml")["imports"][section]
    return patterns


@functools.cache
def _imported_namespaces() -> set[str]:
    """The first parts of the attributes that are imported: of ``http`` for the group ``registry.http``."""
    return {pattern.removeprefix("registry.").lstrip("*").partition(".")[0] for pattern in imported("attribute_groups")}


@functools.cache
def foreign_attributes() -> dict[str, bool]:
    """The attributes of the semantic conventions, and whether they are deprecated."""
    found: dict[str, bool] = {}
    for folder in ("opentelemetry.semconv._incubating.attributes", "opentelemetry.semconv.attributes"):
        for name, text in _constants(folder):
            found[name] = text.startswith("Deprecated:")
    return found


@functools.cache
def foreign_metrics() -> dict[str, tuple[str, str]]:
    """Instrument and unit of the metrics of the semantic conventions."""
    found: dict[str, tuple[str, str]] = {}
    for folder in ("opentelemetry.semconv._incubating.metrics", "opentelemetry.semconv.metrics"):
        for name, text in _constants(folder):
            described = dict(re.findall(r"^(Instrument|Unit): (\S+)", text, re.MULTILINE))
            if len(described) == 2:
                found[name] = (described["Instrument"], described["Unit"])
    return found


def _constants(package: str) -> Iterator[tuple[str, str]]:
    """The values of the constants of all modules of a package, each with the docstring below it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    for module in pkgutil.iter_modules(spec.submodule_search_locations):
        body = ast.parse(Path(spec.submodule_search_locations[0], f"{module.name}.py").read_text("utf-8")).body
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.AnnAssign) and isinstance(value, ast.Constant):
                text = (
                    getattr(getattr(following, "value", None), "value", "") if isinstance(following, ast.Expr) else ""
                )
                yield str(value.value), str(text).strip()
