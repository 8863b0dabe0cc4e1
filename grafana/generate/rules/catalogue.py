"""Rules about the catalogue itself: does the job run, does it work, is its result fresh?"""

from __future__ import annotations

from typing import Final

from grafana.generate.logql import FAILED, span_attribute, spans, where, with_trace
from grafana.generate.promql import IN_RULE, per, total
from grafana.generate.rules import causes
from grafana.generate.rules.model import Rule, Trace
from grafana.generate.rules.recording import FAILED_OUTCOMES, PUBLISHED_AT, last_sync_failed, seen_lately, syncs
from grafana.generate.settings import EVALUATION_INTERVAL, Settings, duration

from catalog_sync.observability import contract
from otel_resilience.telemetry.contract import ERROR_TYPE

_DASHBOARD: Final = "catalog-sync"


_OF_KIND: Final = (span_attribute(contract.KIND, "{kind}"),)
_KIND: Final = where(contract.KIND, "{kind}")


def _sync_trace(*conditions: str, traceql: tuple[str, ...] = (FAILED,)) -> Trace:
    return Trace(
        traceql=spans(f'name = "{contract.SYNC_SPAN}"', *traceql),
        logql=with_trace(contract.EVENT_SYNC_FINISHED, *conditions),
    )


def rules(settings: Settings) -> tuple[Rule, ...]:
    """Every rule of this subject."""
    return (
        _failed(settings),
        _partial(settings),
        *_of_an_error(settings),
        _stale(settings),
        _unseen(settings),
        _not_taken(settings),
    )


def _failed(settings: Settings) -> Rule:
    """The last sync of its kind failed, and no other critical rule says why.

    The wait is for the cause: what a sync failed with is counted by the Collector, seconds after the sync itself is.
    """
    return Rule(
        name="SyncFailed",
        expr=f"{last_sync_failed(settings)} {causes.unless_explained(settings)}",
        operator=">",
        threshold=0,
        severity="critical",
        component="catalogue",
        summary="The last {{ $labels.catalog_kind }} sync failed; readers keep the last good catalogue.",
        dashboard=_DASHBOARD,
        panel="Failed syncs",
        meaning="The latest sync of this kind ended FAILED or LOCK_UNAVAILABLE after all retries, and none has"
        " succeeded since. Nothing was published. The alert ends with the next COMPLETE or PARTIAL sync of the same"
        " kind, or after a day. It does not fire while CircuitBreakerOpen, AuthenticationFailed, StoreFailing or"
        " PublicationRefused reports the cause; that alert then lasts until a sync succeeds.",
        look=(
            "The trace in the alert: the red `attempt` span shows the call, the attempt and the error.",
            "Dashboard *Catalogue sync*, table *Failed syncs*: is it always the same error?",
            "Dashboard *Circuit breakers*: does an open circuit reject the calls?",
        ),
        act=(
            "Supplier down or slow: there is nothing to repair here; the next run, or `catalog-sync run`, tries again.",
            "LOCK_UNAVAILABLE: Redis cannot be reached; see StoreFailing.",
            "Run `catalog-sync doctor`: it checks every connection and tells you how to fix what is broken.",
        ),
        wait=2 * EVALUATION_INTERVAL,
        trace=_sync_trace(where(contract.OUTCOME, FAILED_OUTCOMES, "=~"), _KIND, traceql=(FAILED, *_OF_KIND)),
    )  # fmt: skip


def _partial(settings: Settings) -> Rule:
    return Rule(
        name="SyncPartial",
        expr=total(syncs("PARTIAL"), duration(settings.recent), contract.KIND),
        operator=">",
        threshold=0,
        severity="warning",
        component="catalogue",
        summary="A {{ $labels.catalog_kind }} sync was only partial: some groups keep their last good data.",
        dashboard=_DASHBOARD,
        panel="Last syncs",
        meaning="Some groups could not be fetched. They keep their last good data, marked stale; the others are fresh.",
        look=("Table *Failed groups and publications*: which group and which call failed?",),
        act=("Run `catalog-sync run --group NAME` to sync one group again. If it keeps failing, ask the supplier.",),
        hold=settings.hold,
        trace=_sync_trace(
            where(contract.OUTCOME, "PARTIAL"),
            _KIND,
            traceql=(span_attribute(contract.OUTCOME, "PARTIAL"), *_OF_KIND),
        ),
    )


