"""The commands of ``catalog-sync`` and their options, as Typer reads them.

Each function imports the code of its command when called: help, completion and argument errors do not wait for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import typer

from catalog_sync.terminal import arguments
from catalog_sync.terminal.arguments import AsJson, Version, command, examples
from catalog_sync.terminal.output import CommandOutput, UsageError
from catalog_sync.terminal.signals import StopSignals
from esim_go_simulator import command as simulator

Action: TypeAlias = Callable[[CommandOutput, StopSignals], int]
"""Runs a command and returns its exit code."""

app = typer.Typer(rich_markup_mode=None, context_settings=arguments.SETTINGS)
_alerts = typer.Typer(rich_markup_mode=None)


def _command(
    group: typer.Typer, *shown: str, name: str | None = None
) -> Callable[[Callable[..., Action]], Callable[..., Action]]:
    """Decorates the function of a command: Typer reads its options; the action it returns runs outside Typer."""

    def add(function: Callable[..., Action]) -> Callable[..., Action]:
        @functools.wraps(function)
        def read(**options: Any) -> Action:
            return lambda output, signals: function(**options)(output, signals)

        return command(group, *shown, name=name)(read)

    return add


def _text(metavar: str, description: str) -> Any:
    return typer.Option(parser=arguments.text, metavar=metavar, help=description)


def _count(description: str) -> Any:
    return typer.Option(parser=arguments.whole(0, 999_999_999), metavar="N", help=description)


@app.callback(
    epilog=examples("catalog-sync demo", "catalog-sync run", "catalog-sync search --country PT --json"),
)
def catalog_sync(version: Version = False) -> None:
    """Copies the eSIM Go catalogue into Redis, completely or not at all, and reports what happened.

    Every command takes --json: one JSON object on stdout and nothing else, also when it fails.
    """


@_command(app, "catalog-sync demo", "catalog-sync demo --fast --json")
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="A smaller catalogue and a shorter outage.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Play a sync, faults, an outage and the recovery on this machine."""
    from catalog_sync.demo.command import demo

    return partial(demo, fast=fast)


