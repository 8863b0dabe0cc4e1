"""The steps of a sync: plan, fetch, publish. Each may be started more than once, by several workers concurrently."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import os
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from catalog_sync.domain import schedule
from catalog_sync.domain.countries import country_code
from catalog_sync.domain.errors import (
    CacheConnectionError,
    CatalogSyncError,
    LockLostError,
    UnusableGroupsError,
)
from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.models import LockHolder, SyncKind, SyncRequest
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.jobs.ledger import MAX_STARTS, Started
from catalog_sync.jobs.port import JobConflictError, JobNotFoundError, JobStatus, PoisonedStepError
from catalog_sync.jobs.records import PLAN, PUBLISH, dead_letter, number_of, step_of
from catalog_sync.jobs.redis import RedisJobs
from catalog_sync.jobs.sweep import GRACE, end_lost, end_with_error, sweep
from catalog_sync.last_run import write_last_run
from catalog_sync.observability import instruments
from catalog_sync.observability.sdk import inject_context
from catalog_sync.store.owner import ForeignStoreError, Owner
from catalog_sync.supplier.port import Deadline, RequestCounts, Scope
from catalog_sync.supplier.protection import note_pause, read_pause
from catalog_sync.sync.fetch import discover
from catalog_sync.sync.previous import Published
from catalog_sync.sync.progress import GroupProgress, Progress, ProgressTracker
from catalog_sync.sync.reporting import error_info, first_leaf
from catalog_sync.sync.run import Fetch, within_deadline
from catalog_sync.sync.scopes import confirm_asked
from catalog_sync.sync.service import SyncService
from catalog_sync.sync.shared.distributed import adopt_lease
from catalog_sync.sync.shared.failures import error_from_json, error_to_json
from catalog_sync.sync.shared.staged import Part, StagedSupplier, fetch_bundle_part, fetch_part
from catalog_sync.worker.due import just_tried
from catalog_sync.worker.step_heartbeat import StepHeartbeat, StepStoppedError
from otel_resilience import classify, correlation_scope

if TYPE_CHECKING:
    from catalog_sync.jobs.ledger import JobLedger
    from catalog_sync.jobs.port import Sender
    from catalog_sync.jobs.records import Record
    from catalog_sync.settings.settings import Settings
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.snapshot import Snapshot
    from catalog_sync.store.staging import Staging
    from catalog_sync.supplier.esim_go.client import EsimGoClient
    from catalog_sync.sync.previous import Previous
    from catalog_sync.sync.service import OnReport
    from otel_resilience.storage import SharedState

PART_MARGIN: Final = 900
"""Seconds for which a staged part outlives the deadline of its sync."""
LEAST_TO_PUBLISH: Final = 30.0
"""Seconds that merging is given even if the deadline is near: everything was fetched in time."""

LOOK_EVERY: Final = 10.0
"""Interval in seconds at which an idle worker reads the supplier's shared breaker and budget."""

_log = logging.getLogger(__name__)
_STARTS_AGAIN_AFTER: Final = (CacheConnectionError, LockLostError)
"""Errors that end an attempt at a step; the step is started again."""


