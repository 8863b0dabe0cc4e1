"""The endpoints of the pages."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query
from pydantic import BeforeValidator
from starlette.responses import RedirectResponse, Response

from catalog_sync.alerts.links import links_of
from catalog_sync.api.incidents import IncidentId
from catalog_sync.api.pages import incidents, syncs, system, traces
from catalog_sync.api.pages.chart import chart
from catalog_sync.api.pages.frame import page, problem_page
from catalog_sync.api.pages.html import Child, Html, h
from catalog_sync.api.pages.parts import Known, known, path, section, section_of, title_of
from catalog_sync.api.parameters import JobId, PathText, SyncsParameters, Text
from catalog_sync.api.problems import ProblemError
from catalog_sync.domain.errors import CacheConnectionError, IncidentNotFoundError
from catalog_sync.domain.identifiers import LEAST_DIGITS, is_beginning, pasted
from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.history.days import DAYS
from catalog_sync.history.history import KEPT, MAX_AGE, FoundDays
from catalog_sync.jobs import Job, JobNotFoundError
from catalog_sync.observability.traces import SpanRecord
from catalog_sync.store.traces import KEPT_FAILED, KEPT_OTHER, MAX_FAILED
from otel_resilience.alerting.model.alert import Links
from otel_resilience.correlation import is_correlation_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog_sync.api.ports import Alerts, Overview, Protection
    from catalog_sync.api.syncs import Syncs
    from catalog_sync.settings.settings import Settings

_INCIDENT: Final = re.compile(r"[0-9a-f]{16}")
_NO_ID: Final = (
    "This is not the ID of a sync, trace or incident. A correlation ID has 32 hexadecimal digits, of which the first"
    f" {LEAST_DIGITS} will do; logs and messages show it."
)
_KEPT: Final = (
    f"Traces of failed syncs are kept for {KEPT_FAILED // 86_400} days (the last {MAX_FAILED}), others for"
    f" {KEPT_OTHER // 60} minutes; reports of syncs for {MAX_AGE / 86_400:.0f} days (the last {KEPT})."
)


def _none_if_empty(value: object) -> object:
    """For a form, which sends "everything" as an empty string."""
    return None if value == "" else value


class ListForm(SyncsParameters):
    """Which syncs are listed, as the form sends it."""

    outcome: Annotated[Outcome | None, BeforeValidator(_none_if_empty)] = None
    kind: Annotated[SyncKind | None, BeforeValidator(_none_if_empty)] = None
    trigger: Annotated[str | None, BeforeValidator(_none_if_empty)] = None  # type: ignore[assignment]


@dataclasses.dataclass(eq=False)
class Site:
    """The pages. ``wall_clock`` returns the time of day in seconds since the epoch."""

    settings: Settings
    all: Syncs
    alerts: Alerts
    protection: Protection
    workers: Callable[[], Awaitable[Overview]] | None
    """What workers do; ``None`` if this process runs the syncs itself."""
    wall_clock: Callable[[], float]

    async def syncs(self, wanted: Annotated[ListForm, Query()]) -> Response:
        chosen = {
            "outcome": wanted.outcome and wanted.outcome.value,
            "kind": wanted.kind and wanted.kind.value,
            "trigger": wanted.trigger,
        }
        jobs, days = await asyncio.gather(self.all.latest(wanted), known(asyncio.to_thread(self.all.history.days)))
        return page(
            "Syncs",
            section_of("history", f"The last {DAYS} days", days, self._chart),
            section(
                "list",
                "All syncs",
                syncs.filters(chosen),
                syncs.sync_list(jobs, chosen, limit=wanted.limit, offset=wanted.offset),
            ),
            place="/syncs",
        )

    def _chart(self, kept: FoundDays) -> Child:
        partly = None if kept.complete else h("p", "Not everything could be read.", class_="notice")
        return partly, chart(kept.days, self.wall_clock(), stale_after=self.settings.stale_after)

    async def sync(self, job_id: JobId) -> Response:
        job = await self.all.job(job_id)
        spans = await known(self.all.kept.get(job.correlation_id))
        error = (job.report or {}).get("error") or {}
        return page(
            title_of(job),
            section("state", "What happened", syncs.state(job, self._links(job))),
            _trace(job.correlation_id, spans, error.get("type")),
            section("groups", "Groups", syncs.groups(job)),
            place="/syncs",
        )

    def _links(self, job: Job) -> Links:
        found = links_of(self.settings, job.outcome, job.report, job.correlation_id)
        return dataclasses.replace(found, trace=None) if self.settings.alerts.trace_url is None else found

    async def traces(self) -> Response:
        shown = section_of("list", "Failed traces", await known(self.all.kept.failed()), traces.trace_list)
        return page("Failures", shown, h("p", _KEPT, class_="hint"), place="/traces")

    async def trace(self, trace_id: PathText) -> Response:
        """Everything known under a correlation ID."""
        if not is_correlation_id(trace_id):
            raise ProblemError(404, "trace_not_found", _NO_ID)
        job, spans = await asyncio.gather(self._job(trace_id), known(self.all.kept.get(trace_id)))
        if job is None and spans.value is not None and not spans.value:
            raise ProblemError(404, "trace_not_found", f"Nothing is kept under {trace_id}. {_KEPT}")
        error = ((job.report if job else None) or {}).get("error") or {}
        return page(
            f"Trace {trace_id}",
            section("sync", "Its sync", h("p", h("a", title_of(job), href=path("syncs", job.id)))) if job else None,
            _trace(trace_id, spans, error.get("type")),
            place="/traces",
        )

    async def _job(self, trace_id: str) -> Job | None:
        try:
            return await self.all.job(trace_id)
        except (JobNotFoundError, CacheConnectionError):
            return None

    async def find(self, wanted: Annotated[Text, Query(alias="id")]) -> Response:
        """Redirects to what an ID identifies: a correlation ID or its first digits, or the ID of a sync or incident."""
        text = pasted(wanted)
        if is_correlation_id(text):
            return RedirectResponse(path("traces", text), 303)
        if _INCIDENT.fullmatch(text) and (await known(self.alerts.incident(text))).value is not None:
            return RedirectResponse(path("incidents", text), 303)
        with contextlib.suppress(JobNotFoundError):
            return RedirectResponse(path("syncs", (await self.all.job(text)).id), 303)
        if not is_beginning(text):
            return problem_page(ProblemError(404, "trace_not_found", _NO_ID))
        if (found := await self.all.beginning_with(text)) is not None:
            return RedirectResponse(path("traces", found), 303)
        if (incident := await self._incident_beginning_with(text)) is not None:
            return RedirectResponse(path("incidents", incident), 303)
        return problem_page(ProblemError(404, "trace_not_found", f"Nothing that is kept begins with {text}. {_KEPT}"))

    async def _incident_beginning_with(self, digits: str) -> str | None:
        seen = (await known(self.alerts.overview())).value or {"incidents": ()}
        return next((str(each["id"]) for each in seen["incidents"] if each["id"].startswith(digits)), None)

    async def incidents(self) -> Response:
        seen = await known(self.alerts.overview())
        return page(
            "Incidents", section_of("list", "Open incidents", seen, incidents.incident_list), place="/incidents"
        )

    async def incident(self, incident_id: IncidentId) -> Response:
        found, kept = await asyncio.gather(
            known(self.alerts.incident(incident_id)), known(asyncio.to_thread(self.all.history.latest))
        )
        if found.problem is not None:
            raise CacheConnectionError(f"the records of incidents cannot be read: {found.problem}")
        if (each := found.value) is None:
            raise IncidentNotFoundError(f"incident {incident_id!r} does not exist or is no longer kept")
        decide = incidents.decisions(each)
        sync, trace = await self._kept(each["correlation_id"])
        return page(
            each["title"],
            section("state", "What it is", incidents.state(each, sync=sync, trace=trace)),
            section("timeline", "What happened when", incidents.timeline(each)),
            section("decide", "What to do with it", decide, _without_script(each["id"])) if decide else None,
            section_of(
                "alike", "Earlier syncs with the same failure", kept, lambda kept: incidents.alike(each, kept.syncs)
            ),
            place="/incidents",
        )

    async def _kept(self, trace_id: str | None) -> tuple[bool, bool]:
        """Whether there is a sync under a correlation ID, and a trace: that of an alert's delivery has no sync."""
        if trace_id is None or not is_correlation_id(trace_id):
            return False, False
        if await self._job(trace_id) is not None:
            return True, True
        spans = await known(self.all.kept.get(trace_id))
        return False, spans.value is None or bool(spans.value)

    async def system(self) -> Response:
        protection, alerts, seen = await asyncio.gather(
            known(self.protection.overview()),
            known(self.alerts.overview()),
            known(self.workers()) if self.workers is not None else asyncio.sleep(0, None),
        )
        return page(
            "System",
            system.circuits(protection, self.settings),
            system.budgets(protection, self.settings),
            system.workers(seen),
            system.outbox(alerts),
            place="/system",
        )


def _trace(trace_id: str, spans: Known[Sequence[SpanRecord]], error_type: str | None) -> Html:
    return section_of("trace", "Its trace", spans, lambda found: traces.evidence(trace_id, found, error_type))


def _without_script(identifier: str) -> Html:
    command = h("code", f"catalog-sync alerts ack {identifier}")
    return h("noscript", h("p", "Without JavaScript: ", command, class_="hint"))
