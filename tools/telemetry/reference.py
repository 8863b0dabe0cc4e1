"""The telemetry reference: docs/telemetry.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tools.telemetry import registry
from tools.telemetry.registry import Entry, Registry, members, value_type

TARGET: Final = registry.ROOT.parent / "docs" / "telemetry.md"
_PARTS: Final = (
    ("The library: `otel_resilience`", "resilience"),
    ("The application: `catalog_sync`", "catalog"),
    ("The simulator: `esim_go_simulator`", "simulator"),
)
_INTRODUCTION: Final = """\
# Telemetry reference

This page lists every span, event, metric and attribute that the library, the application and the simulator emit.
[conventions.md](conventions.md) explains the choices and lists the names in other libraries;
[telemetry-changes.md](telemetry-changes.md) lists the changes from version to version. `make docs` generates this page
from the registry in [telemetry/](../telemetry), which uses the definition format of
[OpenTelemetry Weaver](https://github.com/open-telemetry/weaver). The schema URL of library and application is
`{schema_url}`.

Names are API. Durations are in seconds. The values of attributes on metrics are bounded, so that the number of series
cannot grow without limit: dependencies, operations or error types beyond the bounds are reported as `_OTHER`. An
attribute is always present unless a condition is given."""
_CLOSING: Final = """
Events are log records with an event name, in the context of the span to which they belong. Unless
`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` is set, events about failures are also added to the span. Each event is one
record. If a logger provider is set (and the SDK is not disabled), it goes to the Logs API; otherwise it goes to the
standard loggers `otel_resilience.events` and `catalog_sync.events`, with the name in `otel.event.name` and the
attributes in `otel.attributes`. The programs of `catalog-sync` additionally write each event as a line of their log.

If a dependency has several breakers, `resilience.circuit_breaker.status` shows the worst of their states, in the order
forced open, open, half-open, shadow and closed. If it has several retry budgets, the emptiest is shown. A breaker or
budget that is no longer in use is not shown.

## Values

`error.type` is an HTTP status code; `redis_` followed by the lower-case prefix of a Redis reply; `_OTHER`; or one of
the names listed here.
"""


def render() -> str:
    """The reference as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.format(schema_url=registry.schema_url())
    everything = registry.load()
    for title, part in _PARTS:
        names = registry.load(part)
        yield f"\n## {title}"
        yield from _table(
            "Spans", ("name", "kind", "attributes", "meaning"), (_span(s, everything) for s in names.spans)
        )
        head = ("event name", "severity", "attributes", "meaning")
        yield from _table("Events", head, (_event(event, everything) for event in names.events))
        head = ("name", "instrument, unit", "attributes", "meaning")
        yield from _table("Metrics", head, (_metric(metric, everything) for metric in names.metrics))
        head = ("key", "type", "examples", "meaning")
        yield from _table("Attributes", head, map(_attribute, names.attributes.values()))
    yield _CLOSING
    yield from _values(everything)


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if lines:
        yield f"\n### {title}\n\n| {' | '.join(head)} |\n{'|' + '---|' * len(head)}"
        yield from lines


def _span(span: Entry, names: Registry) -> tuple[str, ...]:
    name = span["name"]["note"].replace("{resilience.", "{")
    return f"`{name}`", span["kind"].upper(), _refs(span, names), _meaning(span)


def _event(event: Entry, names: Registry) -> tuple[str, ...]:
    return f"`{event['name']}`", event["annotations"]["severity"], _refs(event, names), _meaning(event)


def _metric(metric: Entry, names: Registry) -> tuple[str, ...]:
    unit = f"{metric['instrument']}, {metric['unit']}"
    return f"`{metric['name']}`", unit, _refs(metric, names), _meaning(metric)


def _attribute(attribute: Entry) -> tuple[str, ...]:
    kind = "one of its [values](#values)" if members(attribute) else value_type(attribute)
    examples = ", ".join(f"`{example}`" for example in attribute.get("examples", ()))
    return f"`{attribute['key']}`", kind, examples, _meaning(attribute)


def _refs(signal: Entry, names: Registry) -> str:
    return ", ".join(f"`{ref['ref']}`{_condition(ref)}" for ref in names.refs(signal))


def _condition(ref: Entry) -> str:
    level = ref.get("requirement_level")
    if not isinstance(level, dict):
        return ""
    text: str = level["conditionally_required"]
    return f" ({text[0].lower()}{text[1:].rstrip('.')})"


def _meaning(entry: Entry) -> str:
    return " ".join(f"{entry['brief']} {entry.get('note', '')}".split())


def _values(names: Registry) -> Iterator[str]:
    for key, attribute in names.attributes.items():
        if members(attribute):
            yield f"- `{key}`: {_members(members(attribute))}"
    by_key: dict[str, list[str]] = {}
    for key, vocabulary in names.vocabularies():
        by_key.setdefault(key, []).append(_members(vocabulary["members"]))
    for key, lists in sorted(by_key.items()):
        yield f"- `{key}`: {'; the application adds '.join(reversed(lists))}"


def _members(entries: list[Entry]) -> str:
    return ", ".join(f"`{entry.get('value', entry['id'])}`" for entry in entries)
