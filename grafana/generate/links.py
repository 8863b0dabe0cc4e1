"""Links into Grafana's Explore, with holes that Grafana fills in when somebody clicks."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

_HOLE: Final = "HOLE{}HOLE"


def explore(datasource: str, query: dict[str, Any], time_range: tuple[str, str], holes: dict[str, str]) -> str:
    """The path of an Explore page. Words ``{name}`` of the query become ``holes[name]``, which stays unencoded."""
    pane = {
        "datasource": datasource,
        "queries": [{"refId": "A"} | query],
        "range": {"from": time_range[0], "to": time_range[1]},
    }
    text = json.dumps({"t": pane}, separators=(",", ":"))
    for name in holes:
        text = text.replace("{" + name + "}", _HOLE.format(name))
    text = quote(text, safe="")
    for name, content in holes.items():
        text = text.replace(_HOLE.format(name), content)
    return f"/explore?schemaVersion=1&orgId=1&panes={text}"


def trace(trace_id: str, *, datasource: str = "${tempo_datasource}") -> str:
    """A trace by its ID, which is a placeholder that somebody else fills in."""
    query = {"queryType": "traceql", "query": "{trace_id}"}
    return explore("{datasource}", query, ("now-7d", "now"), {"datasource": datasource, "trace_id": trace_id})


ON_DASHBOARD: Final = ("${__from}", "${__to}")
"""The time range of the dashboard that contains the link."""


def traces(
    traceql: str,
    holes: dict[str, str],
    *,
    datasource: str = "${tempo_datasource}",
    time_range: tuple[str, str] = ON_DASHBOARD,
) -> str:
    """A search for traces; words ``{name}`` of the query are filled from ``holes``."""
    query = {"queryType": "traceql", "query": traceql, "limit": 20}
    begin_and_end = {"datasource": datasource, "begin": time_range[0], "end": time_range[1]}
    return explore("{datasource}", query, ("{begin}", "{end}"), begin_and_end | holes)


def logs(logql: str, holes: dict[str, str], *, datasource: str, since: str) -> str:
    """A search for log records, the newest first; words ``{name}`` of the query are filled from ``holes``."""
    query = {"queryType": "range", "expr": logql, "direction": "backward", "editorMode": "code"}
    return explore("{datasource}", query, (since, "now"), {"datasource": datasource} | holes)


def dashboard(uid: str) -> str:
    """One of these dashboards, with the time range of the one that it is opened from."""
    return f"/d/{uid}?${{__url_time_range}}"
