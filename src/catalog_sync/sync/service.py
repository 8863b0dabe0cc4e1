"""The sync service: lock, build, guard, publish, report. Expected failures become reports, never exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.domain.errors import (
    CacheConnectionError,
    CatalogSyncError,
    LockLostError,
    NotDurableError,
)
from catalog_sync.domain.freshness import age_of
from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import CatalogueMeta, ErrorInfo, LockHolder, Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.observability import instruments
from catalog_sync.store.errors import AlreadyPublishedError, SyncEndedError, VersionGoneError
from catalog_sync.store.owner import Owner
from catalog_sync.store.staging import STAGING_TTL
from catalog_sync.supplier.port import Deadline
from catalog_sync.sync.builder import CatalogueBuilder
from catalog_sync.sync.full import build_full
from catalog_sync.sync.previous import Published
from catalog_sync.sync.progress import OnProgress, ProgressTracker
from catalog_sync.sync.reporting import error_info, first_leaf
from catalog_sync.sync.run import Candidate, Run, within_deadline
from catalog_sync.sync.scoped import build_bundle, build_country, build_group
from catalog_sync.sync.shared.distributed import DistributedSync, adopt_lease
from otel_resilience import correlation_id, correlation_scope

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.lock import LockLease
    from catalog_sync.store.snapshot import Snapshot
    from catalog_sync.store.staging import Staging
    from catalog_sync.supplier.port import Supplier

OnReport = Callable[[SyncReport, float | None], None]
"""Called for every sync, inside its span, with the report and the age in seconds of what readers get, if known."""

COMMIT_LIMIT: Final = 2.0
"""Seconds that a running commit, or the snapshot after it, may still take after the run was stopped."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Result:
    """What becomes known during a run."""

    outcome: Outcome = Outcome.FAILED
    run: Run | None = None
    holder: LockHolder | None = None
    error: ErrorInfo | None = None
    meta: CatalogueMeta | None = None
    """The metadata of what readers see."""
    published: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)

    def publish(self, candidate: Candidate, meta: CatalogueMeta) -> None:
        """The commit succeeded: whatever happens now, ``meta`` is live."""
        self.published = True
        self.meta = meta
        self.outcome, self.error = candidate.outcome, candidate.error


