"""Workers, queue, dead letters, circuits, retry budgets and the rate limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from catalog_sync.api.pages.html import Child, Html, h
from catalog_sync.api.pages.incidents import INCOMPLETE
from catalog_sync.api.pages.parts import (
    Known,
    dots,
    facts,
    many,
    moment,
    path,
    pill,
    rows,
    section,
    section_of,
    what,
)
from catalog_sync.domain.times import roughly

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

Entry = Mapping[str, Any]


def workers(seen: Known[Entry] | None) -> Html:
    """Workers, the queue, and what they gave up. ``None``: this process runs the syncs itself."""
    if seen is None:
        none = h("p", "There are none: this process runs the requested syncs itself.")
        return section("workers", "Workers", none)
    return section_of("workers", "Workers", seen, _workers)


def _workers(found: Entry) -> Child:
    active, letters = found["active"], found["dead_letters"]
    under_way = h("a", what(active["kind"], active["scope"]), href=path("syncs", active["id"])) if active else "none"
    items = [_worker(each) for each in found["workers"]]
    return (
        h("p", pill("no worker", "bad")) if not items else None,
        rows(items, "No worker has reported in the last 15 seconds.", label="Workers"),
        facts(
            [
                ("under way", under_way),
                ("messages waiting", f"{found['waiting']:,}"),
                ("dead letters", f"{letters['count']:,}"),
            ]
        ),
        h("ul", (h("li", _letter(each)) for each in letters["last"]), class_="rows") if letters["last"] else None,
    )


def _worker(each: Entry) -> Child:
    if each.get("unreadable"):
        return pill("unknown", ""), h("span", str(each["name"]), class_="what")
    since = each.get("since")
    where = f"{each.get('host')}, process {each.get('pid')}"
    return (
        pill("present", "good"),
        h("span", str(each["name"]), class_="what"),
        h("small", dots(where, ("since ", moment(float(since))) if since else None)),
    )


def _letter(each: Entry) -> Child:
    return h("small", " · ".join(f"{name} {value}" for name, value in each.items() if value is not None))


def circuits(seen: Known[Entry], settings: Settings) -> Html:
    """Every circuit, with its failures and the threshold that opens it."""
    threshold, period = settings.breaker.failure_threshold or 1, settings.breaker.monitoring_period

    def show(found: Entry) -> Html:
        items = [_circuit(each, threshold, period) for each in found["breakers"]]
        return rows(items, "Nothing was called yet.", label="Circuits")

    return section_of("circuits", "Circuits", seen, show)


def _circuit(each: Entry, threshold: int, period: float) -> Child:
    calls, failures = each["calls"], each["failures"]
    rate = f"{failures / calls:.0%} of {many(calls, 'call')}" if calls else "no calls"
    word = each["state"]
    tone = "warn" if failures and word in {"CLOSED", "SHADOW"} else "" if not calls and word == "CLOSED" else None
    said = f"{many(failures, 'failure')} of the {threshold:,} that open it"
    wait = each.get("retry_after_s")
    return (
        pill(word, tone),
        h("span", each["dependency"], class_="what"),
        _meter(failures, threshold, said, high_is_bad=True),
        h(
            "small",
            dots(
                f"{said}, {rate} in {roughly(period)}",
                many(each["rejected"], "call") + " refused" if each.get("rejected") else None,
                f"a probe in {roughly(wait)}" if wait else None,
                ("as of ", moment(each["at"])) if each.get("at") else None,
            ),
        ),
    )


def budgets(seen: Known[Entry], settings: Settings) -> Html:
    """Retry budgets and the rate limit."""
    rate = settings.supplier_rate
    limit = facts([("rate limit", f"{rate:g} requests/s to the supplier" if rate else "none")])

    def show(found: Entry) -> Child:
        return rows([_budget(each) for each in found["budgets"]], "None is in use.", label="Budgets"), limit

    return section_of("budgets", "Retry budgets and rate limit", seen, show)


def _budget(each: Entry) -> Child:
    said = f"{each['tokens']:.0f} of {each['capacity']:g} retry tokens left"
    return (
        h("span", each["dependency"], class_="what"),
        _meter(each["tokens"], each["capacity"], said, high_is_bad=False),
        h(
            "small",
            dots(
                said,
                many(each["denied"], "retry").replace("retrys", "retries") + " refused" if each.get("denied") else None,
                ("as of ", moment(each["at"])) if each.get("at") else None,
            ),
        ),
    )


def _meter(value: float, most: float, said: str, *, high_is_bad: bool) -> Html:
    bounds = {"low": 0.4 * most, "high": 0.8 * most, "optimum": 0 if high_is_bad else most}
    return h("meter", value=round(min(value, most), 3), min=0, max=most, aria_label=said, **bounds)


def outbox(seen: Known[Entry]) -> Html:
    """What waits to be delivered to people, and what was given up."""
    return section_of("outbox", "Notifications", seen, _outbox)


def _outbox(found: Entry) -> Child:
    if not found["set_up"]:
        return h("p", "Alerting is not set up.", class_="quiet")
    lost = found["dead_letters"]
    return (
        h("p", pill(many(lost, "dead letter"), "bad")) if lost else None,
        None if found.get("complete", True) else h("p", INCOMPLETE, class_="was"),
        facts(
            [
                ("waiting to be delivered", f"{found['outbox']:,}"),
                ("dead letters", f"{lost:,}"),
                ("open incidents", h("a", f"{len(found['incidents']):,}", href="/incidents")),
            ]
        ),
    )
