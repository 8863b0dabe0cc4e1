"""The demo's output: 100 columns wide on a terminal, plain text in a pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from rich import box
from rich.table import Table
from rich.text import Text

from catalog_sync.observability import contract as application
from catalog_sync.terminal.output import pasteable
from otel_resilience.telemetry import contract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from catalog_sync.demo.acts import Act
    from catalog_sync.demo.figures import Branch
    from catalog_sync.demo.stage import Scale, Stage
    from catalog_sync.demo.trace_store import Span
    from catalog_sync.domain.models import SyncReport

_OUTCOMES: Final = {"COMPLETE": "bold green", "PARTIAL": "bold yellow", "FAILED": "bold red"}
_SEVERITIES: Final = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "dim"}
_STATES: Final = {"closed": "green", "open": "red", "half_open": "yellow"}
_NAME_WIDTH: Final = 44
_WIDTH_WITH_SERVICE: Final = 76
"""Terminal columns from which on a call's tree has room for the service of each span."""

TRY_NEXT: Final = (
    ("in another terminal, a supplier that misbehaves:", "catalog-sync simulate --port 8099 --scenario flaky"),
    ("ask that one:", "export ESIM_GO_BASE_URL=http://127.0.0.1:8099/v2.5 ESIM_GO_API_KEY=simulator-key"),
    ("check every connection:", "catalog-sync doctor"),
    ("sync; the exit code is the outcome:", "catalog-sync run; echo $?"),
    ("read it:", "catalog-sync search --country FR --max-days 7"),
    ("catalogue, lock, breakers, budgets:", "catalog-sync status"),
    ("test the alert channels; set ERROR_ALERT_WEBHOOK_URL first:", "catalog-sync alerts test"),
    ("send all telemetry to your Collector:", "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"),
)