@dataclasses.dataclass(eq=False)
class Worker:
    """Runs the steps that messages request."""

    settings: Settings
    supplier: EsimGoClient
    store: CatalogStore
    snapshot: Snapshot
    ledger: JobLedger
    sender: Sender
    shared: SharedState
    _: dataclasses.KW_ONLY
    on_report: OnReport | None = None
    on_sign_of_life: Callable[[], object] | None = None
    now: Callable[[], datetime.datetime] = utc_now
    _jobs: RedisJobs = dataclasses.field(init=False)
    _ended_here: str = ""
    """The last job whose last step was run here: its record may be deleted."""
    _interrupted: Record | None = None
    """The job of the last step interrupted by a Redis failure: if its record is lost, only its workers know of it."""

    def __post_init__(self) -> None:
        self._jobs = RedisJobs(
            self.ledger,
            self.sender,
            sync_deadline=self.settings.sync_deadline,
            on_report=self.on_report,
            now=self.now,
        )

    async def do(self, job_id: str, step: str) -> None:
        """Runs a step with the current shared state of the supplier; between two steps that is refreshed less often."""
        self.shared.wake()
        try:
            await self._claim_and_do(job_id, step)
        finally:
            self.shared.rest(LOOK_EVERY)

    async def sweep(self) -> None:
        """See :mod:`catalog_sync.jobs.sweep`."""
        await sweep(
            self.ledger,
            self.store,
            self.sender,
            lease=self.settings.job_lease,
            sync_deadline=self.settings.sync_deadline,
            now=self.now(),
            on_report=self.on_report,
        )
        await self._report_loss()

    async def ask_if_due(self) -> None:
        """Requests a full sync if one is due: also if a part of the catalogue is lost, not if Redis is unreachable."""
        every = self.settings.sync_every
        if not every:
            return
        try:
            tried = just_tried(await self._jobs.latest(limit=20), every, await self.ledger.now_ms())
            meta, damaged = await self.store.current_or_damaged()
        except CatalogSyncError as error:
            _log.warning("cannot tell whether a sync is due: %s", error)
            return
        pause = await asyncio.to_thread(read_pause, self.shared)
        found = schedule.decide(meta, self.now(), every=every, damaged=damaged, pause=pause)
        if tried or not found.due:
            return
        try:
            job = await self._jobs.submit(SyncRequest(trigger="schedule"))
        except JobConflictError as conflict:
            _log.info("a sync is due, but one is already running: %s", conflict)
        except CatalogSyncError as error:
            _log.warning("a sync is due but cannot be requested: %s", error)
        else:
            _log.info("a sync is due: job %s", job.id)

    async def _claim_and_do(self, job_id: str, step: str) -> None:
        """Claims a step and runs it; a message that comes too late, too early or twice is dropped."""
        claim = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        started = await self.ledger.start(
            job_id,
            step,
            claim,
            lease=self.settings.job_lease,
            now=rfc3339(self.now()),
            time_limit=self.settings.sync_deadline,
        )
        if not isinstance(started, Started):
            _log.info("%s of job %s is not started: %s", step, job_id, started)
            if started == "gone":
                await self._report_loss()
            if started == "dead":
                await self._set_aside(job_id, step)
            return
        record = await self.ledger.read(job_id)
        with correlation_scope(record.job.correlation_id):
            try:
                async with StepHeartbeat(
                    self.ledger, job_id, step, claim, self.settings.job_lease, self.on_sign_of_life
                ) as heartbeat:
                    await self._work(step, record, started, heartbeat)
            except StepStoppedError as stopped:
                _log.info("%s of job %s stops: %s", step, job_id, stopped)
                if not await self._is_lost(record) and not stopped.lost:
                    await self.sender.send(job_id, PUBLISH, record.carrier)
            except JobNotFoundError:
                await self._is_lost(record)
            except _STARTS_AGAIN_AFTER as error:
                if await self._is_lost(record):
                    return
                self._interrupted = record
                _log.warning("%s of job %s will be started again: %s", step, job_id, error)
                await self._give_back(job_id, step, claim)
                raise

    async def _report_loss(self) -> None:
        """Reports the job of an interrupted step if Redis has come back without it.

        The record of an ended job is eventually deleted, too, but it outlives the longest sync by far.
        """
        record = self._interrupted
        if record is None:
            return
        over = record.distributed_sync().duration(self.now()) > self.settings.sync_deadline + GRACE
        if over or await self._is_lost(record) or await self._has_ended(record.job.id):
            self._interrupted = None

    async def _has_ended(self, job_id: str) -> bool:
        try:
            return (await self.ledger.shown(job_id)).status.ended
        except CatalogSyncError as error:
            _log.debug("cannot tell whether job %s has ended: %s", job_id, error)
            return False

    async def _is_lost(self, record: Record) -> bool:
        """Whether Redis has lost the job, which is then reported. If that cannot be determined, it is not lost."""
        if record.job.id == self._ended_here:
            return False
        try:
            return await end_lost(self.ledger, record, self.now(), self.on_report)
        except CatalogSyncError as error:
            _log.warning("cannot tell whether job %s still exists: %s", record.job.id, error)
            return False

    async def _give_back(self, job_id: str, step: str, claim: str) -> None:
        try:
            await self.ledger.release(job_id, step, claim)
        except CatalogSyncError as error:
            _log.warning("the claim of %s is left to expire: %s", step, error)

    async def _work(self, step: str, record: Record, started: Started, heartbeat: StepHeartbeat) -> None:
        number = number_of(step)
        if number is not None:
            await self._fetch(record, number, started, heartbeat)
        elif step == PLAN:
            await self._plan(record, started, heartbeat)
        else:
            await self._publish(record, started, heartbeat)

    async def _plan(self, record: Record, started: Started, heartbeat: StepHeartbeat) -> None:
        job_id = record.job.id
        lease = await adopt_lease(self.store, record.distributed_sync())
        token, refused_by = None, None
        scopes: list[str] = []
        plan = Part()
        request = record.request
        if isinstance(lease, LockHolder):
            refused_by = lease.to_json()
        else:
            token = lease.token
            async with lease.hold(release=False):
                scoped = request.kind is not SyncKind.FULL
                published = await Published.load(self.store, self.snapshot, index=scoped)
                request = record.request.widened(published.obstacle)
                try:
                    owner = await asyncio.to_thread(lambda: Owner.of(self.settings, make_id=True))
                    await self.store.claim(owner, force=request.force)
                    plan, scopes = await self._scopes(record.request, request, published.previous, started)
                except ForeignStoreError as error:
                    plan = Part(error=error)
        carrier = inject_context()
        heartbeat.conclude()
        await self.ledger.planned(
            job_id, plan, scopes, request=request, token=token, refused_by=refused_by, carrier=carrier
        )
        stands = await self.ledger.read(job_id)  # another attempt may have been first
        _log.info("sync %s: %d scopes are fetched for %s", job_id, len(stands.scopes), request.kind.value)
        for number in range(len(stands.scopes)):
            await self.sender.send(job_id, step_of(number), stands.carrier, every=self.settings.job_lease)
        if not stands.scopes:
            await self.sender.send(job_id, PUBLISH, stands.carrier)

    async def _scopes(
        self, asked: SyncRequest, request: SyncRequest, previous: Previous | None, started: Started
    ) -> tuple[Part, list[str]]:
        """What to fetch for ``request``; ``asked`` is the original request.

        An error is part of the plan: the last step raises it at the same point as a sync in one process would.
        """
        if request.kind is SyncKind.COUNTRY and request.scope is not None:
            return Part(), [country_code(request.scope)]
        if request.kind is SyncKind.BUNDLE and request.scope is not None:
            return Part(), [request.scope]
        before = dataclasses.replace(self.supplier.counts)
        fetch = self._new_fetch(started, None)
        try:
            groups, failure = await discover(fetch, previous)
            if request is not asked and failure is None:
                await confirm_asked(asked, groups, self.supplier, fetch.deadline)
        except _STARTS_AGAIN_AFTER:
            raise
        except CatalogSyncError as error:
            return self._counted(Part(error=error), before), []
        listed = failure is None or isinstance(failure, UnusableGroupsError)
        plan = self._counted(Part(groups=tuple(groups) if listed else (), error=failure), before)
        if request.scope is None:
            return plan, groups
        group = GroupNames(groups).listed(request.scope)
        return plan, [] if group is None else [group]

    async def _fetch(self, record: Record, number: int, started: Started, heartbeat: StepHeartbeat) -> None:
        job_id, scope = record.job.id, record.scopes[number]
        heartbeat.note(number, GroupProgress(scope, "running"))
        ttl = int(self.settings.sync_deadline) + PART_MARGIN
        staging = self.store.begin(f"part.{job_id}.{number}.{secrets.token_hex(4)}", ttl=ttl)
        before = dataclasses.replace(self.supplier.counts)
        kept = False
        try:
            part = self._counted(await self._fetched(record, number, started, heartbeat, staging), before)
            bundles = part.bundles if part.error is None else 0
            info = None if part.error is None else error_info(part.error).to_json()
            progress = GroupProgress(scope, "ok" if part.error is None else "failed", bundles, info)
            heartbeat.conclude()
            kept = True  # while the answer is pending: if it is lost, the result may have been stored
            first, ready = await self.ledger.finish(job_id, number, part, progress)
            kept = first and part.error is None
            if not first:
                await self._is_lost(record)
        finally:
            if not kept:
                await staging.discard()
        if ready:
            await self.sender.send(job_id, PUBLISH, record.carrier)

    async def _fetched(
        self, record: Record, number: int, started: Started, heartbeat: StepHeartbeat, staging: Staging
    ) -> Part:
        """The part, possibly with its error: only errors that end the attempt are raised."""
        scope = record.scopes[number]

        def on_progress(progress: Progress) -> None:
            heartbeat.note(number, GroupProgress(scope, "running", progress.bundles))

        fetch = self._new_fetch(started, on_progress)
        try:
            lease = await adopt_lease(self.store, record.distributed_sync())
            if isinstance(lease, LockHolder):
                raise LockLostError("the sync has no lock")
            async with lease.hold(release=False), within_deadline(started.left, self.settings.sync_deadline):
                return await self._part(record.request.kind, scope, fetch, staging)
        except _STARTS_AGAIN_AFTER:
            raise
        except CatalogSyncError as error:
            _log.warning("%s failed: %s", scope, error)
            return Part(error=error)
        except Exception as raised:  # noqa: BLE001  a defect ends the sync, classified, like in one process
            defect = first_leaf(raised)
            _log.error("unexpected error while fetching %s", scope, exc_info=defect)
            await self.ledger.fail(record.job.id, error_to_json(defect))
            return Part(error=CatalogSyncError(error_info(defect).message, classification=classify(defect)))

    async def _part(self, kind: SyncKind, scope: str, fetch: Fetch, staging: Staging) -> Part:
        if kind is SyncKind.BUNDLE:
            return await fetch_bundle_part(self.supplier, scope, fetch.deadline, staging)
        if kind is SyncKind.COUNTRY:
            return await fetch_part(fetch, Scope(country=scope), staging)
        with instruments.group_span(scope):
            return await fetch_part(fetch, Scope(group=scope), staging)

    async def _publish(self, record: Record, started: Started, heartbeat: StepHeartbeat) -> None:
        job = record.job
        # What an earlier attempt has published is live, and reported as such.
        if job.cancel_requested and await self.store.receipt(job.id) is None:
            heartbeat.conclude()
            await self.ledger.end(job.id, JobStatus.CANCELLED, None, None, finished_at=rfc3339(self.now()))
            _log.info("sync %s was cancelled", job.id)
        else:
            await self._publish_result(record, started, heartbeat)
        self._ended_here = job.id
        await self._tidy_up(record)

    async def _publish_result(self, record: Record, started: Started, heartbeat: StepHeartbeat) -> None:
        job = record.job
        done = await self.ledger.parts(job.id)
        parts = {scope: part for number, scope in enumerate(record.scopes) if (part := done.get(step_of(number)))}
        ended_by = None if record.fatal is None else error_from_json(record.fatal)
        supplier = StagedSupplier(self.store, done.get(PLAN, Part()), parts, ended_by)
        elapsed = max(0.0, self.settings.sync_deadline - started.left)
        service = SyncService(
            self.settings.changed(sync_deadline=max(started.left, LEAST_TO_PUBLISH)),
            supplier,
            self.store,
            self.snapshot,
            distributed=record.distributed_sync(f"{job.id[:8]}.{secrets.token_hex(4)}", elapsed),
            on_report=self.on_report,
            now=self.now,
        )
        report = await service.run(record.request)
        await asyncio.to_thread(note_pause, self.shared, report)
        policies = (self.supplier.policy, self.store.policy)
        await asyncio.to_thread(write_last_run, self.settings.state_dir, report, policies)
        reported = {group.name: GroupProgress.of(group) for group in report.groups}
        groups = [reported.get(group.name, group) for group in (await self.ledger.read(job.id)).job.groups]
        heartbeat.conclude()
        await self.ledger.end(
            job.id,
            JobStatus.FINISHED,
            report.outcome,
            report.to_json(),
            finished_at=rfc3339(self.now()),
            groups=groups,
        )

    async def _tidy_up(self, record: Record) -> None:
        """Deletes the parts; the rest expires by itself."""
        try:
            for part in (await self.ledger.parts(record.job.id)).values():
                if part.version is not None:
                    await self.store.begin(part.version, ttl=PART_MARGIN).discard()
        except CatalogSyncError as error:
            _log.warning("after sync %s: %s", record.job.id, error)

    async def _set_aside(self, job_id: str, step: str) -> None:
        """Sets aside a step that never finishes; its job continues without it or ends."""
        record = await self.ledger.read(job_id)
        with correlation_scope(record.job.correlation_id):
            error = PoisonedStepError(f"{step} was started {MAX_STARTS} times without finishing")
            number = number_of(step)
            scope = None if number is None else record.scopes[number]
            await self.ledger.add_dead_letter(
                dead_letter(
                    self.now(),
                    str(error),
                    job=job_id,
                    step=step,
                    scope=scope,
                    starts=MAX_STARTS,
                    correlation_id=record.job.correlation_id,
                )
            )
            _log.error("%s of job %s is a dead letter: %s", step, job_id, error)
            if number is None or scope is None:
                await end_with_error(self.ledger, record, error, self.now(), self.on_report)
                await self._tidy_up(record)
                return
            progress = GroupProgress(scope, "failed", 0, error_info(error).to_json())
            _, ready = await self.ledger.finish(job_id, number, Part(error=error), progress)
            if ready:
                await self.sender.send(job_id, PUBLISH, record.carrier)

    def _new_fetch(self, started: Started, on_progress: Callable[[Progress], None] | None) -> Fetch:
        return Fetch(
            supplier=self.supplier, progress=ProgressTracker(on_progress), deadline=Deadline(max(0.0, started.left))
        )

    def _counted(self, part: Part, before: RequestCounts) -> Part:
        counts = self.supplier.counts
        return dataclasses.replace(part, sent=counts.sent - before.sent, repeated=counts.repeated - before.repeated)
