"""The incidents: how each begins and ends, which alerts must come, and what the traces that they link to must show."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from catalog_sync.store.keys import REPLACED, VersionKeys
from drill import pace as paces
from drill.judge import Expectation
from drill.parts import COMPILER, World

Action = Callable[[World], None]
"""Turns a knob."""

Due = Callable[[World], float]
"""When the condition that must be reported started, in seconds since the epoch; called when it is over."""

SUPPLIER_TYPES: Final = frozenset({"503", "response_ended", "connection_error", "circuit_open", "429"})
COUNTRY: Final = "FR"
HOUR: Final = 3600
REFUSED: Final = 2
"""The exit code of a command that was refused."""

_SYNC: Final = frozenset({"SyncFailed"})
_CONSEQUENCES: Final = frozenset({
    "SyncFailed", "SyncPartial", "CircuitBreakerOpen", "RetryBudgetExhausted", "ErrorBudgetBurnFast", "ErrorBudgetBurn",
    "ErrorBudgetBurnSlow",
})  # fmt: skip
"""Alerts that failing calls to a dependency also cause."""


@dataclasses.dataclass(frozen=True, slots=True)
class Incident:
    """An incident to play."""

    expectation: Expectation
    begin: Action
    end: Action
    prepare: Action | None = None
    """What must run before it begins."""
    restore: Action | None = None
    """Undoes ``prepare`` when it is over."""
    short: bool = False
    """Part of the shortened drill."""
    due: Due | None = None
    """Seconds, if it need not be reported immediately."""
    lead: float = 0.0
    """Seconds of incident time that may pass until it is due."""
    needs: str | None = None
    """A program without which it cannot be played."""

    @property
    def name(self) -> str:
        """In commands and keys."""
        return self.expectation.name


def _scenario(scenario: str | dict[str, Any]) -> Action:
    def begin(world: World) -> None:
        world.supplier.play(scenario)

    return begin


def _brownout(world: World) -> None:
    slow = {"fault": "latency", "delay_s": world.pace.wall(1.2 * paces.ATTEMPT_TIMEOUT)}
    when = {"endpoint": "catalogue", "probability": 0.15}
    world.supplier.play({"name": "brownout", "rules": [slow | {"when": when}]})


def _throttled(world: World) -> None:
    refusal = {"fault": "status", "status": 429, "retry_after": world.pace.wall(1)}
    world.supplier.play({"name": "429 storm", "rules": [refusal | {"when": {"endpoint": "catalogue"}}]})


def _calm(world: World) -> None:
    world.supplier.play("calm")


def _redis_down(world: World) -> None:
    world.redis.kill()


def _redis_up(world: World) -> None:
    world.redis.start()


def _redis_full(world: World) -> None:
    """Room for what it has, and the lock, but not for a second version: there is no replaced one to delete."""
    for version in world.redis.command("ZRANGE", REPLACED, 0, -1):
        world.redis.command("DEL", *VersionKeys(version.decode()).all)
    world.redis.command("DEL", REPLACED)
    used = int(world.redis.command("INFO", "memory")["used_memory"])
    world.redis.command("CONFIG", "SET", "maxmemory", str(used + 100_000))


def _redis_roomy(world: World) -> None:
    world.redis.command("CONFIG", "SET", "maxmemory", "0")


def _scoped_job(world: World) -> None:
    """Only one country is renewed from now on: every run is COMPLETE, and the catalogue grows old."""
    world.job.arguments = ("--country", COUNTRY)


def _stale_from(world: World) -> float:
    """The last full sync before the runs of one country, and the age that must be reported."""
    scoped = max(number for number, run in enumerate(world.job.runs) if run.scoped)
    fresh = max(run.started for run in world.job.runs[:scoped] if run.outcome == "COMPLETE" and not run.scoped)
    return fresh + world.pace.wall(paces.DAY["stale_after"])


def _full_job(world: World) -> None:
    world.job.arguments = ()


def _webhook_down(world: World) -> None:
    world.receiver.down.add("/webhook")
    world.supplier.play("key-revoked")


def _webhook_up(world: World) -> None:
    world.receiver.down.discard("/webhook")
    world.supplier.play("calm")


def _collector_down(world: World) -> None:
    world.collector.kill()


def _collector_up(world: World) -> None:
    world.collector.start()


def _job_stops(world: World) -> None:
    world.job.pause()


def _missed_from(world: World) -> float:
    """The end of the last run, and how long nothing is said about it."""
    return world.job.runs[-1].ended + world.pace.wall(paces.SILENCE)


def _job_goes_on(_: World) -> None:
    """Nothing: the play restarts it after every incident."""


def _outage_without_stores(world: World) -> None:
    world.tempo.mode = world.loki.mode = "unavailable"
    world.supplier.play("outage")


def _stores_back(world: World) -> None:
    world.tempo.mode = world.loki.mode = "accept"
    world.supplier.play("calm")


def _loki_down(world: World) -> None:
    world.loki.mode = "unavailable"


def _tempo_down(world: World) -> None:
    world.tempo.mode = "unavailable"


def _mistake(world: World) -> None:
    """Somebody requests a group that does not exist, while the job continues."""
    code, _ = world.job.command("run", "--json", "--group", "Atlantis")
    if code != REFUSED:
        raise RuntimeError(f"a group that does not exist was not refused: exit code {code}")


def _clock_ahead(world: World) -> None:
    """The host of the job is an hour in the future; only its calendar, as with a wrongly set clock."""
    world.job.through = world.wrong_clock(HOUR)


def _clock_right(world: World) -> None:
    world.job.through = ()


def _workers_in(world: World) -> None:
    """From now on the job requests its syncs from the API, and a worker runs them; waits until that worker is there."""
    world.fleet.start()
    world.job.pause()
    world.job.order = world.fleet.sync
    world.job.go()


def _workers_out(world: World) -> None:
    world.job.pause()
    world.job.order = None
    world.fleet.stop()
    world.job.go()


EVERYDAY: Final[dict[str, Any]] = {
    "name": "everyday",
    "rules": [
        {
            "fault": "status",
            "status": 503,
            "retry_after": "none",
            "when": {"endpoint": "catalogue", "probability": 0.005},
        },
        {"fault": "bad_rows", "ratio": 0.01},
    ],
}
"""What goes wrong on any day and needs no attention: errors that a retry fixes, some unusable rows. Only a few, since
here the syncs of an hour or more share one window of the circuit breaker."""

INCIDENTS: Final = (
    Incident(
        Expectation(
            "outage",
            "the supplier responds with 503 or resets the connection",
            rules=_SYNC | {"CircuitBreakerOpen"},
            also=_CONSEQUENCES,
            kinds=frozenset({"sync_failed", "circuit_breaker"}),
            also_kinds=frozenset({"errors"}),
            shows=SUPPLIER_TYPES,
        ),
        _scenario("outage"),
        _calm,
        short=True,
    ),
    Incident(
        Expectation(
            "brownout",
            "one request in seven exceeds the attempt timeout",
            rules=frozenset({"DependencySlow"}),
            also=_CONSEQUENCES,
            also_kinds=frozenset({"sync_failed", "sync_partial", "circuit_breaker", "errors"}),
            shows=frozenset({"read_timeout", "attempt_timeout"}),
        ),
        _brownout,
        _calm,
    ),
    Incident(
        Expectation(
            "429-storm",
            "the supplier responds to most requests with 429",
            rules=frozenset({"Throttled"}) | _SYNC,
            also=_CONSEQUENCES | {"DependencySlow"},
            kinds=frozenset({"sync_failed", "errors", "sync_partial"}),
            shows=frozenset({"429"}),
        ),
        _throttled,
        _calm,
    ),
    Incident(
        Expectation(
            "bad-payload",
            "pages are HTML, empty, truncated or contradictory",
            rules=frozenset({"ContractDrift"}) | _SYNC,
            also=_CONSEQUENCES,
            kinds=frozenset({"contract_drift", "circuit_breaker", "sync_failed"}),
            also_kinds=frozenset({"errors"}),
            shows=frozenset({"invalid_response", "schema_mismatch", "truncated_body"}),
        ),
        _scenario("garbage"),
        _calm,
    ),
    Incident(
        Expectation(
            "key-revoked",
            "the supplier refuses the key with 403",
            rules=frozenset({"AuthenticationFailed"}) | _SYNC,
            also=_CONSEQUENCES,
            kinds=frozenset({"authentication"}),
            shows=frozenset({"403"}),
        ),
        _scenario("key-revoked"),
        _calm,
        short=True,
    ),
    Incident(
        Expectation(
            "redis-down",
            "redis-server is killed",
            rules=frozenset({"StoreFailing"}) | _SYNC,
            also=_CONSEQUENCES,
            kinds=frozenset({"store_unavailable", "circuit_breaker"}),
            also_kinds=frozenset({"errors"}),
            shows=frozenset({"connection_error", "connection_refused"}),
        ),
        _redis_down,
        _redis_up,
    ),
    Incident(
        Expectation(
            "redis-full",
            "maxmemory leaves no room for a second version",
            rules=frozenset({"StoreFailing"}) | _SYNC,
            also=_CONSEQUENCES,
            kinds=frozenset({"store_unavailable"}),
            also_kinds=frozenset({"errors"}),
            shows=frozenset({"redis_oom"}),
        ),
        _redis_full,
        _redis_roomy,
    ),
    Incident(
        Expectation(
            "stale-catalogue",
            "the job syncs only one country, so the rest becomes stale",
            rules=frozenset({"CatalogueStale"}),
            kinds=frozenset({"stale_catalogue"}),
        ),
        _scoped_job,
        _full_job,
        due=_stale_from,
        lead=paces.DAY["stale_after"],
    ),
    Incident(
        Expectation(
            "refused-publication",
            "half of the supplier's bundles have disappeared",
            rules=frozenset({"PublicationRefused"}) | _SYNC,
            also=_CONSEQUENCES,
            kinds=frozenset({"publish_refused"}),
            shows=frozenset({"publish_refused"}),
        ),
        _scenario("big-drop"),
        _calm,
    ),
    Incident(
        Expectation(
            "webhook-down",
            "the application's webhook responds with 503 while the key is revoked",
            rules=frozenset({"AlertDeliveryFailing"}),
            also=_CONSEQUENCES | {"AuthenticationFailed"},
            kinds=frozenset({"authentication"}),
            shows=frozenset({"503", "circuit_open"}),
            told_shows=frozenset({"403"}),
        ),
        _webhook_down,
        _webhook_up,
    ),
    Incident(
        Expectation(
            "collector-down",
            "the Collector is killed",
            rules=frozenset({"CollectorDown"}),
            also=frozenset({"TelemetryDropped", "NoSyncSeen"}),
        ),
        _collector_down,
        _collector_up,
    ),
    Incident(
        Expectation(
            "job-never-ran",
            "the job is no longer started",
            rules=frozenset({"NoSyncSeen"}),
            dead_man=True,
        ),
        _job_stops,
        _job_goes_on,
        due=_missed_from,
        lead=paces.SILENCE,
        short=True,
    ),
    Incident(
        Expectation(
            "stores-down",
            "Tempo and Loki are down together with the supplier",
            rules=_SYNC | {"CircuitBreakerOpen"},
            every=frozenset({"StoreDown"}),
            also=_CONSEQUENCES,
            kinds=frozenset({"sync_failed", "circuit_breaker"}),
            also_kinds=frozenset({"errors"}),
            shows=SUPPLIER_TYPES,
        ),
        _outage_without_stores,
        _stores_back,
    ),
    Incident(
        Expectation(
            "log-store-dead",
            "Loki accepts nothing and cannot be scraped; syncs succeed",
            rules=frozenset({"StoreDown"}),
        ),
        _loki_down,
        _stores_back,
    ),
    Incident(
        Expectation(
            "trace-store-dead",
            "Tempo accepts nothing and cannot be scraped; syncs succeed",
            rules=frozenset({"StoreDown"}),
        ),
        _tempo_down,
        _stores_back,
    ),
    Incident(
        Expectation(
            "clock-off",
            "the clock of the job's host is an hour ahead; syncs succeed",
            rules=frozenset({"ClockOff"}),
        ),
        _clock_ahead,
        _clock_right,
        needs=COMPILER,
    ),
    Incident(
        Expectation(
            "operators-mistake",
            "someone requests a group that does not exist; it is refused, and no one else is notified",
            silent=True,
        ),
        _mistake,
        lambda _: None,
    ),
    Incident(
        Expectation(
            "workers-outage",
            "the supplier is down while workers run the syncs, with shared protection",
            rules=_SYNC | {"CircuitBreakerOpen"},
            also=_CONSEQUENCES,
            kinds=frozenset({"sync_failed", "circuit_breaker"}),
            also_kinds=frozenset({"errors"}),
            shows=SUPPLIER_TYPES,
        ),
        _scenario("outage"),
        _calm,
        prepare=_workers_in,
        restore=_workers_out,
    ),
)  # fmt: skip


def playable(incidents: Iterable[Incident]) -> tuple[list[Incident], list[str]]:
    """The incidents whose programs are installed, and a line for each of the others."""
    able, lines = [], []
    for incident in incidents:
        if incident.needs is None or shutil.which(incident.needs) is not None:
            able.append(incident)
        else:
            lines.append(f"{incident.name} is left out: the program {incident.needs} is not here")
    return able, lines


def chosen(*, short: bool, names: list[str]) -> list[Incident]:
    """The incidents to play. Raises ``ValueError`` for an unknown name."""
    known = {incident.name: incident for incident in INCIDENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no incident {unknown[0]!r}; there are: {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [incident for incident in INCIDENTS if incident.short or not short]


def now() -> float:
    """Seconds since the epoch, as every program of the drill stamps its data."""
    return time.time()
