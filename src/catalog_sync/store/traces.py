"""Traces with spans from several processes, kept in Redis: workers push, the API reads.

Spans of a trace come in portions, one per step. Traces of successful syncs expire soon; failed ones stay, the last
:data:`MAX_FAILED` of them for at most :data:`KEPT_FAILED` seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.observability.traces.merged import MergedTraces
from catalog_sync.observability.traces.records import SpanRecord, TraceSummary, span_order
from catalog_sync.store.client import text_of
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.keys import TAG, Key

if TYPE_CHECKING:
    from catalog_sync.observability.traces.records import TraceStore
    from catalog_sync.store.client import GuardedRedis

MAX_FAILED: Final = 40
MAX_SPANS: Final = 3000
"""Maximum spans of one trace; later ones are dropped."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Maximum bytes of the spans of one trace, which are read as a whole; later ones are dropped."""
KEPT_FAILED: Final = 7 * 86_400
KEPT_OTHER: Final = 1_800
SHARE_AFTER: Final = 0.3
"""Seconds after which a request that was answered has ended its spans."""

FAILED: Final = Key(f"{TAG}:traces:failed")
"""Sorted set of the IDs of failed traces, by their end."""
PREFIX: Final = Key(f"{TAG}:trace:")

PUSH: Final = """
local id, prefix = ARGV[1], ARGV[2]
local spans, summary = prefix .. id, prefix .. id .. ':summary'
local first, last, count, errors, failed = tonumber(ARGV[3]), tonumber(ARGV[4]), 0, tonumber(ARGV[6]), ARGV[7]
local room = tonumber(ARGV[9]) - redis.call('LLEN', spans)
local bytes = tonumber(redis.call('HGET', summary, 'bytes') or '0')
for i = 14, #ARGV do
  if room > 0 and bytes + #ARGV[i] <= tonumber(ARGV[13]) then
    redis.call('RPUSH', spans, ARGV[i]); room = room - 1; count = count + 1; bytes = bytes + #ARGV[i]
  end
end
redis.call('HSET', summary, 'bytes', bytes)
local start = tonumber(redis.call('HGET', summary, 'start'))
if not start or first < start then redis.call('HSET', summary, 'start', ARGV[3], 'name', ARGV[5]) end
local ended = tonumber(redis.call('HGET', summary, 'end'))
if not ended or last > ended then redis.call('HSET', summary, 'end', ARGV[4]) else last = ended end
redis.call('HINCRBY', summary, 'spans', count)
redis.call('HINCRBY', summary, 'errors', errors)
redis.call('HSET', summary, 'service:' .. ARGV[8], '1')
if failed == '1' then redis.call('ZADD', KEYS[1], last, id) end
local keep = redis.call('ZSCORE', KEYS[1], id) and ARGV[10] or ARGV[11]
redis.call('EXPIRE', spans, keep)
redis.call('EXPIRE', summary, keep)
local over = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[12]))
for _, old in ipairs(over) do redis.call('UNLINK', prefix .. old, prefix .. old .. ':summary') end
if #over > 0 then redis.call('ZREM', KEYS[1], unpack(over)) end
return 1
"""
"""KEYS: failed traces. ARGV: trace, prefix, first start, last end, name of the first span, errors, whether one failed,
service, maximum spans, seconds to keep a failed and another trace, maximum failed traces, maximum bytes, span, ..."""


_log = logging.getLogger(__name__)


def push_failed(redis: Any, spans: Sequence[SpanRecord], *, prefix: str = "") -> None:
    """Adds spans of one failed trace, at least one, with a blocking client. Raises what the client raises."""
    summary = dataclasses.replace(TraceSummary.of(spans), failed=True)
    redis.register_script(PUSH)(keys=[FAILED.under(prefix)], args=_portion(summary, spans, prefix))


