"""Panels as plain dictionaries. Every panel answers a question, has a unit and a description."""

from __future__ import annotations

from typing import Any, Final

from grafana.generate import links
from grafana.generate.names import label
from grafana.generate.promql import OF_JOB, match

from otel_resilience.telemetry.contract import ATTEMPT_SPAN

Panel = dict[str, Any]
Target = dict[str, Any]

PROMETHEUS: Final = {"type": "prometheus", "uid": "${prometheus_datasource}"}
LOKI: Final = {"type": "loki", "uid": "${loki_datasource}"}
TEMPO: Final = {"type": "tempo", "uid": "${tempo_datasource}"}
MIXED: Final = {"type": "datasource", "uid": "-- Mixed --"}

_TRACE_ID_WIDTH: Final = 290
"""Pixels of 32 digits: a trace ID that is cut cannot be copied."""
_FULL: Final = 24
"""Columns of the whole width."""
_MOST_FILTERED: Final = 8
"""Columns of a table of full width whose headings have room for the sign of a filter."""

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"
UNKNOWN: Final = "#5a606a"
"""Behind a number that is not there: neither good nor bad."""
_NUMBERS: Final = "Bundles|Set aside|Groups (stale|failed)|Attempts|Retries|Failures|Calls|Probes|Value"
"""Headings of columns that hold counts. Everything else is text: of ``short`` numbers 5,200 would be 5.20 K, and of
fingerprints one that happens to read as a number would be one."""


def prom(expr: str, legend: str = "", *, instant: bool = False, table: bool = False) -> Target:
    """A PromQL query."""
    target = {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "exemplar": False,
        "instant": instant,
        "range": not instant,
    }
    return target | ({"legendFormat": legend} if legend else {}) | ({"format": "table"} if table else {})


def dots(*matchers: str) -> Target:
    """Example traces of the spans that match. All of them can be opened: these series know kept traces only.

    Grafana looks for exemplars where the query has its selectors; no duration is negative, so that no line is drawn.
    """
    kept = OF_JOB.named("traces_kept_duration_seconds_bucket", *matchers)
    return prom(f"{kept} < 0") | {"exemplar": True}


FAILED_ATTEMPTS: Final = (match("span.name", ATTEMPT_SPAN), 'status_code="STATUS_CODE_ERROR"')
"""For :func:`dots`."""
OF_DEPENDENCIES: Final = 'resilience_dependency=~"$dependency"'
"""For :func:`dots` if the dashboard has this variable."""


def loki(expr: str, legend: str = "", *, instant: bool = False, limit: int = 100) -> Target:
    """A LogQL query."""
    target = {
        "datasource": LOKI,
        "editorMode": "code",
        "expr": expr,
        "queryType": "instant" if instant else "range",
        "maxLines": limit,
    }
    return target | ({"legendFormat": legend} if legend else {})


def tempo(query: str, *, limit: int = 20) -> Target:
    """A TraceQL search; with ``select(…)`` its rows are spans, with what was selected as columns."""
    rows = "spans" if "select(" in query else "traces"
    return {"datasource": TEMPO, "query": query, "queryType": "traceql", "limit": limit, "tableType": rows}


def thresholds(*steps: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from values on; the first has no value."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def trace_link(field: str = "${__value.raw}", title: str = "Open the trace") -> dict[str, Any]:
    """A data link from a trace ID to its trace."""
    return {"title": title, "url": links.trace(field), "targetBlank": True}


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: list[Target],
    *,
    unit: str,
    options: dict[str, Any],
    defaults: dict[str, Any] | None = None,
    overrides: list[dict[str, Any]] | None = None,
    width: int = 8,
    height: int = 8,
    **extra: Any,
) -> Panel:
    targets = [target | {"refId": letter} for target, letter in zip(targets, "ABCDEFGH", strict=False)]
    sources = [target["datasource"] for target in targets]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": sources[0] if all(source == sources[0] for source in sources) else MIXED,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "noValue": "none"} | (defaults or {}), "overrides": overrides or []},
        "options": options,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
    } | extra


def colors(**by_name: str) -> list[dict[str, Any]]:
    """Fixed colours for series by their display name; ``_`` in a name is literal."""
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in by_name.items()
    ]


def colors_matching(by_pattern: dict[str, str]) -> list[dict[str, Any]]:
    """Fixed colours for series whose display name matches a pattern; the last one that matches counts."""
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/{pattern}/"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for pattern, color in by_pattern.items()
    ]


