"""The check of ``catalog-sync doctor`` that exports each signal without content, and reports the responses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from catalog_sync.cli.checks import fail, ok

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog_sync.cli.checks import Check


async def telemetry(environ: Mapping[str, str]) -> Check:
    """Whether the OTLP endpoints accept an export of each signal sent there. Takes at most about three seconds."""
    from catalog_sync.observability.sdk.selection import choose_signals

    choice = choose_signals(environ)
    chosen = {"traces": choice.traces, "metrics": choice.metrics, "logs": choice.logs}
    targets = {signal: target for signal, target in chosen.items() if target is not None and target.endpoint}
    if not targets:
        if choice.any:
            return ok("telemetry", "written to stderr alone")
        return ok("telemetry", "not exported; set OTEL_EXPORTER_OTLP_ENDPOINT to export it")
    from catalog_sync.observability.sdk.probing import export_nothing, exporters_silent, shown  # loads the SDK

    with exporters_silent():
        answers = await asyncio.gather(
            *(asyncio.to_thread(export_nothing, signal, target) for signal, target in targets.items())
        )
    where = {signal: shown(target) for signal, target in targets.items()}
    refusals = {signal: answer for signal, answer in zip(targets, answers, strict=True) if answer is not None}
    if not refusals:
        return ok("telemetry", f"accepted: {'; '.join(f'{signal} by {place}' for signal, place in where.items())}")
    reasons = "; ".join(f"{signal} to {where[signal]}: {refusal.reason}" for signal, refusal in refusals.items())
    return fail(
        "telemetry", f"not accepted: {reasons}", "; ".join(dict.fromkeys(one.advice for one in refusals.values()))
    )
