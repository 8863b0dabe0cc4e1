"""``catalog-sync run``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.cli import due
from catalog_sync.cli.tables import folded
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError, UnknownScopeError
from catalog_sync.domain.models import FAILED_OUTCOMES, ErrorInfo, Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.domain.reports import failed_report
from catalog_sync.domain.text import printable
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.history import History
from catalog_sync.last_run import write_last_run
from catalog_sync.observability.contract import SERVICE_SYNC
from catalog_sync.observability.traces.deferred import DeferredSpans
from catalog_sync.supplier.protection import note_pause
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.scopes import check_scope, check_shape, known_scopes
from catalog_sync.terminal.output import console, error_line, pasteable
from catalog_sync.terminal.progress import progress_bar
from otel_resilience import correlation_id

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

    from catalog_sync.settings.settings import Settings
    from catalog_sync.store import CatalogStore
    from catalog_sync.sync.progress import OnProgress, Progress
    from catalog_sync.sync.service import OnReport, SyncService
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals

CHECK_WITHIN: Final = 1.0
"""Seconds that a stopped run spends on finding out whether its lock was released."""

STOPPED_WITHIN: Final = 1.0
"""Seconds that a stopped run spends on alerts that are due; the next run sends the rest."""

_LOOK_CLOSER: Final = "look closer"

_log = logging.getLogger(__name__)


def run(request: SyncRequest, output: CommandOutput, signals: StopSignals, *, if_due: bool) -> int:
    """Syncs once. Returns the exit code of the outcome; 130 or 143 if a signal stopped it.

    Raises ``UnknownScopeError`` if there is no such group or country.
    """
    settings = app.read_settings(ask_redis=False)
    settings.require_api_key()
    check_shape(request)
    app.check_redis(settings, publishes=not request.force)
    spans = DeferredSpans()
    with contextlib.ExitStack() as stack:
        stack.enter_context(app.observed(keep=spans))
        alerts = stack.enter_context(app.alerting(settings))
        history = stack.enter_context(History(settings, SERVICE_SYNC))
        policies = app.Policies.of(settings)
        stack.callback(policies.close)
        one = _OneRun(settings, policies, request, signals, alerts.sync_ended)
        if if_due:
            not_due = due.unless_due(settings, policies, output, signals)
            if not_due is not None:
                return not_due
        signals.on_forced_exit = functools.partial(_forced_exit, output, one)
        with progress_bar("sync") as on_progress:
            report = signals.run(functools.partial(one.run, on_progress))
        note_pause(policies.shared, report)
        for notice in one.notices:
            output.notice(notice)
        if one.in_process and report.outcome != Outcome.FAILED:
            output.notice(app.IN_PROCESS_BANNER)
        write_last_run(settings.state_dir, report, (policies.supplier, policies.store))
        history.sync_ended(report)
        if report.outcome in FAILED_OUTCOMES:
            history.keep_trace(spans.get(report.correlation_id))
        if output.as_json:
            output.json(report.to_json())
        _summarise(report, output)
        signals.on_forced_exit = None
        if one.stopped:
            alerts.flush_within = STOPPED_WITHIN
    if signals.received is not None and one.stopped:
        return exit_codes.of_signal(signals.received)
    if report.unknown_scope:
        return exit_codes.USAGE
    return exit_codes.OF_OUTCOME[report.outcome]


def sync_request(
    *, group: str | None, country: str | None, bundle: str | None, force: bool, if_due: bool
) -> SyncRequest:
    """The request for the options of ``run``."""
    for kind, scope in ((SyncKind.GROUP, group), (SyncKind.COUNTRY, country), (SyncKind.BUNDLE, bundle)):
        if scope is not None:
            return SyncRequest(kind, scope, force=force)
    return SyncRequest(force=force, trigger="schedule" if if_due else "cli")


class _OneRun:
    """One run, and what is known about it when it is stopped."""

    def __init__(
        self,
        settings: Settings,
        policies: app.Policies,
        request: SyncRequest,
        signals: StopSignals,
        on_report: OnReport,
    ) -> None:
        self.stopped = False
        self.in_process = False
        self.notices: list[str] = []
        self._settings = settings
        self._policies = policies
        self._request = request
        self._signals = signals
        self._on_report = on_report
        self._started = time.monotonic()
        self._started_at = rfc3339(utc_now())
        self._correlation_id = correlation_id()

    async def run(self, on_progress: OnProgress | None) -> SyncReport:
        """The report, even of a run that was stopped or that found no store."""
        report: SyncReport | None = None
        try:
            async with app.open_sync(self._settings, self._policies, self._watch(on_progress), self._on_report) as sync:
                self.in_process = sync.store.degraded
                if self._request.scope is not None:
                    check_scope(self._request, await known_scopes(sync.store, sync.snapshot))
                if self._signals.on_work is not None:
                    self._signals.on_work()
                try:
                    report = await sync.run(self._request)
                except asyncio.CancelledError:
                    signal = self._uncancelled()
                    report = await self._stopped(signal, sync)
        except asyncio.CancelledError:
            if report is not None:  # the signal came while connections were closed: the sync itself had ended
                return report
            return await self._stopped(self._uncancelled(), None)
        except (ConfigurationError, UnknownScopeError):
            raise
        except (CatalogSyncError, OSError) as error:
            if report is not None:
                _log.warning("after the sync: %s", error_info(error).message)
                return report
            report = self.report(Outcome.LOCK_UNAVAILABLE, error_info(error))
            self._on_report(report, None)
        return report

    def report(self, outcome: Outcome, error: ErrorInfo) -> SyncReport:
        """The report of a run that the service could not report on."""
        return failed_report(
            error,
            kind=self._request.kind,
            scope=self._request.scope,
            correlation_id=self._correlation_id,
            started_at=self._started_at,
            outcome=outcome,
            duration_s=time.monotonic() - self._started,
            trigger=self._request.trigger,
        )

    def cancelled(self, message: str) -> ErrorInfo:
        """The error of a run that was stopped."""
        return ErrorInfo("cancelled", "cancelled", "LOW", message, None, self._correlation_id)

    def _watch(self, on_progress: OnProgress | None) -> OnProgress:
        """Records the correlation ID of the sync, which is known only inside its trace, in case it is stopped."""

        def watch(progress: Progress) -> None:
            self._correlation_id = correlation_id()
            if on_progress is not None:
                on_progress(progress)

        return watch

    def _uncancelled(self) -> signal.Signals:
        """The signal that stopped this run. Re-raises a cancellation that came from elsewhere."""
        if self._signals.received is None:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        self.stopped = True
        return self._signals.received

    async def _lock_after_stop(self, store: CatalogStore) -> str:
        try:
            async with asyncio.timeout(CHECK_WITHIN):
                holder = await store.lock.holder()
        except (CatalogSyncError, OSError) as error:
            _log.warning("after the stop, the lock could not be read: %s", error)
            return "it is unknown whether the lock was released; it expires in any case"
        if holder is not None and holder.owner.startswith(f"{socket.gethostname()}:{os.getpid()}:"):
            return f"the lock could not be released; it expires within {holder.ttl_s:.0f} s"
        return "the lock was released"

    async def _stopped(self, signal: signal.Signals, sync: SyncService | None) -> SyncReport:
        lock = "no lock was held" if sync is None else await self._lock_after_stop(sync.store)
        message = f"stopped by {signal.name}; {lock}"
        self.notices.append(message)
        report = self.report(Outcome.FAILED, self.cancelled(message))
        if sync is None:
            return report
        counts = sync.supplier.counts
        report = dataclasses.replace(report, attempts=counts.sent, retries=counts.repeated)
        try:
            async with asyncio.timeout(CHECK_WITHIN):
                meta = await sync.store.current()
        except (CatalogSyncError, OSError) as error:
            _log.warning("after the stop, the version could not be read: %s", error)
            return report
        return report if meta is None else dataclasses.replace(report, version=meta.version, bundles=meta.bundles)


def _forced_exit(output: CommandOutput, one: _OneRun) -> None:
    """The report of a run whose clean-up takes too long."""
    message = "stopped; the lock could not be released in time and expires"
    output.notice(message)
    if output.as_json:
        output.json(one.report(Outcome.FAILED, one.cancelled(message)).to_json())


def _summarise(report: SyncReport, output: CommandOutput) -> None:
    """For a person: on stderr if that is a terminal, else on stdout unless that is for JSON."""
    stream = sys.stderr if sys.stderr.isatty() else None if output.as_json else sys.stdout
    if stream is None:
        return
    if stream.isatty():
        _print_summary(stream, report)
    else:  # not wrapped: a program may read it line by line
        stream.write("".join(f"{line}\n" for line in summary(report)))
    stream.flush()


def _print_summary(stream: TextIO, report: SyncReport) -> None:
    """On a terminal values are wrapped at words, next to their names."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        table.add_row(f"  {name}", folded(value))
    out = console(stream)
    out.print(Text(_headline(report)))
    out.print(table)
    if report.outcome in FAILED_OUTCOMES:  # unwrapped, since a wrapped command cannot be pasted
        stream.write(f"  {_LOOK_CLOSER}     {_look_closer(report)}\n")