def busy_machine() -> str | None:
    """How busy this machine is, if it is overloaded."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    return f"This machine is busy: load {load:.0f} on {processors} processors." if load > 2 * processors else None


def starting(out: Console) -> None:
    """What is being started: the first line, before anything takes time."""
    out.print(Text("A catalogue sync that fails out loud", style="bold"))
    out.print(Text("Starting a supplier simulator and a store; four acts follow, in about a minute.", style="dim"))
    if busy := busy_machine():
        out.print(Text(f"{busy} It takes longer, and some calls time out that otherwise would not.", style="yellow"))


def opening(out: Console, scale: Scale, stage: Stage) -> None:
    """The components and their settings."""
    where, store = stage.simulator.base_url, stage.service.store.backend
    out.print(
        Text(
            f"{scale.bundles:,} bundles. Supplier: a simulator of eSIM Go, another process, at {where}.\n"
            f"Store: {store}. All figures come from the OpenTelemetry data that both processes emit.\n"
            "To be quick, the demo sets:"
        )
    )
    for name, value in scale.settings().items():
        out.print(Text(f"  {name}={value}", style="dim"))


def heading(out: Console, act: Act) -> None:
    """What is about to happen."""
    out.print()
    out.rule(Text(f"Act {act.number}: {act.title}", style="bold"), align="left", style="dim")
    out.print(Text(act.intro))


def results(out: Console, act: Act) -> None:
    """What happened."""
    out.print()
    for number, report in enumerate(act.reports, start=1):
        out.print(_outcome(report, number if len(act.reports) > 1 else None))
    for note in act.notes:
        out.print(Text(f"  {note}"))
    _worst_call(out, act)
    _errors(out, act)
    _breaker(out, act)
    out.print(Text.assemble(("Retry success rate  ", "bold"), "; ".join(_retries(act))))
    _alerts(out, act)
    for shortfall in act.shortfalls or ():
        out.print(Text(f"Not as it should be: {shortfall}", style="bold red"))
    if act.shortfalls and (busy := busy_machine()):
        out.print(Text(busy, style="yellow"))


def _alerts(out: Console, act: Act) -> None:
    suppressed = ", ".join(
        f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(act.alerts_suppressed.items())
    )
    if not act.alerts:
        out.print(Text.assemble(("Alerts  ", "bold"), "none sent", f"; suppressed: {suppressed}" if suppressed else ""))
        return
    out.print(Text("Alerts, as the webhook received them", style="bold"))
    for each in act.alerts:
        message = each.message
        line = Text(f"  {each.at - act.began:6.2f} s  ")
        line.append(f"{message['severity']} {message['status']}", style=_SEVERITIES.get(message["severity"], ""))
        line.append(f"  {message['title']}")
        lasted = f", resolved after {message['duration_s']:.1f} s" if message["status"] == "resolved" else ""
        seen = "once" if message["total"] == 1 else f"{message['total']} times"
        line.append(f"\n            seen {seen}{lasted}; trace {message['correlation_id']}", style="dim")
        out.print(line)
    out.print(Text(f"  suppressed: {suppressed or 'nothing'}"))


def _retries(act: Act) -> Iterator[str]:
    retries = act.retries
    if retries.rate is not None:
        yield f"{retries.rate:.0%}: {retries.succeeded} of {retries.needed} calls that were repeated succeeded"
    elif not retries.suppressed:
        yield "no call needed a retry"
    else:
        yield "no call was repeated"
    for reason, count in sorted(retries.suppressed.items()):
        yield f"{count} {'retry was' if count == 1 else 'retries were'} suppressed: {reason}"


def closing(out: Console, acts: list[Act], seconds: float) -> None:
    """What to try next."""
    out.print()
    out.rule(Text("What to try next", style="bold"), align="left", style="dim")
    for why, command in TRY_NEXT:
        out.print(Text(f"  {why}", style="dim"))
        out.print(Text(f"    {pasteable(command)}", style="cyan"), soft_wrap=True)  # a wrapped command cannot be pasted
    good = sum(act.expected for act in acts)
    out.print()
    out.print(
        Text(f"{good} of {len(acts)} acts went as they should, in {seconds:.0f} s. Everything was stopped and removed.")
    )


def _outcome(report: SyncReport, number: int | None) -> Text:
    line = Text.assemble(
        (f"Outcome{'' if number is None else f', run {number}'}  ", "bold"),
        (report.outcome.value, _OUTCOMES.get(report.outcome.value, "")),
        f"  readers see {report.bundles:,} bundles · {report.attempts} requests, {report.retries} repeated"
        f" · {report.duration_s:.2f} s",
    )
    line.append(f"\n  correlation ID {report.correlation_id}", style="dim")
    if report.error is not None:
        hint = report.error.retry_after_s
        line.append(f"\n  {report.error.type}, {report.error.severity}: {report.error.message}", style="red")
        if hint is not None:
            line.append(f"\n  try again in {hint:.1f} s", style="dim")
    return line


def _worst_call(out: Console, act: Act) -> None:
    if act.worst is None:
        return
    root = act.worst.span
    title = "The worst call" if act.errors else "The slowest call"
    out.print(Text.assemble((f"\n{title}", "bold"), f"  trace and correlation ID {root.trace_id}"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=True, header_style="dim")
    table.add_column("span", max_width=_NAME_WIDTH, overflow="fold")
    with_service = out.width >= _WIDTH_WITH_SERVICE
    if with_service:
        table.add_column("service", no_wrap=True, style="dim")
    table.add_column("at", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    for prefix, span in _lines(act.worst, "", ""):
        name = f"{prefix}{span.name}{_detail(span)}"
        table.add_row(
            Text(name, style="red" if span.failed else ""),
            *([Text(span.service.removeprefix("esim-go-"))] if with_service else []),
            f"{span.start - root.start:.2f} s",
            f"{span.duration:.3f} s",
            Text(_result(span), style="red" if span.failed else "green"),
        )
    out.print(table)
    if not with_service:
        out.print(Text("not shown for lack of width: service", style="dim"))


def _lines(branch: Branch, first: str, rest: str) -> Iterator[tuple[str, Span]]:
    yield first, branch.span
    for place, child in enumerate(branch.children):
        last = place == len(branch.children) - 1
        yield from _lines(child, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "))


def _detail(span: Span) -> str:
    """What distinguishes spans of the same name."""
    number = span.attributes.get(contract.ATTEMPT_NUMBER)
    if number is not None:
        return f" {number}"
    group = span.attributes.get(application.GROUP)
    if group is not None:
        return f" {group}"
    page = parse_qs(str(span.attributes.get("url.query", ""))).get("page")
    return f" page {page[0]}" if page else ""


def _result(span: Span) -> str:
    given = span.attributes
    status = given.get("http.response.status_code")
    outcome = given.get(contract.OUTCOME) or given.get(application.OUTCOME) or given.get("simulator.fault")
    words = [str(word) for word in (given.get(contract.ERROR_TYPE), outcome) if word is not None]
    if status is not None and str(status) not in words:
        words.insert(0, str(status))
    if not words and span.kind == "CLIENT" and "http.request.method" in given:
        return "no answer"
    return " ".join(words) or ("error" if span.failed else "ok")


def _errors(out: Console, act: Act) -> None:
    if not act.errors:
        out.print(Text.assemble(("\nErrors  ", "bold"), "none"))
        return
    out.print(Text("\nErrors by type and severity", style="bold"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("error.type", "class", "severity"):
        table.add_column(name, no_wrap=True)
    table.add_column("attempts", justify="right", no_wrap=True)
    for each in act.errors:
        severity = Text(each.severity, style=_SEVERITIES.get(each.severity, ""))
        table.add_row(Text(each.type), Text(each.error_class), severity, str(each.count))
    out.print(table)


def _breaker(out: Console, act: Act) -> None:
    if not act.changes:
        out.print(Text.assemble(("Circuit breaker  ", "bold"), ("stayed closed", "green")))
        return
    out.print(Text("Circuit breaker", style="bold"))
    for change in act.changes:
        line = Text(f"  {change.at - act.began:6.2f} s  ")
        line.append(f"{change.source} → ", style="dim")
        line.append(change.target, style=_STATES.get(change.target, ""))
        line.append(f"  {change.reason.replace('_', ' ')}")
        if change.error_type is not None:
            line.append(f": {change.error_type}", style="dim")
        if change.open_for is not None:
            line.append(f", open for {change.open_for:.1f} s", style="dim")
        out.print(line)