def timeseries(
    title: str,
    description: str,
    targets: list[Target],
    *,
    unit: str = "locale",
    bars: bool = False,
    lowest: float | None = 0,
    maximum: float | None = None,
    limits: dict[str, Any] | None = None,
    data_links: list[dict[str, Any]] | None = None,
    interval: str = "1m",
    **extra: Any,
) -> Panel:
    """Lines, or stacked bars if each bar counts what fell into its interval. 5,200 is not shown as 5.20 K."""
    custom: dict[str, Any] = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 8,
        "lineWidth": 1,
        "pointSize": 4,
        "showPoints": "never" if bars else "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if bars else "none", "group": "A"},
    }
    if bars:
        # A point counts the interval before it, and so lies its bar.
        custom |= {"barAlignment": -1, "barWidthFactor": 0.9}
    if limits:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        if maximum is None:  # else a line above all values is out of sight
            custom["axisSoftMax"] = limits["steps"][-1]["value"]
    defaults: dict[str, Any] = {"custom": custom, "color": {"mode": "palette-classic"}}
    defaults |= {"min": lowest} if lowest is not None else {}
    defaults |= {"max": maximum} if maximum is not None else {}
    defaults |= {"thresholds": limits} if limits else {}
    defaults |= {"decimals": 0} if bars and unit == "locale" else {}
    defaults |= {"links": data_links} if data_links else {}
    options = {
        "legend": _legend("sum" if bars else "lastNotNull", wide=extra.get("width", 8) == _FULL),
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip
    return _panel(
        "timeseries",
        title,
        description,
        targets,
        unit=unit,
        options=options,
        defaults=defaults,
        interval=interval,
        **extra,
    )


def _legend(calculation: str, *, wide: bool) -> dict[str, Any]:
    """A table beside a panel of full width; elsewhere a list, of which more fits below a panel than of a table."""
    shape = {"displayMode": "table", "placement": "right"} if wide else {"displayMode": "list", "placement": "bottom"}
    return shape | {"showLegend": True, "calcs": [calculation, "max"] if wide else [calculation]}


def stat(
    title: str,
    description: str,
    targets: list[Target],
    *,
    unit: str = "locale",
    limits: dict[str, Any] | None = None,
    mappings: list[dict[str, Any]] | None = None,
    none: str = "none",
    named: bool = False,
    **extra: Any,
) -> Panel:
    """One number, coloured; ``none`` is shown if the query gives nothing. Several have names; one if ``named``.

    Without a value there is no colour, unless nothing at all means zero: it would be that of the lowest threshold.
    """
    absent = {"match": "null+nan", "result": {"text": none, "color": UNKNOWN, "index": len(mappings or [])}}
    unknown = [] if none == "0" else [{"type": "special", "options": absent}]
    defaults: dict[str, Any] = {
        "thresholds": limits or thresholds((None, BLUE)),
        "mappings": [*(mappings or []), *unknown],
        "noValue": none,
        "color": {"mode": "thresholds"},
    }
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": "value_and_name" if named else "auto",
    }
    size = {"width": 4, "height": 4} | extra
    return _panel("stat", title, description, targets, unit=unit, options=options, defaults=defaults, **size)


