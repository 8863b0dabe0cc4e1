"""``catalog-sync doctor``: every connection is tested, and each finding comes with advice."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.cli import checks, reach_checks, telemetry_check
from catalog_sync.domain.errors import ConfigurationError, UnknownVariableError
from catalog_sync.sync.reporting import error_info
from catalog_sync.terminal.output import console, failure

if TYPE_CHECKING:
    from catalog_sync.cli.checks import Check
    from catalog_sync.settings.settings import Settings
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(output: CommandOutput, signals: StopSignals) -> int:
    """Runs every check. Returns 0 if none failed, else 1; 2 if a setting is not usable, as the only finding."""
    refused = None
    try:
        settings = app.read_settings(strict=True)
        with app.observed(quiet=True):
            found = signals.run(lambda: _examine(settings))
    except ConfigurationError as error:
        misspelt = isinstance(error, UnknownVariableError)
        advice = "correct its name, or unset it" if misspelt else "set the variable to an allowed value"
        found = [checks.fail("settings", str(error), advice)]
        refused = error_info(error).to_json()
        output.complain(str(error))
    failed = [f"{check.name}: {check.message}" for check in found if check.status == "fail"]
    healthy = not failed
    wrong = refused or (failure("check_failed", "; ".join(failed)) if failed else None)
    output.result({"ok": healthy, "checks": [check._asdict() for check in found]}, lambda: _print(found), wrong)
    if refused is not None:
        return exit_codes.USAGE
    return exit_codes.OK if healthy else exit_codes.FAILED


async def _examine(settings: Settings) -> list[Check]:
    found = await checks.store(settings)
    # The others concurrently: one whose target does not answer takes seconds.
    async with asyncio.TaskGroup() as tasks:
        supplier = tasks.create_task(checks.supplier(settings))
        alerts = tasks.create_task(asyncio.to_thread(checks.alerts, settings))
        receivers = tasks.create_task(reach_checks.receivers(settings.alerts))
        workers = tasks.create_task(reach_checks.workers(settings))
        telemetry = tasks.create_task(telemetry_check.telemetry(os.environ))
        snapshot = tasks.create_task(checks.snapshot(settings.state_dir))
    reached, date = supplier.result()
    return [
        checks.ok("settings", "every variable has an allowed value"),
        checks.state_dir(settings.state_dir),
        checks.disk(settings.state_dir),
        found.store,
        *([] if found.catalogue is None else [found.catalogue]),
        reached,
        checks.clock(date, found.skew),
        alerts.result(),
        *receivers.result(),
        workers.result(),
        telemetry.result(),
        snapshot.result(),
    ]


def _print(found: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for check in found:
        table.add_row(
            Text(check.status, style=_STYLES[check.status]), Text(check.name, style="bold"), Text(check.message)
        )
        if check.advice is not None:
            table.add_row("", "", Text(f"→ {check.advice}"))
    out = console(sys.stdout)
    out.print(table)
    out.print(Text(_verdict(found)))


def _verdict(found: list[Check]) -> str:
    counts: dict[str, Any] = {status: sum(check.status == status for check in found) for status in _STYLES}
    warnings = f"{counts['warn']} warning{'' if counts['warn'] == 1 else 's'}"
    return f"{counts['ok']} ok, {warnings}, {counts['fail']} failed"
