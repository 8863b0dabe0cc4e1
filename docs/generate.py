"""Writes the references that follow from the code: telemetry.md. ``--check`` only says whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from catalog_sync.observability import contract as catalog
from otel_resilience.classification import error_types
from otel_resilience.telemetry import contract as resilience
from otel_resilience.telemetry.contract import Event, Metric, Span

TARGET = Path(__file__).with_name("telemetry.md")


def render() -> str:
    """The telemetry reference as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Telemetry reference"
    yield ""
    yield (
        "Generated from the name lists in `otel_resilience.telemetry.contract` and"
        " `catalog_sync.observability.contract` by `make docs`."
    )
    yield "Names are API. Durations are in seconds. Attributes come from closed sets, so that no metric grows for ever:"
    yield "further dependencies, operations or error types than the bounds allow are reported as `_OTHER`."
    for title, module in (("The library", resilience), ("The application", catalog)):
        yield ""
        yield f"## {title}: `{module.SCOPE}`"
        yield from _table("Spans", ("name", "kind", "attributes", "meaning"), map(_span, module.SPANS))
        yield from _table("Events", ("event name", "severity", "attributes", "meaning"), map(_event, module.EVENTS))
        head = ("name", "instrument, unit", "attributes", "meaning")
        yield from _table("Metrics", head, map(_metric, module.METRICS))
    yield ""
    yield "Events are log records with an event name, in the context of the span that they belong to. Unless"
    yield "`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` is set, those about failures also stand on the span. Each is"
    yield "one record: through the Logs API where a logger provider is set (and the SDK is not disabled), else"
    yield "through the standard loggers `otel_resilience.events` and `catalog_sync.events`, with the name in"
    yield "`otel.event.name` and the attributes in `otel.attributes`. The programs of `catalog-sync` write each as a"
    yield "line of their log as well."
    yield ""
    yield "Several breakers of one dependency show the worst of their states as"
    yield f"`{resilience.BREAKER_STATUS.name}`: forced open before open, half-open, shadow and closed. Several retry"
    yield "budgets of one dependency show the emptiest. A breaker or budget that is no longer in use is not shown."
    yield ""
    yield "## Values"
    yield ""
    yield f"- `{resilience.OUTCOME}`: {_names(resilience.OUTCOMES)}"
    yield f"- `{resilience.RETRY_SOURCE}`: {_names(resilience.RETRY_SOURCES)}"
    yield f"- `{resilience.SUPPRESS_REASON}`: {_names(resilience.SUPPRESS_REASONS)}"
    yield f"- `{resilience.FAULT_INJECTED}`: {_names(resilience.FAULTS)}"
    yield f"- `{resilience.LIMIT}`: {_names(resilience.LIMITS)}"
    yield f"- `{resilience.ERROR_TYPE}`: an HTTP status code; a Redis reply as `redis_` and its lower-case prefix; or"
    yield f"  {_names(sorted(error_types.NAMES))}; the application adds {_names(catalog.ERROR_TYPES)}"


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield f"### {title}"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _span(span: Span) -> tuple[str, ...]:
    return f"`{span.name}`", span.kind, _names(span.attributes), span.description


def _event(event: Event) -> tuple[str, ...]:
    return f"`{event.name}`", event.severity, _names(event.attributes), event.description


def _metric(metric: Metric) -> tuple[str, ...]:
    return f"`{metric.name}`", f"{metric.kind}, {metric.unit}", _names(metric.attributes), metric.description


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> int:
    """Writes or checks the file; 1 where a check finds it out of date."""
    text = render()
    if "--check" in sys.argv[1:]:
        current = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        if not current:
            sys.stderr.write(f"{TARGET.name} is out of date: run `make docs`\n")
        return 0 if current else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
