"""``catalog-sync demo``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.demo import acts
from catalog_sync.demo.stage import Scale, open_stage, prepared
from catalog_sync.terminal.output import console, failure
from catalog_sync.terminal.progress import progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from catalog_sync.demo.acts import Act
    from catalog_sync.demo.inbox import Inbox
    from catalog_sync.demo.trace_store import TelemetryStore
    from catalog_sync.observability.sdk import Telemetry
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals


def demo(output: CommandOutput, signals: StopSignals, *, fast: bool) -> int:
    """Runs the four acts. Returns 0 if all went as expected, else 1.

    Raises ``ConfigurationError`` if an environment variable is not usable.
    """
    app.read_settings()  # the demo replaces them, but an invalid variable is an error here too
    scale = Scale.of(fast=fast)
    out = None if output.as_json else console(sys.stdout)
    started = time.monotonic()
    with prepared(scale) as (received, inbox), app.observed(silent=True) as telemetry:
        played, backend = signals.run(lambda: _play(scale, telemetry, received, inbox, out))
    seconds = time.monotonic() - started
    good = all(act.expected for act in played)
    if out is not None:
        from catalog_sync.demo import scenery

        scenery.closing(out, played, seconds)
    else:
        data = {"ok": good, "duration_s": round(seconds, 3), "backend": backend}
        data["acts"] = [act.to_json() for act in played]
        if not good:
            short = [f"act {act.number}: {', '.join(act.shortfalls or ())}" for act in played if not act.expected]
            data["error"] = failure("act_fell_short", "; ".join(short))
        output.json(data)
    return exit_codes.OK if good else exit_codes.FAILED


async def _play(
    scale: Scale, telemetry: Telemetry, received: TelemetryStore, inbox: Inbox, out: Console | None
) -> tuple[list[Act], str]:
    if out is not None:
        from catalog_sync.demo import scenery

        scenery.starting(out)
    played = []
    async with open_stage(scale, telemetry, received, inbox) as stage:
        if out is not None:
            scenery.opening(out, scale, stage)
        for act, body in acts.programme():
            if out is not None:
                scenery.heading(out, act)
            with progress_bar(f"act {act.number}") as stage.listener:
                await acts.play(stage, act, body)
            stage.listener = None
            if out is not None:
                scenery.results(out, act)
            played.append(act)
        return played, stage.service.store.backend
