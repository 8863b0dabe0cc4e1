"""The alert service of this application: configured from its settings, fed by policies, breakers and syncs."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Final, Self, TypeVar

from catalog_sync.alerts import outcomes
from catalog_sync.alerts.routes import routes
from catalog_sync.domain.errors import SUPPLIER, ConfigurationError
from catalog_sync.domain.models import Outcome
from catalog_sync.observability.contract import SERVICE_SYNC
from otel_resilience import Severity
from otel_resilience.alerting import (
    AlertConfig,
    AlertService,
    DiskStore,
    FallbackStore,
    Heartbeat,
    IncidentStore,
    Outbox,
    RedisStore,
    ResilienceSource,
    SourceConfig,
    Status,
    Thresholds,
)
from otel_resilience.alerting.heartbeat import DEPENDENCY as HEARTBEAT
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from catalog_sync.domain.models import SyncReport
    from catalog_sync.settings.settings import Settings
    from otel_resilience.alerting import Incident, Notification, Receipt

FOLDER: Final = "alerts"
"""Folder inside the state folder with outbox, dead letters and incidents."""

SYSTEM: Final = SERVICE_SYNC
"""The system that incidents belong to, whichever process reports them: command line, API and workers are one system."""

FLUSH_WITHIN: Final = 3.0
"""Maximum seconds that the end of a process takes to send what is due."""

HEARTBEAT_SHARE: Final = 0.5
"""Share of that time in which the last heartbeat may be confirmed."""

REDIS_TIMEOUT: Final = 0.5
"""Timeout in seconds for one request to the shared store of incidents."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CatalogAlerts:
    """Notifies people about this application. A context manager: runs within its block, and flushes at its end.

    Nothing it does raises into a sync or delays one. ``service_name`` is that of the process.
    """

    def __init__(
        self, settings: Settings, *, service_name: str, on_receipt: Callable[[Receipt], None] | None = None
    ) -> None:
        self._settings = settings
        store, self._close_store = open_store(settings)
        self.routes = usable(lambda: routes(settings.alerts))
        self.service = AlertService(
            config(settings),
            self.routes,
            outbox=Outbox(folder(settings)),
            store=store,
            on_receipt=on_receipt,
        )
        self.flush_within = FLUSH_WITHIN
        """Maximum seconds that the end of the block may take."""
        self._process = service_name
        self._credential = credential_name(settings)
        self._source = ResilienceSource(self.service, self._source_config())
        url = settings.alerts.heartbeat_url
        self._heartbeat: Heartbeat | None = None
        if url is not None:
            self._heartbeat = usable(
                lambda: Heartbeat(url.reveal(), on_failure=_heartbeat_failed, on_success=self._beat_confirmed)
            )

    def __enter__(self) -> Self:
        self.service.start()
        self._source.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        until = time.monotonic() + self.flush_within
        # First, since its consequences open or end incidents.
        if self._heartbeat is not None and not self._heartbeat.close(HEARTBEAT_SHARE * self.flush_within):
            _log.warning("the heartbeat was not confirmed in time")
        self._source.__exit__(*error)
        self.service.close(max(0.0, until - time.monotonic()))
        self._close_store()

    def sync_ended(self, report: SyncReport, age: float | None) -> None:
        """A sync ended. ``age``: seconds since the data that readers get was fetched; ``None`` if there is none."""
        settings = self._settings
        if report.outcome is Outcome.COMPLETE and self._heartbeat is not None:
            self._heartbeat.beat()
        for ending in outcomes.ended(report, age=age, stale_after=settings.stale_after):
            ending.end(self.service)
        # Where another sync is under way, that one renews it, unless it takes longer than any may.
        patience = settings.sync_deadline if report.outcome is Outcome.SKIPPED_LOCKED else 0.0
        for alert in outcomes.raised(
            report,
            age=age,
            stale_after=settings.stale_after + patience,
            partial_threshold=settings.alerts.partial_threshold,
            credential=self._credential,
        ):
            context, pages = {**alert.context, "process": self._process}, settings.api.public_url
            page = pages and f"{pages}/syncs/{report.correlation_id}"
            self.service.report(dataclasses.replace(alert, context=context, details_url=page))

    def _beat_confirmed(self) -> None:
        self.service.resolve_dependency(HEARTBEAT, certain=True)

    def act(
        self, action: str, identifier: str, *, seconds: float = 0.0, by: str | None = None, reason: str | None = None
    ) -> Incident | Notification | None:
        """Carries out what a person decided about an open incident: ``ack``, ``close``, ``silence`` (for ``seconds``)
        or ``resend``, which also accepts a dead letter. ``None`` if there is none with this ID."""
        self.service.load()  # another process may have just opened it
        if action == "ack":
            return self.service.acknowledge(identifier, by=by, reason=reason)
        if action == "silence":
            return self.service.silence(identifier, seconds, by=by, reason=reason)
        if action == "close":
            return self.service.close_incident(identifier, by=by, reason=reason)
        who: dict[str, str | None] = {"by": by, "reason": reason}
        return self.service.resend(identifier, **who) or self.service.resend_dead_letter(identifier, **who)

    def end_test(self, notification: Notification) -> None:
        """Closes what a test opened, at receivers that keep it open."""
        keeping = tuple(route.name for route in self.routes if route.channel.keeps_incidents)
        channels = tuple(name for name in keeping if name in (notification.channels or keeping))
        if channels:
            self.service.send(
                dataclasses.replace(
                    notification,
                    id=f"{notification.id}-end",
                    status=Status.RESOLVED,
                    channels=channels,
                    ended_at=self.service.now(),
                )
            )

    def _source_config(self) -> SourceConfig:
        alerts = self._settings.alerts
        return SourceConfig(
            thresholds=Thresholds(
                window=alerts.window,
                by_severity={
                    Severity.CRITICAL: 1,
                    Severity.HIGH: alerts.high_threshold or None,
                    Severity.MEDIUM: alerts.medium_threshold or None,
                },
            ),
            # A refused key and a forbidden group look alike in the attempt: the sync distinguishes them.
            ignored_error_types={SUPPLIER: frozenset({"401", "403"})},
            titles=outcomes.NAMES,
        )


