"""The spans of a trace as a tree for people: successes are summarised, failures are shown. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.times import duration
from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as library

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalog_sync.observability.traces.records import SpanRecord

MOST_FAILED: Final = 8
"""Maximum failed sibling calls that are shown individually."""

MARK: Final = "failed here -->"
"""Placed before the failed attempt, so that narrow terminals do not wrap it."""


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A span and its children, by start time."""

    span: SpanRecord
    children: list[Node] = dataclasses.field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """The node and everything below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of the tree and the lines below it."""

    text: str
    failed: bool = False
    marked: bool = False
    below: Sequence[Line] = ()


def roots(spans: Iterable[SpanRecord]) -> list[Node]:
    """The spans whose parents are not stored, or are in another process, with everything below them."""
    nodes = {span.span_id: Node(span) for span in spans}
    tops: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_id or "")
        (tops if parent is None or parent is node else parent.children).append(node)
    return tops


def failed_attempt(tops: Sequence[Node], error_type: str | None) -> SpanRecord | None:
    """The attempt that made the sync fail: the last one of a call that finally failed, preferably with this error type.

    If nothing was sent, what was rejected or raised instead; ``None`` if no span failed.
    """
    nodes = [node for top in tops for node in top.walk()]
    attempts = [child.span for node in nodes if node.span.failed for child in node.children if _failed_attempt(child)]
    last = [node.span for node in nodes if node.span.failed and not any(child.span.failed for child in node.children)]
    for candidates in (
        [span for span in attempts if span.attributes.get(library.ERROR_TYPE) == error_type],
        attempts,
        last,
    ):
        if candidates:
            return max(candidates, key=lambda span: span.end)
    return None


def lines(tops: Sequence[Node], marked: str | None, *, evidence: bool = False) -> list[Line]:
    """The tree; ``marked`` is the ID of the span of :func:`failed_attempt`.

    Failures that a retry recovered from are left out; with ``evidence``, only if their call succeeded in the end.
    """
    found: list[Line] = []
    shown = hidden = 0
    for bad, group in itertools.groupby(tops, key=lambda node: _is_bad(node, evidence=evidence)):
        nodes = list(group)
        if not bad:
            found.append(_summed_up(nodes))
            continue
        for node in nodes:
            if shown >= MOST_FAILED and all(each.span.span_id != marked for each in node.walk()):
                hidden += 1
                continue
            shown += 1
            inside = evidence or (node.span.failed and any(_failed_attempt(child) for child in node.children))
            below = lines(node.children, marked, evidence=inside)
            found.append(Line(_text(node.span), node.span.status == "error", node.span.span_id == marked, below))
    return [*found, Line(f"{hidden} more with errors")] if hidden else found


def _is_bad(node: Node, *, evidence: bool) -> bool:
    return any(each.span.failed or (evidence and each.span.status == "error") for each in node.walk())


def _failed_attempt(node: Node) -> bool:
    return node.span.name == library.ATTEMPT_SPAN and node.span.status == "error"


def _summed_up(nodes: Sequence[Node]) -> Line:
    first = nodes[0].span
    if len(nodes) == 1:
        return Line(_text(first))
    seconds = max(node.span.end for node in nodes) - first.start
    names = {node.span.name for node in nodes}
    what = first.name if len(names) == 1 else f"{first.name} and others"
    return Line(f"{len(nodes)} times {what} · {duration(seconds)} · ok")


def _text(span: SpanRecord) -> str:
    given = span.attributes
    parts = [" ".join((span.name, *(str(given[name]) for name in (contract.GROUP, contract.KIND) if name in given)))]
    if span.name == library.ATTEMPT_SPAN:
        parts = [f"attempt {given.get(library.ATTEMPT_NUMBER, '?')}"]
        delay = given.get(library.RETRY_DELAY)
        if isinstance(delay, int | float) and delay > 0:
            parts.append(f"after a wait of {duration(delay)}")
    parts.append(duration(span.end - span.start))
    attempts = given.get(library.ATTEMPTS)
    if isinstance(attempts, int) and attempts != 1:
        parts.append(f"{attempts} attempts")
    parts += [str(given[name]) for name in (library.OUTCOME, contract.OUTCOME) if name in given]
    if span.status == "error":
        parts.append(_error(span))
    return " · ".join(parts)


def _error(span: SpanRecord) -> str:
    given = span.attributes
    kind = str(given.get(library.ERROR_TYPE, "error"))
    details = [str(given[name]) for name in (library.ERROR_CLASS, library.ERROR_SEVERITY) if name in given]
    return f"{kind} ({', '.join(details)})" if details else kind