def bargauge(title: str, description: str, targets: list[Target], *, unit: str = "locale", **extra: Any) -> Panel:
    """Bars side by side, each with its latest value."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "namePlacement": "auto",
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 300,
    }
    defaults = {"min": 0, "thresholds": thresholds((None, BLUE)), "color": {"mode": "thresholds"}}
    return _panel("bargauge", title, description, targets, unit=unit, options=options, defaults=defaults, **extra)


def state_timeline(
    title: str, description: str, targets: list[Target], states: dict[int, tuple[str, str]], **extra: Any
) -> Panel:
    """Which state at which time; ``states`` gives a name and a colour to each value."""
    mapping = {str(value): {"text": text, "color": color, "index": value} for value, (text, color) in states.items()}
    defaults = {
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
        "mappings": [{"type": "value", "options": mapping}],
        "color": {"mode": "thresholds"},
        "thresholds": thresholds((None, GREY)),
    }
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return _panel(
        "state-timeline", title, description, targets, unit="none", options=options, defaults=defaults, **extra
    )


_COUNT: Final = {"id": "unit", "value": "locale"}
_OPEN: Final = {"type": "regex", "options": {"pattern": "^[0-9a-f]{32}$", "result": {"text": "open", "index": 0}}}


def event_table(
    title: str, description: str, query: str, columns: dict[str, str], *, limit: int = 50, **extra: Any
) -> Panel:
    """Events of Loki as rows. ``columns`` maps attributes to headings, in order; each row opens its trace.

    The trace comes first: in a narrow window the last columns are not visible.
    """
    fields = {label(name): heading for name, heading in columns.items()}
    shown = {"Time": "Time", "timestamp": "Time", "trace_id": "Trace"} | fields  # Loki's frames know both names
    order = {name: index for index, name in enumerate(shown)}
    transformations: list[dict[str, Any]] = [
        {"id": "extractFields", "options": {"source": "labels", "format": "json", "keepTime": True, "replace": True}},
        {
            "id": "organize",
            "options": {"includeByName": dict.fromkeys(shown, True), "indexByName": order, "renameByName": shown},
        },
    ]
    overrides: list[dict[str, Any]] = [
        {
            "matcher": {"id": "byName", "options": "Trace"},
            "properties": [
                {"id": "links", "value": [trace_link()]},
                {"id": "mappings", "value": [_OPEN]},  # an ID of 32 digits would be cut
                {"id": "custom.width", "value": 80},
            ],
        },
        {
            # Statuses look like numbers: 503 beside read_timeout.
            "matcher": {"id": "byName", "options": "Error"},
            "properties": [{"id": "custom.align", "value": "left"}, {"id": "custom.width", "value": 140}],
        },
        {
            "matcher": {"id": "byName", "options": "Outcome"},
            "properties": [{"id": "custom.width", "value": 150}],
        },
        {
            "matcher": {"id": "byRegexp", "options": "^(Time|Since)$"},
            "properties": [{"id": "unit", "value": "dateTimeAsIso"}, {"id": "custom.width", "value": 155}],
        },
        {
            "matcher": {"id": "byRegexp", "options": "^(Duration|Delay|Delivery)$"},
            "properties": [{"id": "unit", "value": "s"}],
        },
        {"matcher": {"id": "byRegexp", "options": f"^({_NUMBERS})$"}, "properties": [_COUNT]},
    ]
    filters = len(columns) <= _MOST_FILTERED
    return _table(title, description, [loki(query, limit=limit)], overrides, transformations, filters=filters, **extra)


def metric_table(
    title: str, description: str, query: str, columns: dict[str, str], link: dict[str, Any], **extra: Any
) -> Panel:
    """An instant query as rows: its labels and the value; the value has the ``link``."""
    fields = {label(name): heading for name, heading in columns.items()}
    order = {name: index for index, name in enumerate((*fields, "Value"))}
    transformations = [
        {
            "id": "organize",
            "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": fields},
        },
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "Value", "desc": True}]}},
    ]
    overrides = [
        {"matcher": {"id": "byName", "options": "Value"}, "properties": [{"id": "links", "value": [link]}, _COUNT]}
    ]
    return _table(title, description, [prom(query, instant=True, table=True)], overrides, transformations, **extra)


def trace_table(title: str, description: str, query: str, **extra: Any) -> Panel:
    """Traces that a TraceQL search finds; Tempo's own table links each to its trace."""
    whole = {
        "matcher": {"id": "byName", "options": "Trace ID"},
        "properties": [{"id": "custom.width", "value": _TRACE_ID_WIDTH}],
    }
    return _table(title, description, [tempo(query)], [whole], [], **extra)


def _table(
    title: str,
    description: str,
    targets: list[Target],
    overrides: list[dict[str, Any]],
    transformations: list[dict[str, Any]],
    *,
    filters: bool = True,
    **extra: Any,
) -> Panel:
    options = {"showHeader": True, "cellHeight": "sm"}
    size = {"width": 24, "height": 8} | extra
    custom = {
        "align": "auto",
        "filterable": filters and size["width"] == _FULL,
        "minWidth": 80,
        "cellOptions": {"type": "auto", "wrapText": True},
    }
    defaults = {"custom": custom}
    return _panel(
        "table", title, description, targets, unit="string", options=options, defaults=defaults,
        overrides=overrides, transformations=transformations, **size,
    )  # fmt: skip


def logs(title: str, description: str, query: str, **extra: Any) -> Panel:
    """Log lines as they are, newest first."""
    options = {
        "dedupStrategy": "none",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showTime": True,
        "sortOrder": "Descending",
        "wrapLogMessage": True,
    }
    size = {"width": 24, "height": 8} | extra
    return _panel("logs", title, description, [loki(query)], unit="short", options=options, **size)


def alert_list(title: str, description: str, *, instances: str = "", **extra: Any) -> Panel:
    """Rules that fire or wait, of Grafana's own alerting. ``instances``: those whose labels match, as ``{a!="b"}``."""
    options = {
        "viewMode": "list",
        "groupMode": "default",
        "groupBy": [],
        "maxItems": 20,
        "sortOrder": 1,
        "dashboardAlerts": False,
        "alertName": "",
        "alertInstanceLabelFilter": instances,
        "stateFilter": dict.fromkeys(("firing", "pending", "recovering", "noData", "error"), True) | {"normal": False},
    }  # fmt: skip
    size = {"width": 12, "height": 8} | extra
    panel = {
        "type": "alertlist",
        "title": title,
        "description": description,
        "options": options,
        "fieldConfig": {"defaults": {}, "overrides": []},
    }
    return panel | {"gridPos": {"w": size["width"], "h": size["height"], "x": 0, "y": 0}}
