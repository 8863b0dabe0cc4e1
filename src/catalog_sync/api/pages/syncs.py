"""The list of all syncs, and one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlencode

from catalog_sync.api.pages.html import Child, Html, h
from catalog_sync.api.pages.parts import (
    dots,
    error_text,
    facts,
    many,
    moment,
    number,
    outside,
    path,
    pill,
    rows,
    title_of,
)
from catalog_sync.domain.models import FAILED_OUTCOMES, Outcome, SyncKind
from catalog_sync.domain.times import roughly
from catalog_sync.history.records import ASKED_BY
from catalog_sync.jobs import Job
from otel_resilience.alerting.model.alert import Links

_UNFETCHED = "not fetched"
"""The state of what was waiting or running when its sync ended."""


def filters(chosen: Mapping[str, str | None]) -> Html:
    """The form that filters the list; it works without a script."""
    return h(
        "form",
        _choice("outcome", "Outcome", {each.value: _word(each.value) for each in Outcome}, chosen),
        _choice("kind", "Kind", {each.value: each.value for each in SyncKind}, chosen),
        _choice("trigger", "Asked by", ASKED_BY, chosen),
        h("button", "Show"),
        action="/syncs",
        class_="ask",
    )


def _choice(name: str, label: str, options: Mapping[str, str], chosen: Mapping[str, str | None]) -> Html:
    offered: Iterable[tuple[str, str]] = (("", "all"), *options.items())
    entries = (h("option", text, value=value, selected=value == (chosen[name] or "")) for value, text in offered)
    return h("label", f"{label} ", h("select", entries, name=name))


def _word(text: str) -> str:
    return text.lower().replace("_", " ")


def sync_list(jobs: Sequence[Job], chosen: Mapping[str, str | None], *, limit: int, offset: int) -> Html:
    """One page of the list, with links to the previous and next one."""

    def link(text: str, start: int) -> Html:
        wanted = {name: value for name, value in chosen.items() if value}
        return h("a", text, href=f"/syncs?{urlencode({**wanted, 'limit': limit, 'offset': max(0, start)})}")

    newer = link("newer", offset - limit) if offset else None
    older = link("older", offset + limit) if len(jobs) == limit else None
    return h(
        "div",
        rows([_entry(job) for job in jobs], "No such sync is kept.", label="Syncs"),
        h("p", dots(newer, older)) if newer or older else None,
    )


def _entry(job: Job) -> Child:
    report = job.report or {}
    failed = job.outcome in FAILED_OUTCOMES
    return (
        pill(job.outcome.value if job.outcome else job.status.value),
        h("a", title_of(job), href=path("syncs", job.id), class_="what"),
        h("small", error_text(report["error"])) if report.get("error") else None,
        h(
            "small",
            dots(
                f"asked by {asked_by(job)}",
                moment(job.created_at),
                roughly(report["duration_s"]) if "duration_s" in report else None,
                f"{bundles} bundles" if (bundles := number(report.get("bundles"))) else None,
                h("a", "failed trace", href=path("traces", job.correlation_id)) if failed else None,
            ),
        ),
    )


def asked_by(job: Job) -> str:
    """Who asked for it, for people."""
    return ASKED_BY.get(job.trigger or "", job.trigger or "someone unknown")


def state(job: Job, links: Links) -> Html:
    """What is known about one sync, with the actions available."""
    report = job.report or {}
    holder = report.get("holder")
    error = report.get("error")
    return h(
        "div",
        h("p", pill(job.outcome.value if job.outcome else job.status.value, None if job.outcome else "busy")),
        h("p", error_text(error), class_="verdict") if error else None,
        facts(
            [
                ("asked by", asked_by(job)),
                ("asked", moment(job.created_at)),
                ("started", moment(job.started_at) if job.started_at else None),
                ("ended", moment(job.finished_at) if job.finished_at else None),
                ("took", roughly(report["duration_s"]) if "duration_s" in report else None),
                ("bundles", number(report.get("bundles"))),
                ("requests", number(report.get("attempts"))),
                ("of these repeated", number(report.get("retries"))),
                ("rows set aside", number(report.get("quarantined"))),
                ("lock held by", str(holder.get("owner")) if isinstance(holder, dict) else None),
                ("version", h("span", report["version"], class_="id") if report.get("version") else None),
                ("correlation ID", h("a", job.correlation_id, href=path("traces", job.correlation_id), class_="id")),
            ]
        ),
        h("p", dots(*reading(links)), class_="links"),
        _actions(job),
    )


def reading(links: Links) -> Sequence[Html | None]:
    """Links to other sites."""
    return (
        outside(links.trace, "trace in the tracing tool"),
        outside(links.dashboard, "dashboard in Grafana"),
        outside(links.runbook, "runbook"),
    )


def _actions(job: Job) -> Html | None:
    if not job.status.ended:
        method, text, address = "DELETE", "Cancel", path("syncs", job.id)
    elif job.outcome in FAILED_OUTCOMES or job.outcome is Outcome.SKIPPED_LOCKED or job.outcome is None:
        method, text, address = "POST", "Run it again", "/syncs"
    else:
        return None
    return h(
        "form",
        h("button", text, type="submit"),
        h("p", role="status", class_="said", id="said"),
        class_="script act",
        data_method=method,
        data_path=address,
        data_kind=job.kind.value if method == "POST" else None,
        data_scope=job.scope if method == "POST" else None,
    )


def groups(job: Job) -> Html:
    """The progress of each group, or how it ended."""
    items: list[Child] = [
        (
            pill(_UNFETCHED if job.status.ended and each.status in ("pending", "running") else each.status),
            h("span", each.name, class_="what"),
            h("small", many(each.bundles, "bundle")),
            h("small", error_text(each.error), class_="why") if each.error else None,
        )
        for each in job.groups
    ]
    return rows(items, "They are not known.", label="Groups")
