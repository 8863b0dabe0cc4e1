"""``catalog-sync syncs`` and ``catalog-sync trace``: from a message to the failed attempt, in the terminal."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.alerts.links import links_of
from catalog_sync.cli.tables import Column, folded, print_sections, print_table
from catalog_sync.domain.identifiers import is_beginning, pasted
from catalog_sync.domain.text import printable
from catalog_sync.domain.times import duration
from catalog_sync.history import History
from catalog_sync.history.records import ASKED_BY
from catalog_sync.observability.contract import SERVICE_SYNC, SERVICE_WORKER
from catalog_sync.observability.traces import tree as span_tree
from catalog_sync.terminal.output import console, failure, pasteable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.tree import Tree

    from catalog_sync.history import SyncRecord
    from catalog_sync.history.history import Found
    from catalog_sync.observability.traces import SpanRecord
    from catalog_sync.settings.settings import Settings
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals
    from otel_resilience.alerting.model.alert import Links

RUNBOOK: Final = "docs/runbook.md"

_CIRCUIT_OPEN: Final = "circuit_open"

_INCOMPLETE: Final = "Not everything could be read: there may be more syncs than these."


def show_syncs(output: CommandOutput, *, limit: int, outcome: str | None) -> int:
    """Shows the last syncs, newest first; ``limit`` 0: all."""
    settings = app.read_settings()
    with app.observed(quiet=True), History(settings, SERVICE_SYNC) as history:
        found = history.latest()
    shown = [record for record in found.syncs if outcome in (None, record.outcome.value)]
    total = len(shown)
    shown = shown[: limit or None]
    data = {"syncs": [record.line() for record in shown], "total": total, "complete": found.complete}
    output.result(data, lambda: _print_syncs(shown, total, complete=found.complete))
    return exit_codes.OK


def show_trace(identifier: str | None, output: CommandOutput, signals: StopSignals) -> int:
    """Shows one sync with its spans; without an ID the last one with a failure. 1 if there is none."""
    settings = app.read_settings()
    wanted = None if identifier is None else pasted(identifier)
    with app.observed(quiet=True), History(settings, SERVICE_SYNC) as history:
        found = history.latest()
        record = _chosen(found.syncs, wanted)
        known = record.correlation_id if record is not None else wanted
        spans = [] if known is None else signals.run(lambda: _spans(settings, history.traces, known))
    if record is None and not spans:
        return _unknown(wanted, found, output)
    _show(settings, record, spans, _opener(found.syncs, record), output)
    return exit_codes.OK


def _chosen(syncs: Sequence[SyncRecord], wanted: str | None) -> SyncRecord | None:
    if wanted is None:
        return next((record for record in syncs if record.failed), None)
    if not is_beginning(wanted):
        return next((record for record in syncs if record.correlation_id == wanted), None)
    return next((record for record in syncs if record.correlation_id.startswith(wanted)), None)


def _opener(syncs: Sequence[SyncRecord], record: SyncRecord | None) -> SyncRecord | None:
    """For a sync that sent nothing because a circuit was open: the one before it that failed at the supplier."""
    if record is None or record.report.get("attempts") or record.error_types[:1] != [_CIRCUIT_OPEN]:
        return None
    older = syncs[syncs.index(record) + 1 :]
    return next((each for each in older if each.failed and each.report.get("attempts")), None)


async def _spans(settings: Settings, files: Any, wanted: str) -> list[SpanRecord]:
    """The spans of a correlation ID, or of the newest failed trace whose ID starts with it."""
    async with app.open_kept_traces(settings, files) as traces:
        if is_beginning(wanted):
            wanted = next((each.trace_id for each in await traces.failed() if each.trace_id.startswith(wanted)), wanted)
        return list(await traces.get(wanted))


def _unknown(wanted: str | None, found: Found, output: CommandOutput) -> int:
    known = "no sync is kept"
    if found.syncs:
        number = len(found.syncs)
        known = (
            f"{'1 sync is' if number == 1 else f'{number} syncs are'} kept, the oldest of {found.syncs[-1].started_at}"
        )
    message = "no sync with a failure" if wanted is None else f"nothing is known of {printable(wanted)!r}"
    message = f"{message}; {known}; {pasteable('catalog-sync syncs')} lists them"
    if not found.complete:
        message += "; not everything could be read"
    output.complain(message)
    if output.as_json:
        output.json(
            {"error": failure("not_found", message, severity="LOW") | ({"correlation_id": wanted} if wanted else {})}
        )
    return exit_codes.FAILED


def _show(
    settings: Settings,
    record: SyncRecord | None,
    spans: Sequence[SpanRecord],
    opener: SyncRecord | None,
    output: CommandOutput,
) -> None:
    error = None if record is None else record.report.get("error")
    tops = span_tree.roots(spans)
    failed = span_tree.failed_attempt(tops, None if error is None else error["type"])
    trace_id = record.correlation_id if record is not None else spans[0].trace_id
    outcome, report = (None, None) if record is None else (record.outcome, record.report)
    links = links_of(settings, outcome, report, trace_id)
    data = {
        "correlation_id": trace_id,
        "sync": None if record is None else record.line(),
        "failed_attempt": None if failed is None else failed.span_id,
        "links": dataclasses.asdict(links),
        "spans": [span.to_json() for span in spans],
    }

    def show() -> None:
        print_sections({"sync": _head(record, trace_id)})
        out = console(sys.stdout)
        if spans:
            for line in span_tree.lines(tops, None if failed is None else failed.span_id):
                out.print(_tree(line))
        else:
            out.print(
                folded("No spans are kept: nothing failed, tracing is off or was not sampled, or they were too old.")
            )
        print_sections({"what to do": _advice(failed, error, links)})
        if opener is not None:  # on its own line, since a wrapped command cannot be pasted
            output.text("Nothing was sent: the circuit was open. What failed before:")
            output.text(f"  {pasteable(f'catalog-sync trace {opener.correlation_id}')}")

    output.result(data, show)


def _head(record: SyncRecord | None, trace_id: str) -> Iterator[str]:
    if record is not None:
        yield f"{record.outcome.value}: {_what(record)} in {duration(record.duration_s)}, {who(record)}"
        yield f"from {record.started_at} to {record.ended_at}"
        if error := record.report.get("error"):
            yield f"{error['type']} ({error['class']}, {error['severity']}): {error['message']}"
        for group in record.report.get("groups", ()):
            if group["error"] is not None:
                yield f"{group['status']} {group['name']}: {group['error']['type']}"
    yield f"correlation ID {trace_id}"


def _advice(failed: SpanRecord | None, error: dict[str, Any] | None, links: Links) -> Iterator[str]:
    kind = error["type"] if error is not None else None if failed is None else failed.attributes.get("error.type")
    yield f"{links.runbook or RUNBOOK}" + ("" if kind is None else f", at {kind}")
    if error is not None and error["retry_after_s"] is not None:
        yield f"not before {error['retry_after_s']:.0f} s after the end: {pasteable('catalog-sync run')}"
    if links.trace is not None:
        yield f"trace {links.trace}"
    if links.dashboard is not None:
        yield f"dashboard {links.dashboard}"


def _tree(line: span_tree.Line) -> Tree:
    from rich.tree import Tree

    tree = Tree(_label(line))
    waiting = [(tree, line)]
    while waiting:
        branch, above = waiting.pop()
        waiting.extend((branch.add(_label(below)), below) for below in above.below)
    return tree


def _label(line: span_tree.Line) -> Any:
    text = f"{span_tree.MARK} {line.text}" if line.marked else line.text
    return folded(text, "bold red" if line.marked else "red" if line.failed else "")


def who(record: SyncRecord) -> str:
    """Who asked for a sync, for people; and whether workers did it."""
    name = ASKED_BY.get(record.trigger or "", record.trigger or "unknown")
    return f"{name}, workers" if record.process == SERVICE_WORKER else name


def _what(record: SyncRecord) -> str:
    return f"{record.kind.value} {record.scope}" if record.scope else f"{record.kind.value}"


def _print_syncs(syncs: Sequence[SyncRecord], total: int, *, complete: bool) -> None:
    out = console(sys.stdout)
    if syncs:
        columns = [
            Column("ended", [f"{record.ended_at[:10]} {record.ended_at[11:19]}Z" for record in syncs], narrowest=10),
            Column("sync", [f"{_what(record)}, {who(record)}" for record in syncs], narrowest=10),
            Column("outcome", [record.outcome.value for record in syncs], narrowest=8),
            Column("took", [duration(record.duration_s) for record in syncs]),
            Column("correlation ID", [record.correlation_id for record in syncs], narrowest=32),
            Column("error", ["".join(record.error_types[:1]) for record in syncs], narrowest=14),
        ]
        print_table(out, columns)
    shown = f"{len(syncs)} of {total}" if len(syncs) < total else f"{total or 'no'}"
    shown += f" sync{'' if total == 1 else 's'}"
    out.print(folded(f"{shown} · {pasteable('catalog-sync trace CORRELATION_ID')} shows one"))
    if not complete:
        out.print(folded(_INCOMPLETE))