def summary(report: SyncReport) -> Iterator[str]:
    """The report for a person, one line per fact."""
    yield _headline(report)
    for name, value in _facts(report):
        yield f"  {name:<15} {value}"
    if report.outcome in FAILED_OUTCOMES:
        yield f"  {_LOOK_CLOSER:<15} {_look_closer(report)}"


def _headline(report: SyncReport) -> str:
    scope = f" of {report.kind.value} {printable(report.scope)}" if report.scope else ""
    return f"{report.outcome.value}: sync{scope} in {report.duration_s:.1f} s"


def _look_closer(report: SyncReport) -> str:
    return pasteable(f"catalog-sync trace {report.correlation_id}")


def _facts(report: SyncReport) -> Iterator[tuple[str, str]]:
    if report.version is None:
        yield "catalogue", "none published"
    else:
        yield "catalogue", f"{report.bundles:,} bundles, version {report.version}"
    for group in report.groups:
        reason = f"  {error_line(group.error)}" if group.error else ""
        yield group.status, f"{printable(group.name)}: {group.bundles:,} bundles{reason}"
    yield "requests", f"{report.attempts}, of them {report.retries} repeated"
    if report.quarantined:
        reasons = ", ".join(sorted({row.reason for row in report.quarantined_rows}))
        yield "quarantined", f"{report.quarantined} rows: {reasons}"
    if report.holder is not None:
        yield "lock", f"held by {report.holder.owner} since {report.holder.since}"
    for warning in report.warnings:
        yield "warning", printable(warning)
    if report.error is not None:
        yield "error", error_line(report.error)
    yield "correlation ID", report.correlation_id
