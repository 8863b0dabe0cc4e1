"""``catalog-sync status``."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.alerts.overview import overview as alerts_overview
from catalog_sync.cli.alerts import dead_letter_lines, incident_lines
from catalog_sync.cli.protection import with_shared_state
from catalog_sync.cli.tables import print_sections
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError, InvalidDataError
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.times import roughly, utc_now
from catalog_sync.history import History
from catalog_sync.jobs.overview import overview as jobs_overview
from catalog_sync.last_run import read_last_run
from catalog_sync.observability.contract import SERVICE_SYNC
from catalog_sync.store import redis_policy
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.sync.reporting import error_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from catalog_sync.domain.models import CatalogueMeta, Source
    from catalog_sync.settings.settings import Settings
    from catalog_sync.store import CatalogStore
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals

_OF_EVERY_SYNC: Final = ("correlation_id", "kind", "scope", "outcome", "started_at", "duration_s")
"""Fields that are known of every kept sync, even if its report lacks them."""


def status(output: CommandOutput, signals: StopSignals) -> int:
    """Shows what is known. What cannot be read is shown as unknown and does not make this command fail."""
    settings = app.read_settings()
    with app.observed(quiet=True):
        data = signals.run(lambda: _collect(settings))
    output.result(data, lambda: _print(data))
    return exit_codes.OK


async def _collect(settings: Settings) -> dict[str, Any]:
    last = read_last_run(settings.state_dir) or {}
    # Concurrently: if Redis does not answer, each of them waits for it.
    seen, newest, (protection, pause), alerts = await asyncio.gather(
        _store(settings),
        asyncio.to_thread(_last_sync, settings, last.get("report")),
        asyncio.to_thread(with_shared_state, settings, last),
        asyncio.to_thread(alerts_overview, settings),
    )
    paused_for = pause.left_after((seen["catalogue"] or {}).get("last_full_sync"), utc_now())
    protection["paused_for_s"] = round(paused_for, 3)
    return {**seen, "last_sync": newest, **protection, "alerts": alerts}


def _last_sync(settings: Settings, here: dict[str, Any] | None) -> Mapping[str, Any] | None:
    """The report of the last sync, whichever process ran it; ``here`` is the last one in this state folder."""
    with History(settings, SERVICE_SYNC) as history:
        newest = next(iter(history.latest(1).syncs), None)
    if newest is None or (here is not None and here["started_at"] >= newest.started_at):
        return here
    record = newest.to_json()
    return {**{name: record[name] for name in _OF_EVERY_SYNC}, **newest.report}


async def _store(settings: Settings) -> dict[str, Any]:
    """``catalogue``, ``store``, ``lock`` and ``jobs``."""
    try:
        async with app.open_catalogue(settings, redis_policy(settings)) as (store, snapshot):
            return await _look(settings, store, snapshot)
    except ConfigurationError:
        raise
    except (CatalogSyncError, OSError) as error:
        failure = error_info(error).to_json()
        return {
            "catalogue": await _from_snapshot(settings, Snapshot(settings.state_dir)),
            "store": {"backend": None, "reachable": False, "error": failure},
            "lock": {"state": "unknown", "holder": None},
            "jobs": None,
        }


async def _look(settings: Settings, store: CatalogStore, snapshot: Snapshot) -> dict[str, Any]:
    reachable: dict[str, Any] = {"backend": store.backend, "reachable": True, "error": None}
    catalogue = jobs = None
    lock: dict[str, Any] = {"state": "unknown", "holder": None}
    try:
        try:
            meta = await store.current()
        except InvalidDataError as damage:  # Redis answers, but its content is damaged
            meta, reachable["error"] = None, error_info(damage).to_json()
        if meta is not None:
            catalogue = _catalogue(meta, settings, "fresh")
        try:
            holder = await store.lock.holder()
            lock = {"state": "free" if holder is None else "held", "holder": holder.to_json() if holder else None}
        except InvalidDataError as damage:
            reachable["error"] = error_info(damage).to_json()
        jobs = await jobs_overview(store.redis)
    except InvalidDataError as damage:
        reachable["error"] = error_info(damage).to_json()
    except CatalogSyncError as error:
        reachable.update(reachable=False, error=error_info(error).to_json())
        lock = {"state": "unknown", "holder": None}
    return {
        "catalogue": catalogue or await _from_snapshot(settings, snapshot),
        "store": reachable,
        "lock": lock,
        "jobs": jobs,
    }


async def _from_snapshot(settings: Settings, snapshot: Snapshot) -> dict[str, Any] | None:
    file = await snapshot.load()
    return None if file is None else _catalogue(file.meta, settings, "snapshot")


def _catalogue(meta: CatalogueMeta, settings: Settings, source: Source) -> dict[str, Any]:
    judged = Freshness.of(meta, source, now=time.time(), stale_after=settings.stale_after)
    shown = {"source": judged.source, "stale": judged.stale, "age_s": round(judged.age, 3), "problem": judged.problem}
    return {**shown, **meta.to_json()}


def _print(data: dict[str, Any]) -> None:
    sections = {
        "catalogue": _catalogue_lines(data["catalogue"]),
        "store": _store_lines(data["store"]),
        "last sync": sync_lines(data["last_sync"]),
        "lock": _lock_lines(data["lock"]),
        "jobs": _job_lines(data["jobs"]),
        "breakers": [_breaker_line(entry) for entry in data["breakers"]] or ["no calls lately"],
        "budgets": [_budget_line(entry) for entry in data["budgets"]] or ["no calls lately"],
        "alerts": _alert_lines(data["alerts"]),
    }
    print_sections(sections)


def _job_lines(jobs: dict[str, Any] | None) -> Iterator[str]:
    if jobs is None:
        yield "unknown"
        return
    yield f"{len(jobs['workers'])} workers: {', '.join(worker['name'] for worker in jobs['workers']) or 'none'}"
    active = jobs["active"]
    if active is not None:
        progress = active["progress"]
        done = f"{progress['groups_done']} of {progress['groups_total']} groups"
        yield f"{active['kind']} sync {active['id']} is {active['status']}, {done}, trace {active['correlation_id']}"
    letters = jobs["dead_letters"]
    if letters["count"]:
        yield f"{letters['count']} DEAD LETTERS, the last:"
        for letter in letters["last"]:
            yield f"  {letter['at']} {letter['step'] or 'message'} of job {letter['job'] or '?'}: {letter['reason']}"


def _catalogue_lines(catalogue: dict[str, Any] | None) -> list[str]:
    if catalogue is None:
        return ["none: nothing was published yet, or it cannot be read"]
    lines = [
        f"{catalogue['bundles']:,} bundles, version {catalogue['version']}, source {catalogue['source']}",
        f"as of {catalogue['as_of']}, {roughly(catalogue['age_s'])} old",
        f"last full sync {catalogue['last_full_sync'] or 'never'}",
    ]
    if catalogue["problem"]:
        lines[1] = f"WRONG CLOCK: {catalogue['problem']}"
    for name, group in catalogue["groups"].items():
        mark = f", STALE, as of {group['as_of']}" if group["stale"] else ""
        lines.append(f"  {name}: {group['bundles']:,}{mark}")
    return lines


def _store_lines(store: dict[str, Any]) -> list[str]:
    if store["reachable"] and store["error"]:
        return [f"{store['backend']}, answers; DAMAGED: {store['error']['message']}; a full sync repairs it"]
    if store["reachable"]:
        return [f"{store['backend']}, answers"]
    return [f"{store['backend'] or 'none'}, does NOT answer: {store['error']['message']}"]


def sync_lines(report: Mapping[str, Any] | None) -> list[str]:
    """The last sync for a person; ``report`` is the object of ``run --json``."""
    if report is None:
        return ["no run yet"]
    scope = f" of {report['kind']} {report['scope']}" if report.get("scope") else ""
    lines = [f"{report['outcome']}{scope}, started {report['started_at']}, {report['duration_s']:.1f} s"]
    if report.get("error"):
        lines.append(f"{report['error']['type']}: {report['error']['message']}")
    lines += [f"WARNING: {warning}" for warning in report.get("warnings") or ()]
    return [*lines, f"correlation ID {report['correlation_id']}"]


def _lock_lines(lock: dict[str, Any]) -> list[str]:
    holder = lock["holder"]
    if holder is None:
        return [lock["state"]]
    return [f"held by {holder['owner']} since {holder['since']}, {holder['ttl_s']:.0f} s left"]


def _breaker_line(entry: dict[str, Any]) -> str:
    failed = f"{entry['failures']} of {entry['calls']} calls failed"
    line = f"{entry['dependency']}: {entry['state']} at {entry['at']}; {failed}"
    return f"{line}; {entry['rejected']} rejected" if entry["rejected"] else line


def _budget_line(entry: dict[str, Any]) -> str:
    return f"{entry['dependency']}: {entry['tokens']:.0f} of {entry['capacity']:.0f} tokens left at {entry['at']}"


def _alert_lines(alerts: dict[str, Any]) -> Iterator[str]:
    number = len(alerts["incidents"])
    yield f"channels: {', '.join(alerts['channels'])}; {number or 'no'} incident{'' if number == 1 else 's'} open"
    yield from incident_lines(alerts)
    if alerts["outbox"]:
        yield f"{len(alerts['outbox'])} wait in the outbox for the next run"
    if alerts["dead_letters"]:
        yield f"{len(alerts['dead_letters'])} DEAD LETTERS: no channel delivered them"
        yield from dead_letter_lines(alerts)