@dataclasses.dataclass(eq=False)
class SyncService:
    """Copies the supplier's catalogue into the store."""

    settings: Settings
    supplier: Supplier
    store: CatalogStore
    snapshot: Snapshot
    _: dataclasses.KW_ONLY
    on_progress: OnProgress | None = None
    on_report: OnReport | None = None
    distributed: DistributedSync | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime.datetime] = utc_now

    async def run(self, request: SyncRequest | None = None) -> SyncReport:
        """Syncs once. Always returns a report, except that ``CancelledError`` is raised once the lock is released.

        A run that is cancelled once its version is live, or goes live, ends as published.

        With ``distributed`` this is the last step of a sync that several processes share: the report covers all of
        them, the lock is not released, and if the store became unavailable before anything was published,
        ``CacheConnectionError`` or ``LockLostError`` is raised, since the step can be repeated.
        """
        request = request or SyncRequest()
        distributed = self.distributed
        started, started_at = self.clock(), distributed.started_at if distributed else rfc3339(self.now())
        known = distributed.correlation_id if distributed else None
        counts = self.supplier.counts
        sent, repeated = counts.sent, counts.repeated
        with instruments.sync_span(request.kind, request.trigger), correlation_scope(known) as identifier:
            result = _Result()
            try:
                await self._under_lock(request, result)
            except asyncio.CancelledError:
                if not result.published:
                    raise
            run = result.run
            done = request if run is None else run.request
            report = SyncReport(
                outcome=result.outcome,
                kind=done.kind,
                scope=done.scope,
                correlation_id=identifier,
                version=result.meta.version if result.meta else None,
                bundles=result.meta.bundles if result.meta else 0,
                quarantined=run.quarantined if run else 0,
                groups=tuple(run.groups.values()) if run else (),
                started_at=started_at,
                duration_s=self.clock() - started + (distributed.elapsed if distributed else 0.0),
                attempts=counts.sent - sent,
                retries=counts.repeated - repeated,
                quarantined_rows=tuple(run.quarantined_rows()) if run else (),
                holder=result.holder,
                error=result.error,
                trigger=request.trigger,
                warnings=tuple(result.warnings),
            )
            self._report(report, result)
        return report

    async def _under_lock(self, request: SyncRequest, result: _Result) -> None:
        """A busy lock, a lost lock and success are three different outcomes."""
        try:
            lock = await self._acquire()
        except SyncEndedError:
            raise  # a late step of an ended job has nothing to report
        except LockLostError as error:
            result.error = _reported(error)
            return
        except Exception as error:  # whatever keeps the lock from being taken is reported as such, classified
            if self.distributed is not None and isinstance(error, CacheConnectionError):
                raise
            result.outcome, result.error = Outcome.LOCK_UNAVAILABLE, _reported(error)
            return
        if isinstance(lock, LockHolder):
            result.outcome, result.holder = Outcome.SKIPPED_LOCKED, lock
            with contextlib.suppress(CatalogSyncError):  # the version is only shown; the outcome is not affected
                result.meta = await self.store.current()
            return
        try:
            async with lock.hold(release=self.distributed is None):
                await self._work(request, lock, result)
        except Exception as raised:  # noqa: BLE001  every failure becomes part of the report, classified
            leaf = first_leaf(raised)
            again = isinstance(leaf, CacheConnectionError | LockLostError)
            if self.distributed is not None and again and not result.published:
                raise leaf from None
            failure = _reported(leaf)
            if result.published:
                # The fence accepted the version: it is valid, whatever happened to the lock afterwards.
                _log.warning("after the publication: %s", failure.message)
            else:
                result.outcome, result.error = Outcome.FAILED, failure

    async def _acquire(self) -> LockLease | LockHolder:
        if self.distributed is None:
            return await self.store.lock.acquire(correlation_id())
        return self.distributed.refused_by or await adopt_lease(self.store, self.distributed)

    async def _work(self, request: SyncRequest, lease: LockLease, result: _Result) -> None:
        owner = await asyncio.to_thread(lambda: Owner.of(self.settings, make_id=True))
        await self.store.claim(owner, force=request.force)
        published = await Published.load(self.store, self.snapshot, index=request.kind is not SyncKind.FULL)
        previous = published.previous
        result.meta = previous.meta if previous else None
        asked = request
        if self.distributed is None:  # the parts of a shared sync were fetched before: its first step has widened it
            request = request.widened(published.obstacle)
        began = self.now()
        distributed = self.distributed
        suffix = distributed.attempt if distributed else correlation_id()[:8]
        version = f"{began:%Y%m%dT%H%M%S}-{lease.token}-{suffix}"
        # It may wait for the supplier for a part of its time, in which nothing is written.
        staging = self.store.begin(version, ttl=max(STAGING_TTL, int(self.settings.sync_deadline)))
        committing = False
        try:
            run = result.run = Run(
                request=request,
                asked=asked,
                settings=self.settings,
                supplier=self.supplier,
                builder=CatalogueBuilder(self.store, staging, CatalogueIndex(), GroupNames(())),
                previous=previous,
                damage=published.damage,
                progress=ProgressTracker(self.on_progress),
                deadline=Deadline(self.settings.sync_deadline, self.clock),
                as_of=distributed.started_at if distributed else rfc3339(began),
                replayed=distributed is not None,
            )
            candidate = await self._within_deadline(run)
            meta = self._meta(run, staging, candidate, lease.token)
            with instruments.publish_span():
                await lease.confirm()
                await run.builder.seal(meta)
                committing = True
                try:
                    await self._commit(staging, meta, lease, candidate, result)
                except AlreadyPublishedError as earlier:
                    committing = False
                    meta = await self._published_before(meta, earlier.version)
                    result.publish(candidate, meta)
        finally:
            # Once the commit was sent the version may be live: then it must not be deleted.
            if not committing:
                await staging.discard()
        await _to_its_end(self._save(meta, result))

    async def _within_deadline(self, run: Run) -> Candidate:
        async with within_deadline(self.settings.sync_deadline, self.settings.sync_deadline):
            candidate = await _build(run)
            await run.builder.finish()
            return candidate

    def _meta(self, run: Run, staging: Staging, candidate: Candidate, fence: int) -> CatalogueMeta:
        before = run.previous.meta.last_full_sync if run.previous else None
        completes = run.request.kind is SyncKind.FULL and candidate.outcome is Outcome.COMPLETE
        return CatalogueMeta(
            version=staging.version,
            as_of=candidate.as_of,
            bundles=len(run.builder.index),
            names_sha256=run.builder.index.names_sha256(),
            groups=candidate.groups,
            fence=fence,
            correlation_id=correlation_id(),
            kind=run.request.kind,
            last_full_sync=rfc3339(self.now()) if completes else before,
        )

    async def _commit(
        self, staging: Staging, meta: CatalogueMeta, lease: LockLease, candidate: Candidate, result: _Result
    ) -> None:
        receipt = self.distributed.job if self.distributed else None
        await _to_its_end(self.store.commit(staging, meta, lease, receipt=receipt))
        result.publish(candidate, meta)

    async def _published_before(self, meta: CatalogueMeta, version: str) -> CatalogueMeta:
        """What an earlier attempt of this sync has published; a later sync may have replaced that by now."""
        try:
            return await self.store.meta(version)
        except VersionGoneError:
            return dataclasses.replace(meta, version=version)

    async def _save(self, meta: CatalogueMeta, result: _Result) -> None:
        """Writes the last-good snapshot. If that fails, the publication is valid if a server keeps it."""
        try:
            await self.snapshot.write_version(meta, self.store.iter_lines(meta.version))
        except (CatalogSyncError, OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error_info(error).message
            if await self.store.outlives_process():
                failure = f"the snapshot of version {meta.version} was not written to {self.snapshot.path}: {reason}"
                _log.error("%s", failure)
                result.warnings.append(f"{failure}; if Redis does not answer, readers have no copy of it")
                return
            lost = NotDurableError(
                f"the catalogue ends with this process: {self.snapshot.path.parent} cannot be written ({reason}) and "
                "no Redis keeps it; set CATALOG_STATE_DIR to a folder that can be written, or REDIS_URL",
                context={"version": meta.version},
            )
            lost.__cause__ = error
            previous = result.run.previous if result.run else None
            result.outcome, result.error = Outcome.FAILED, error_info(lost)
            result.meta = previous.meta if previous else None

    def _report(self, report: SyncReport, result: _Result) -> None:
        run, meta = result.run, result.meta
        age: float | None = None
        if meta is not None:
            age = age_of(meta.as_of, self.now())
            instruments.set_catalog_age(lambda: age_of(meta.as_of, self.now()))
        counts = {group.name: group.bundles for group in report.groups}
        quarantined: dict[tuple[str, str], int] = {}
        for scope, tally in run.tallies.items() if run else ():
            for row in tally.rejected:
                key = (scope if scope in counts else "_OTHER", row.reason.value)
                quarantined[key] = quarantined.get(key, 0) + 1
        if not report.unknown_scope:
            # A typo is not a failed sync, and not counted as one.
            instruments.record_sync(report.kind, report.outcome, report.duration_s, counts, quarantined)
        instruments.emit_sync_finished(report)
        if self.on_report is not None:
            self.on_report(report, age)


async def _to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Awaits ``work`` even if the run is cancelled meanwhile, for up to :data:`COMMIT_LIMIT`.

    The cancellation is raised only if ``work`` then fails or takes too long; otherwise the run ends as published.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=COMMIT_LIMIT)
        if not task.done() or task.cancelled() or task.exception() is not None:
            task.cancel()
            raise


def _reported(error: BaseException) -> ErrorInfo:
    """The error for the report; an error from outside this package is a defect, and its traceback is logged."""
    info = error_info(error)
    if not isinstance(error, CatalogSyncError):
        _log.error("unexpected error during sync: %s", info.message, exc_info=error)
    return info


async def _build(run: Run) -> Candidate:
    request = run.request
    if request.scope is None:
        return await build_full(run)
    if request.kind is SyncKind.GROUP:
        return await build_group(run, request.scope)
    if request.kind is SyncKind.COUNTRY:
        return await build_country(run, request.scope)
    return await build_bundle(run, request.scope)
