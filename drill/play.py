"""Plays the incidents one after another, and has each judged."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final

from drill import judge, stores
from drill import pace as paces
from drill.incidents import EVERYDAY, Incident, now
from drill.judge import APPLICATION_WAYS, RULE_WAYS, Message, Played, Verdict, trace_key
from drill.parts import World
from otel_resilience.telemetry.contract import ATTEMPT_SPAN

STARTED_WITHIN: Final = 120.0
"""Seconds of wall time that the first syncs, and then the first scrapes, may take on a busy machine."""
REPORTED_WITHIN: Final = 180.0
"""Seconds of incident time after which an incident that was not reported is given up."""
LINGER: Final = 60.0
"""How long an incident goes on once it is reported, so that further messages show: seconds as rules remember them."""
QUIET_WITHIN: Final = 270.0
"""Seconds of incident time that an incident may be reported after its end."""
SETTLED: Final = 2.0
"""Seconds of wall time without any alert before the next incident."""
POLL: Final = 0.25


def play(world: World, incidents: Iterable[Incident], calm: float) -> Iterator[Verdict]:
    """The calm stretch of that many seconds, then the incidents.

    Raises ``RuntimeError`` if it does not become calm.
    """
    _say("starting: the first syncs")
    world.job.go()
    _started(_until(lambda: sum(run.outcome == "COMPLETE" for run in world.job.runs) >= 2, STARTED_WITHIN), "syncs")
    _started(_until(world.is_watched, STARTED_WITHIN), "Prometheus and its targets")
    _started(_quiet(world), "alerts")
    _say(f"calm: {calm:.0f} s")
    world.supplier.play(EVERYDAY)
    began = now()
    time.sleep(calm)
    yield judge.calm_verdict(began, now(), world.receiver.messages())
    world.supplier.play("calm")
    for incident in incidents:
        yield _one(world, incident)


def _started(started: bool, what: str) -> None:
    if not started:
        raise RuntimeError(f"the drill cannot begin: {what} did not settle")


def _one(world: World, incident: Incident) -> Verdict:
    expected = incident.expectation
    _say(f"{expected.name}: {expected.title}")
    if incident.prepare is not None:
        incident.prepare(world)
        settled = len(world.job.runs)
        _until(lambda: any(run.outcome == "COMPLETE" for run in world.job.runs[settled:]), STARTED_WITHIN)
        _quiet(world)
    world.forget()
    started = now()
    incident.begin(world)
    reported = _until(lambda: _is_reported(world, incident, started), world.pace.wall(REPORTED_WITHIN + incident.lead))
    if reported:
        time.sleep(LINGER / world.pace.memory)
    ended, began = now(), started if incident.due is None else incident.due(world)
    world.job.pause()  # a run that sees half of an incident is another incident
    incident.end(world)
    world.job.go()
    overdue = not _quiet(world)
    played = Played(expected, started, began, ended, now())
    if incident.restore is not None:
        incident.restore(world)
    messages = world.receiver.messages()
    line = judge.verdict(
        played,
        messages,
        speed=world.pace.waits,
        traces=traces(world, played, messages),
        beats=world.receiver.beats(),
        silence=world.pace.wall(paces.SILENCE),
    )
    line = judge.with_problems(dataclasses.replace(line, overdue=overdue))
    _say(f"  {'; '.join(line.problems) or 'as it should be'}; runs: {_runs(world, started)}")
    for text in _story(messages, started):
        _say(text)
    return line


def _is_reported(world: World, incident: Incident, started: float) -> bool:
    expected = incident.expectation
    if expected.silent:
        return now() - started > world.pace.wall(judge.PAGE_WITHIN)
    names = {
        (message.way in RULE_WAYS, alert.name)
        for message in world.receiver.messages()
        if message.at >= started
        for alert in message.alerts
        if alert.firing
    }
    by_rule = any((True, name) in names for name in expected.rules)
    by_rule = by_rule and all((True, name) in names for name in expected.every)
    by_application = not expected.kinds or any((False, name) in names for name in expected.kinds)
    return by_rule and by_application


def _quiet(world: World) -> bool:
    """Whether every alert ended, and was reported as ended, in time."""
    calm_since: list[float] = []

    def quiet() -> bool:
        if world.firing() or _open(world):
            calm_since.clear()
            return False
        calm_since.append(time.monotonic())
        return calm_since[-1] - calm_since[0] >= SETTLED

    return _until(quiet, world.pace.wall(QUIET_WITHIN))


def _open(world: World) -> set[tuple[str, str, str]]:
    """What was reported as begun and goes on; of the application's receivers any will do."""
    reported: dict[tuple[str, str, str], bool] = {}
    for message in world.receiver.messages():
        if message.way in RULE_WAYS:
            way = message.way
        elif message.way in APPLICATION_WAYS and message.at >= world.forgot_at:
            way = "application"
        else:
            continue
        reported.update({(way, alert.name, alert.key): alert.firing for alert in message.alerts})
    over = world.over()
    return {key for key, firing in reported.items() if firing and not (key[0] == "application" and key[2] in over)}


def traces(world: World, played: Played, messages: Iterable[Message]) -> dict[str, bool | None]:
    """By way and alert: whether the trace that the message leads to shows the failure."""
    expected = played.expectation
    if not expected.shows:
        return {}
    found: dict[str, bool | None] = {}
    for message in messages:
        if not played.started <= message.at < played.quiet:
            continue
        for alert in message.alerts:
            key = trace_key(message.way, alert.name)
            if alert.firing and key not in found:
                own = message.way in APPLICATION_WAYS
                ids = [alert.trace_id] if own else _linked(world, played, alert)
                shows = (own and expected.told_shows) or expected.shows
                name = _promised(alert)
                found[key] = all(each is not None and _shows(world, each, shows, name) for each in ids) if ids else None
    return found


def _linked(world: World, played: Played, alert: judge.Reported) -> list[str | None]:
    """The first result behind each link of an alert: of the search for traces, and of the search for log records.

    Everything since the beginning of the drill is searched, as a person would find it.
    """
    if alert.traceql is None or alert.logql is None:
        return []
    traces = stores.search(alert.traceql, world.tempo.spans, 0.0, played.quiet)
    records = stores.records(alert.logql, world.loki.logs, 0.0, played.quiet)
    return [next(iter(traces), None), records[0].trace_id if records else None]


def _promised(alert: judge.Reported) -> str | None:
    """The span that must have failed: one that rejected calls left says that something is wrong, and not what."""
    return ATTEMPT_SPAN if f'name = "{ATTEMPT_SPAN}"' in (alert.traceql or "") else None


def _shows(world: World, trace_id: str, shows: frozenset[str], name: str | None) -> bool:
    return bool(stores.failures(trace_id, world.tempo.spans, name) & shows)


def _runs(world: World, since: float) -> str:
    counts: dict[str, int] = {}
    for run in world.job.runs:
        if run.ended >= since:
            name = run.outcome + (f" {run.error_type}" if run.error_type else "")
            counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _story(messages: Iterable[Message], started: float) -> Iterator[str]:
    """What came, message by message."""
    for message in messages:
        if message.at >= started and message.way in (*RULE_WAYS, *APPLICATION_WAYS):
            alerts = ", ".join(f"{'+' if alert.firing else '-'}{alert.name}" for alert in message.alerts)
            yield f"    {message.at - started:6.1f} s {message.way}: {alerts}"


def _until(condition: object, seconds: float) -> bool:
    assert callable(condition)
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL)
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