class SharedTraces:
    """Implements ``TraceStore`` over what all processes have pushed."""

    def __init__(self, redis: GuardedRedis) -> None:
        self._redis = redis
        self._push = redis.raw.register_script(PUSH)

    async def push(self, spans: Sequence[SpanRecord]) -> None:
        """Adds ended spans of this process. A portion that is pushed twice is stored twice.

        Raises the ``Cache…Error`` that says why Redis could not store them.
        """
        by_trace: dict[str, list[SpanRecord]] = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
        for portion in by_trace.values():
            await self._push_portion(portion)

    async def _push_portion(self, spans: Sequence[SpanRecord]) -> None:
        """Without the policy, whose spans would be pushed as well."""
        keys = [FAILED.under(self._redis.prefix)]
        args = _portion(TraceSummary.of(spans), spans, self._redis.prefix)
        await self._redis.past_policy("push spans", lambda _: self._push(keys=keys, args=args))

    async def ping(self) -> None:
        """Checks whether Redis answers, without the policy. Raises the ``Cache…Error`` that says why it does not."""
        await self._redis.past_policy("ping", lambda client: client.ping())

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        ids = await self._redis.command("list failed traces", "ZREVRANGE", FAILED, 0, limit - 1)
        found = []
        for raw in ids:
            try:
                trace_id = text_of(raw, "the ID of a trace")
                fields = await self._redis.command("read trace", "HGETALL", Key(f"{PREFIX}{trace_id}:summary"))
                if fields:
                    texts = {bytes(k).decode(): bytes(v).decode() for k, v in fields.items()}
                    found.append(_summary(trace_id, texts))
            except (CorruptEntryError, ValueError, KeyError) as error:
                _log.warning("the summary of a trace cannot be read: %s", type(error).__name__)
        return found

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        """The spans of a trace by start time; empty if it is not stored (any more)."""
        texts = await self._redis.command("read trace", "LRANGE", Key(f"{PREFIX}{trace_id}"), 0, -1)
        return await asyncio.to_thread(_read_spans, trace_id, texts)


class JoinedTraces(MergedTraces):
    """This process's spans together with those that others have pushed; only the former if Redis is unreachable."""

    def __init__(self, own: TraceStore, shared: SharedTraces) -> None:
        super().__init__(own, shared)
        self.own, self.shared = own, shared
        self._sharing: set[asyncio.Task[None]] = set()

    def share_soon(self, trace_id: str) -> None:
        """Pushes this process's spans of a trace once the request that started it has ended.

        Later requests displace what is kept here, and other processes that serve the API need to see it too.
        """
        task = asyncio.create_task(self._share(trace_id))
        self._sharing.add(task)
        task.add_done_callback(self._sharing.discard)

    async def _share(self, trace_id: str) -> None:
        await asyncio.sleep(SHARE_AFTER)
        try:
            await self.shared.push(await self.own.get(trace_id))
        except CatalogSyncError as error:
            _log.warning("the first spans of trace %s are seen by this process alone: %s", trace_id, error)


def _read_spans(trace_id: str, texts: Sequence[bytes]) -> list[SpanRecord]:
    """By start time; parsing thousands of them takes a tenth of a second."""
    spans = {}
    for text in texts:
        try:
            span = SpanRecord.from_json_text(text)
        except ValueError as error:
            _log.warning("a span of trace %s cannot be read: %s", trace_id, error)
        else:
            spans[span.span_id] = span
    return sorted(spans.values(), key=span_order)


def _portion(summary: TraceSummary, spans: Sequence[SpanRecord], prefix: str) -> list[str | int]:
    """The arguments of :data:`PUSH`."""
    of_trace = [summary.trace_id, PREFIX.under(prefix), repr(summary.start), repr(summary.end), summary.name]
    of_trace += [str(summary.errors), "1" if summary.failed else "0", summary.services[0]]
    limits = (MAX_SPANS, KEPT_FAILED, KEPT_OTHER, MAX_FAILED, MAX_BYTES)
    return [*of_trace, *limits, *(json.dumps(span.to_json()) for span in spans)]


def _summary(trace_id: str, fields: dict[str, Any]) -> TraceSummary:
    return TraceSummary(
        trace_id=trace_id,
        name=fields["name"],
        start=float(fields["start"]),
        end=float(fields["end"]),
        spans=int(fields["spans"]),
        errors=int(fields["errors"]),
        failed=True,
        services=tuple(sorted(name.partition(":")[2] for name in fields if name.startswith("service:"))),
    )
