"""The links of an alert to its evidence: pages of Explore that search when somebody opens them, never before."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from grafana.generate import links
from grafana.generate.logql import STREAMS, newest, span_attribute, where
from grafana.generate.promql import DEPLOYMENT_ENVIRONMENT, ENVIRONMENT
from grafana.generate.rules.model import HOLES, Rule, Trace
from grafana.generate.settings import DATASOURCE_UIDS

SINCE: Final = "now-24h"
"""A message may be read the next morning; the newest results come first."""

_NAME: Final = "{name}"
_OF_SPANS: Final = span_attribute(DEPLOYMENT_ENVIRONMENT, _NAME).replace("span.", "resource.", 1) + " && "
_OF_RECORDS: Final = " | " + where(DEPLOYMENT_ENVIRONMENT, _NAME)
"""What limits a search to the environment of the alert, where it has one."""


def links_of(rule: Rule, base: str) -> dict[str, str]:
    """Annotations with the address of each search. ``base`` is Grafana's address, ending in a slash."""
    if rule.trace is None:
        return {}
    holes = {word: f"{{{{ $labels.{label} | urlquery }}}}" for word, label in HOLES.items()}
    traceql, logql = _searches(rule.trace)
    traces = links.traces(
        traceql, holes | _here(_OF_SPANS), datasource=DATASOURCE_UIDS["tempo"], time_range=(SINCE, "now")
    )
    logs = links.logs(logql, holes | _here(_OF_RECORDS), datasource=DATASOURCE_UIDS["loki"], since=SINCE)
    return {"trace_url": base + traces.removeprefix("/"), "logs_url": base + logs.removeprefix("/")}


def texts_of(rule: Rule) -> dict[str, str]:
    """Annotations with the searches themselves, and the labels of the alert in place."""
    if rule.trace is None:
        return {}
    traceql, logql = _searches(rule.trace)
    return {"traceql": _filled(traceql, _OF_SPANS), "logql": _filled(logql, _OF_RECORDS)}


def _searches(trace: Trace) -> tuple[str, str]:
    """With the hole ``{here}`` for the environment."""
    return newest(trace.traceql.replace("{ ", "{ {here}", 1)), trace.logql.replace(STREAMS, STREAMS + "{here}", 1)


def _here(condition: str) -> dict[str, str]:
    """The condition for an address, which holds JSON."""
    before, after = (quote(part.replace('"', '\\"'), safe="") for part in condition.split(_NAME))
    return {"here": _if_set(f"{before}{{{{ . | urlquery }}}}{after}")}


def _if_set(text: str) -> str:
    return f"{{{{ with $labels.{ENVIRONMENT} }}}}{text}{{{{ end }}}}"


def _filled(search: str, condition: str) -> str:
    for word, label in HOLES.items():
        search = search.replace("{" + word + "}", f"{{{{ $labels.{label} }}}}")
    return search.replace("{here}", _if_set(condition.replace(_NAME, "{{ . }}")))