@_command(app, "catalog-sync run", "catalog-sync run --country PT", "catalog-sync run --if-due --json")
def run(
    group: Annotated[str | None, _text("G", "Sync this group only.")] = None,
    country: Annotated[str | None, _text("ISO", "Sync the bundles of this country only.")] = None,
    bundle: Annotated[str | None, _text("NAME", "Sync this bundle only.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish even if a guard objects.")] = False,
    if_due: Annotated[
        bool,
        typer.Option(
            "--if-due",
            help="Only if the catalogue is older than CATALOG_SYNC_EVERY_S and the supplier has not requested a pause.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> Action:
    """Sync the catalogue, or a part of it: at most one of --group, --country and --bundle.

    Exit codes: 0 complete, 1 failed, 2 usage or configuration, 3 partial, 4 another run holds the lock, 5 Redis is not
    available, 129, 130 and 143 stopped.
    """
    scopes = {"--group": group, "--country": country, "--bundle": bundle, "--if-due": if_due or None}
    given = [option for option, value in scopes.items() if value is not None]
    if len(given) > 1:
        raise UsageError("catalog-sync run", f"{' and '.join(given)} cannot be combined")

    from catalog_sync.cli.run import run, sync_request

    request = sync_request(group=group, country=country, bundle=bundle, force=force, if_due=if_due)
    return partial(run, request, if_due=if_due)


@_command(
    app,
    "catalog-sync search --country PT --min-days 7",
    "catalog-sync search --text 10GB --limit 0",
    "catalog-sync search --region Europe --json",
)
def search(
    country: Annotated[str | None, _text("ISO", "Country code, as the supplier spells it.")] = None,
    group: Annotated[str | None, _text("G", "Bundles of this group.")] = None,
    region: Annotated[str | None, _text("R", "Bundles of this region.")] = None,
    min_days: Annotated[int | None, _count("Shortest duration in days.")] = None,
    max_days: Annotated[int | None, _count("Longest duration in days.")] = None,
    text: Annotated[str | None, _text("T", "Part of the name or description.")] = None,
    limit: Annotated[int, _count("At most N bundles; 0: all.")] = 50,
    offset: Annotated[int, _count("Leave out the first N.")] = 0,
    as_json: AsJson = False,
) -> Action:
    """Search the catalogue.

    Exit codes: 0 answered, also with nothing found, 6 no catalogue to read.
    """
    if min_days is not None and max_days is not None and min_days > max_days:
        raise UsageError("catalog-sync search", f"--min-days {min_days} is more than --max-days {max_days}")

    from catalog_sync.cli import read
    from catalog_sync.store.reader import Query

    query = Query(group, country, region, min_days, max_days, text, limit, offset)
    return partial(read.search, query)


@_command(app, "catalog-sync show esim_100GB_180D_RGBL_V2")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the bundle.")], as_json: AsJson = False
) -> Action:
    """Show one bundle of the catalogue.

    Exit codes: 0 found, 1 no such bundle, 6 no catalogue to read.
    """
    from catalog_sync.cli import read

    return partial(read.show, name)


@_command(app, "catalog-sync status", "catalog-sync status --json")
def status(as_json: AsJson = False) -> Action:
    """Show catalogue, last sync, lock, breakers, budgets and alerts."""
    from catalog_sync.cli.status import status

    return status


@_command(app, "catalog-sync syncs", "catalog-sync syncs --outcome FAILED", "catalog-sync syncs --limit 5 --json")
def syncs(
    limit: Annotated[int, _count("At most N syncs; 0: all that are kept.")] = 20,
    outcome: Annotated[
        Literal["COMPLETE", "PARTIAL", "SKIPPED_LOCKED", "LOCK_UNAVAILABLE", "FAILED"] | None,
        typer.Option(case_sensitive=False, help="Syncs with this outcome."),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Show the last syncs, newest first, from the command line, scheduler, API and workers."""
    from catalog_sync.cli.history import show_syncs

    return lambda output, _: show_syncs(output, limit=limit, outcome=outcome)


@_command(app, "catalog-sync trace", "catalog-sync trace 4bf92f35", "catalog-sync trace 4bf92f35 --json")
def trace(
    identifier: Annotated[
        str | None,
        typer.Argument(
            metavar="[CORRELATION_ID]", parser=arguments.text, help="The ID, or at least its first eight digits."
        ),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Show what a failed sync did as a tree, with the attempt that failed. Without an ID: the last failed sync.

    Exit codes: 0 shown, 1 nothing is known of it.
    """
    from catalog_sync.cli.history import show_trace

    return partial(show_trace, identifier)


command(app, *simulator.EXAMPLES)(simulator.simulate)

app.add_typer(
    _alerts, name="alerts", short_help="Show incidents, outbox and dead letters; act on an incident; or send a test."
)


@_command(app, "catalog-sync doctor", "catalog-sync doctor --json")
def doctor(as_json: AsJson = False) -> Action:
    """Check every connection and say what to do.

    Exit codes: 0 no check failed, 1 one failed, 2 a setting cannot be used.
    """
    from catalog_sync.cli.doctor import doctor

    return doctor


@_alerts.callback(
    invoke_without_command=True,
    epilog=examples(
        "catalog-sync alerts",
        "catalog-sync alerts test --severity CRITICAL",
        "catalog-sync alerts silence ID --for 2h",
    ),
)
def alerts(as_json: AsJson = False) -> Action:
    """Show incidents, outbox and dead letters; act on an incident; or send a test. Without a command: list."""
    return alerts_list()


@_command(_alerts, "catalog-sync alerts list --json", name="list")
def alerts_list(as_json: AsJson = False) -> Action:
    """Show open incidents, the outbox and dead letters."""
    from catalog_sync.cli.alerts import show_alerts

    return lambda output, _: show_alerts(output)


@_command(_alerts, "catalog-sync alerts test", "catalog-sync alerts test --channel webhook", name="test")
def alerts_test(
    severity: Annotated[
        Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"], typer.Option(case_sensitive=False, help="Severity of the test.")
    ] = "HIGH",
    channel: Annotated[list[str] | None, _text("C", "Test this channel only; may be repeated.")] = None,
    as_json: AsJson = False,
) -> Action:
    """Send a test through the real path of an alert, and wait for the confirmations.

    Exit codes: 0 every channel confirmed, 1 one did not.
    """
    from catalog_sync.cli.alerts import send_test

    return lambda output, _: send_test(severity, channel, output)


Incident = Annotated[
    str, typer.Argument(metavar="ID", parser=arguments.text, help="ID of the incident; catalog-sync alerts lists them.")
]

Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept with the incident.")]


@_command(_alerts, "catalog-sync alerts ack 3f2a9c51d08e7b64", name="ack")
def alerts_ack(identifier: Incident, reason: Reason = None, as_json: AsJson = False) -> Action:
    """Acknowledge an incident: it is neither escalated nor repeated."""
    return _on_incident("ack", identifier, reason)


@_command(_alerts, "catalog-sync alerts close 3f2a9c51d08e7b64", name="close")
def alerts_close(identifier: Incident, reason: Reason = None, as_json: AsJson = False) -> Action:
    """Close an incident and notify its channels."""
    return _on_incident("close", identifier, reason)


@_command(_alerts, "catalog-sync alerts silence 3f2a9c51d08e7b64 --for 2d", name="silence")
def alerts_silence(
    identifier: Incident,
    seconds: Annotated[
        float, typer.Option("--for", parser=arguments.duration, metavar="T", help="Duration, as 30m, 4h or 2d.")
    ] = "4h",  # type: ignore[assignment]  # parsed as what a user gives
    reason: Reason = None,
    as_json: AsJson = False,
) -> Action:
    """Send nothing about an incident for a while, except that it is resolved."""
    return _on_incident("silence", identifier, reason, seconds)


@_command(_alerts, "catalog-sync alerts resend 3f2a9c51d08e7b64", name="resend")
def alerts_resend(identifier: Incident, reason: Reason = None, as_json: AsJson = False) -> Action:
    """Send the last message of an incident again, or a dead letter by its ID."""
    return _on_incident("resend", identifier, reason)


def _on_incident(
    decision: Literal["ack", "close", "silence", "resend"], identifier: str, reason: str | None, seconds: float = 0.0
) -> Action:
    from catalog_sync.cli.alerts import act_on_incident

    return lambda output, _: act_on_incident(decision, identifier, seconds, reason, output)
