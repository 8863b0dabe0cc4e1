"""The links of an alert to its evidence: pages of Explore that search when somebody opens them, never before."""

from __future__ import annotations

from typing import Final

from grafana.generate import links
from grafana.generate.logql import newest
from grafana.generate.rules.model import HOLES, Rule
from grafana.generate.settings import DATASOURCE_UIDS

SINCE: Final = "now-24h"
"""A message may be read the next morning; the newest results come first."""


def links_of(rule: Rule, base: str) -> dict[str, str]:
    """Annotations with the address of each search. ``base`` is Grafana's address, ending in a slash."""
    if rule.trace is None:
        return {}
    holes = {word: f"{{{{ $labels.{label} | urlquery }}}}" for word, label in HOLES.items()}
    traces = links.traces(
        newest(rule.trace.traceql), holes, datasource=DATASOURCE_UIDS["tempo"], time_range=(SINCE, "now")
    )
    logs = links.logs(rule.trace.logql, holes, datasource=DATASOURCE_UIDS["loki"], since=SINCE)
    return {"trace_url": base + traces.removeprefix("/"), "logs_url": base + logs.removeprefix("/")}


def filled(search: str) -> str:
    """A search as an annotation, with the labels of the alert in place."""
    for word, label in HOLES.items():
        search = search.replace("{" + word + "}", f"{{{{ $labels.{label} }}}}")
    return search