def usable(make: Callable[[], T]) -> T:
    """The result of ``make``, which uses the ``ERROR_ALERT_*`` variables and the proxies from the environment. Raises
    ``ConfigurationError`` if one of these is not usable."""
    try:
        return make()
    except ValueError as error:
        raise ConfigurationError(f"alerts cannot be sent: {error}") from error


def config(settings: Settings) -> AlertConfig:
    """The identity, the noise control and the links from the settings.

    Without a tracing tool, traces are shown by the API's pages, like incidents and syncs.
    """
    alerts, pages = settings.alerts, settings.api.public_url
    return AlertConfig(
        service=SYSTEM,
        environment=settings.environment,
        min_severity=alerts.min_severity,
        group_wait=alerts.group_wait,
        rate_limit=alerts.rate_limit,
        keep_firing=alerts.keep_firing,
        repeat_interval=alerts.repeat,
        escalation=alerts.escalation,
        silences=alerts.silences,
        inhibitions=outcomes.INHIBITIONS,
        trace_url=alerts.trace_url or (pages and f"{pages}/traces/{{trace_id}}"),
        dashboard_url=alerts.dashboard_url,
        runbook_url=alerts.runbook_url,
        incident_url=pages and f"{pages}/incidents/{{id}}",
    )


def credential_name(settings: Settings) -> str | None:
    """A name for the supplier's key that is not secret: the start of its hash."""
    key = settings.api_key
    return hashlib.sha256(b"credential:" + key.reveal().encode()).hexdigest()[:8] if key else None


def folder(settings: Settings) -> Path:
    """The folder with outbox, dead letters and incidents."""
    return settings.state_dir / FOLDER


def open_store(settings: Settings) -> tuple[IncidentStore, Callable[[], None]]:
    """The store in which incidents outlive the process, on disk and in Redis if configured; and what closes it."""
    local = DiskStore(folder(settings) / "incidents")
    if settings.redis_url is None:
        return local, lambda: None
    from catalog_sync.store.client import connect_blocking

    client = connect_blocking(settings.redis_url, timeout=REDIS_TIMEOUT)
    prefix = settings.key_prefix + ":".join(("catalog:alerts", *filter(None, config(settings).owner), ""))
    return FallbackStore(RedisStore(client, prefix=prefix), local), client.close


def _heartbeat_failed(error: BaseException) -> None:
    _log.warning("the heartbeat was not confirmed: %s", redact(str(error) or type(error).__name__))
