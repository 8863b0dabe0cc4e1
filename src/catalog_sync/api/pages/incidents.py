"""Open incidents, and the history of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from catalog_sync.alerts.overview import DONE
from catalog_sync.api.incidents import LONGEST_SILENCE
from catalog_sync.api.pages.html import Child, Html, h
from catalog_sync.api.pages.parts import dots, facts, many, moment, outside, path, pill, rows
from catalog_sync.domain.times import epoch, is_ahead, roughly
from catalog_sync.history import SyncRecord

Incident = Mapping[str, Any]

_SILENCES: Final = (3600, 14_400, 86_400, 7 * 86_400)
_MOST_ALIKE: Final = 10
INCOMPLETE: Final = "Redis does not answer: incidents of other machines are unknown."


def incident_list(alerts: Mapping[str, Any]) -> Html:
    if not alerts["set_up"]:
        return h("p", "Alerting is not set up.", class_="quiet")
    complete = alerts.get("complete", True)
    empty = "No incident is open." if complete else "None of this machine is open."
    return h(
        "div",
        None if complete else h("p", INCOMPLETE, class_="was"),
        rows([_entry(each) for each in alerts["incidents"]], empty, label="Open incidents"),
    )


def _entry(each: Incident) -> Child:
    return (
        pill(each["severity"]),
        h("a", each["title"], href=path("incidents", each["id"]), class_="what"),
        h("small", dots(many(each.get("count") or 1, "time"), "since ", moment(each["first_seen"]))),
        h("small", "acknowledged") if each.get("acknowledged_at") else None,
    )


def state(each: Incident, *, sync: bool = True, trace: bool = True) -> Html:
    """What is known about an incident, with links to the evidence: to its ``sync`` and ``trace`` if they are kept."""
    links, trace_id = each["links"], each["correlation_id"]
    own = (
        h("a", "the sync", href=path("syncs", trace_id)) if sync else None,
        h("a", "the failed trace", href=path("traces", trace_id)) if trace else None,
    )
    return h(
        "div",
        h("p", pill(each["severity"], "" if each["status"] == "resolved" else None), " ", pill(each["status"])),
        h("p", each["summary"]) if each["summary"] else None,
        facts(
            [
                ("happened", many(each["count"], "time")),
                ("last seen", moment(each["last_seen"])),
                ("dependency", each["dependency"]),
                ("error", each["error_type"]),
                ("came back", many(each["returns"], "time") if each["returns"] else None),
                ("correlation ID", h("span", trace_id, class_="id") if trace_id else None),
                ("fingerprint", h("span", each["fingerprint"], class_="id")),
            ]
        ),
        h(
            "p",
            dots(*own, outside(links["runbook"], "runbook"), outside(links["dashboard"], "dashboard in Grafana")),
            class_="links",
        ),
    )


def timeline(each: Incident) -> Html:
    """What happened when, oldest first."""
    events: list[tuple[str, Child]] = [(each["first_seen"], "first seen")]
    events += [(sent["at"], _sent(sent)) for sent in each["deliveries"]]
    events += [(step["at"], _escalated(step)) for step in each["escalations"]]
    events += [(action["at"], _action(action)) for action in each["actions"]]
    if each["acknowledged_at"] and not any(action["action"] == "ack" for action in each["actions"]):
        events.append((each["acknowledged_at"], "acknowledged"))
    if each["calm_since"] and not each["resolved_at"]:
        events.append((each["calm_since"], "calm since then"))
    if each["resolved_at"]:
        events.append((each["resolved_at"], "resolved"))
    events.sort(key=lambda event: event[0])
    until = each["silenced_until"]
    silenced = until and not each["resolved_at"] and is_ahead(until)
    present = [_unlisted(each), (h("span", "silenced until "), moment(until)) if silenced else None]
    return h(
        "div",
        h("ol", (h("li", moment(at), " ", what) for at, what in events), class_="timeline"),
        h("p", dots(*present)) if any(present) else None,
        h("p", "No receiver has confirmed a message.", class_="quiet") if not each["deliveries"] else None,
    )


def _sent(sent: Mapping[str, Any]) -> Child:
    return f"message {sent['message']} taken by {sent['channel']}, {roughly(sent['seconds'])} after its cause"


def _escalated(step: Mapping[str, Any]) -> Child:
    further = f", {', '.join(step['channels'])} notified too" if step["channels"] else ""
    return f"escalated: {step['severity']}{further}"


def _unlisted(each: Incident) -> str | None:
    """What the record no longer holds, or never held."""
    first = min((sent["message"] for sent in each["deliveries"]), default=0)
    steps = each["escalation"] - len(each["escalations"])
    parts = (
        f"of the first {many(first - 1, 'message')} no confirmation is kept" if first > 1 else None,
        f"escalated {many(steps, 'time')} when that was not kept" if steps > 0 else None,
    )
    return ", ".join(part for part in parts if part) or None


def _action(action: Mapping[str, Any]) -> Child:
    by = f" by {action['by']}" if action["by"] else ""
    reason = f": {action['reason']}" if action["reason"] else ""
    return f"{DONE.get(action['action'], action['action'])}{by}{reason}"


def decisions(each: Incident) -> Html | None:
    """The form with which people decide; it needs the script and the token."""
    if each["status"] == "resolved":
        return None
    silences = [
        h("option", roughly(s), value=str(s), selected=s == _SILENCES[1]) for s in _SILENCES if s <= LONGEST_SILENCE
    ]
    return h(
        "form",
        h("label", "Who ", h("input", type="text", name="by", maxlength=200, autocomplete="name")),
        h("label", "Why ", h("input", type="text", name="reason", maxlength=200)),
        h("label", "Silence for ", h("select", silences, name="for_s")),
        h("span", (_button(*named) for named in _BUTTONS), class_="actions"),
        h("p", role="status", class_="said", id="said"),
        class_="script act decide",
        data_path=path("incidents", each["id"]),
    )  # fmt: skip


_BUTTONS: Final = (("ack", "Acknowledge"), ("silence", "Silence"), ("close", "Close"), ("resend", "Send again"))


def _button(action: str, text: str) -> Html:
    return h("button", text, type="submit", name="action", value=action, class_=None if action == "ack" else "second")


def alike(each: Incident, records: Sequence[SyncRecord]) -> Html:
    """Earlier syncs that failed in the same way."""
    found = [
        record
        for record in records
        if record.failed
        and record.correlation_id != each["correlation_id"]
        and epoch(record.ended_at) < epoch(each["first_seen"])
        and each["error_type"] in record.error_types
    ][:_MOST_ALIKE]
    items: list[Child] = [
        (
            pill(record.outcome.value),
            h("a", moment(record.ended_at), href=path("syncs", record.correlation_id), class_="what"),
            h("small", f"took {roughly(record.duration_s)}"),
        )
        for record in found
    ]
    return rows(items, "No earlier sync that is kept failed in this way.", label="Earlier syncs with the same failure")