def _of_an_error(settings: Settings) -> tuple[Rule, ...]:
    refused = causes.REFUSED_ERRORS
    return (
        Rule(
            name=causes.REFUSED,
            expr=causes.until_a_sync_works(causes.REFUSED, settings),
            operator=">",
            threshold=0,
            severity="critical",
            component="catalogue",
            summary="A sync fetched everything but refused to publish: the new catalogue looks wrong.",
            dashboard=_DASHBOARD,
            panel="Failed groups and publications",
            meaning="The staged version failed a check before publication: too many bundles have vanished"
            " (CATALOG_MAX_DROP_RATIO), too many rows are unusable (CATALOG_MAX_BAD_ROW_RATIO), or the staged version"
            " is incomplete. Readers keep the old version.",
            look=(
                "The trace: the `catalog.publish` span shows which check failed.",
                "Panels *Rows set aside* and *Bundles by group*: what is missing?",
            ),
            act=(
                "Ask the supplier whether the change is intended.",
                "If it is, publish it with `catalog-sync run --force`.",
            ),
            hold=settings.hold,
            trace=_sync_trace(
                where(ERROR_TYPE, refused, "=~"), traceql=(span_attribute(ERROR_TYPE, refused, "=~"), FAILED)
            ),
        ),
        Rule(
            name="LockLost",
            expr=causes.failed_syncs_with("lock_lost", settings.recent),
            operator=">",
            threshold=0,
            severity="warning",
            component="catalogue",
            summary="A sync lost its lock and stopped: another run took it, or the process was suspended.",
            dashboard=_DASHBOARD,
            panel="Failed syncs",
            meaning="The lease of the lock expired while the sync was running, so it published nothing: the fenced lock"
            " never lets two runs write.",
            look=(
                "The trace: where is the gap in which the lock was not renewed?",
                "The host's CPU and memory.",
            ),
            act=("If it happened once, the next run succeeds. If it recurs, the host stalls or Redis is too slow.",),
            hold=settings.hold,
            trace=_sync_trace(
                where(ERROR_TYPE, "lock_lost"), traceql=(span_attribute(ERROR_TYPE, "lock_lost"), FAILED)
            ),
        ),
    )  # fmt: skip


def _stale(settings: Settings) -> Rule:
    return Rule(
        name="CatalogueStale",
        expr=f"time() - {PUBLISHED_AT}",
        operator=">",
        threshold=settings.stale_after,
        severity="critical",
        component="catalogue",
        summary="The catalogue is stale: its newest publication is {{ $value | humanizeDuration }} old.",
        dashboard=_DASHBOARD,
        panel="Age of the catalogue",
        meaning="The published catalogue is older than CATALOG_STALE_AFTER_S, and readers receive it marked `stale`."
        " The age keeps growing even while no process reports it.",
        look=("Panel *Age over time*: since when has the line only risen?", "Does NoSyncSeen fire too?"),
        act=(
            "Start `catalog-sync run` manually; its exit code and report show what is wrong.",
            "Check that cron or the scheduler still starts it.",
        ),
        trace=_sync_trace(where(contract.OUTCOME, FAILED_OUTCOMES, "=~")),
    )  # fmt: skip


def _unseen(settings: Settings) -> Rule:
    """Of an environment whose syncs are out of the window the recorded moments are left, and of none at all nothing."""
    known = f"({total(syncs(), duration(settings.no_sync_after))} or 0 * {seen_lately(settings)})"
    return Rule(
        name="NoSyncSeen",
        expr=f"{known} or (vector(0) unless on () {known})",
        operator="<",
        threshold=1,
        severity="critical",
        component="catalogue",
        summary=f"No sync has ended in the last {duration(settings.no_sync_after)}: the job is not running.",
        dashboard=_DASHBOARD,
        panel="Syncs by outcome",
        meaning="This is a dead man's switch: no process has reported the end of any sync, successful or not. The job"
        " is not started, it dies before its end, or its telemetry does not arrive.",
        look=(
            "Dashboard *Telemetry health*: does anything arrive at all?",
            "The crontab, the scheduler and the host; the job's own output.",
        ),
        act=(
            "Run `catalog-sync syncs`: it lists the last syncs of all processes, without telemetry.",
            "Start the scheduler again, then run `catalog-sync run`.",
        ),
        wait=settings.first_sync_grace,
    )


def _not_taken(settings: Settings) -> Rule:
    """By the wait, not by the length of the queue: that is long whenever a sync of many groups starts."""
    return Rule(
        name="QueueStuck",
        expr=f"max {per()} ({IN_RULE.of(contract.QUEUE_WAIT)})",
        operator=">",
        threshold=settings.queue_wait,
        severity="warning",
        component="catalogue",
        summary="A sync has been waiting for {{ $value | humanizeDuration }}, and no worker has taken it.",
        dashboard="catalog-load",
        panel="Wait for a worker",
        meaning="A sync was requested and its message is in the queue, but no worker has started it: there are no"
        " workers, or all of them are busy or hang. Readers keep the last good catalogue; CatalogueStale fires once it"
        " is older than CATALOG_STALE_AFTER_S.",
        look=(
            "Panel *Workers and their queue*: are there workers, and are all of their slots busy?",
            "`catalog-sync status`: workers seen recently, the running job, dead letters.",
        ),
        act=(
            "No workers: start some; they process the queue.",
            "All busy: start more, or raise `--concurrency`. A step that hangs is ended at its time limit.",
        ),
        hold=settings.hold,
    )


def heartbeat() -> Rule:
    """Always fires, so that a service that waits for it notices when alerting itself is dead."""
    return Rule(
        name="Watchdog",
        expr="vector(1)",
        operator=">",
        threshold=0,
        severity="none",
        component="heartbeat",
        summary="Alerting is alive.",
        dashboard="catalog-alerting",
        panel="Grafana's notifications",
        meaning="This rule always fires. Its notification goes to GRAFANA_HEARTBEAT_URL every minute; the service there"
        " raises an alarm if it is missing for two minutes.",
        look=("Nothing, as long as it fires.",),
        act=("If it stopped: is Grafana up, does it evaluate rules, and can it reach the network?",),
    )
