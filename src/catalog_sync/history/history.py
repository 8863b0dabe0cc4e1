"""The last syncs and the traces of those that failed: in Redis if configured, else in the state folder."""

from __future__ import annotations

import datetime as dt
import errno
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from catalog_sync.history.days import DayFile, DaySummary, is_kept, read_days, summed
from catalog_sync.history.files import DatedFiles
from catalog_sync.history.records import SyncRecord
from catalog_sync.history.trace_files import TraceFiles
from catalog_sync.store.keys import TAG, Key

if TYPE_CHECKING:
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.observability.traces import SpanRecord
    from catalog_sync.settings.settings import Settings

KEPT: Final = 500
"""Syncs of which everything is kept; of earlier ones only the summary of their day."""
MAX_AGE: Final = 90 * 86_400.0
"""Seconds for which they are kept."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""Maximum bytes of all records in the state folder."""
REDIS_TIMEOUT: Final = 0.5
"""Timeout in seconds for connecting and for one reply."""
REDIS_PAUSE: Final = 5.0
"""Seconds for which an unresponsive Redis is not asked again: someone may wait for each of several requests."""

SYNCS: Final = Key(f"{TAG}:syncs")
"""Sorted set of records as JSON, by their end in seconds since the epoch."""
SYNC_DAYS: Final = Key(f"{TAG}:sync-days")
"""Hash of the summaries of days as JSON, by their dates."""
REPORTED_TWICE: Final = 50
"""How many of the last records are searched for a sync that is reported again."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Records, newest first."""

    syncs: Sequence[SyncRecord]
    complete: bool
    """Whether both stores could be read."""


class FoundDays(NamedTuple):
    """Summaries of days by their dates."""

    days: Mapping[str, DaySummary]
    complete: bool
    """Whether both stores could be read."""


class History:
    """Stores and reads records. A context manager: pending records are written when its block ends.

    Nothing it does raises into a sync. If Redis does not accept a record it goes into the state folder; both are read.
    ``process`` is the ``service.name`` of this process. Thread-safe.
    """

    def __init__(
        self,
        settings: Settings,
        process: str,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traces = TraceFiles(settings.state_dir)
        self._files = DatedFiles(settings.state_dir / "syncs", most=KEPT, age=MAX_AGE, total=MAX_BYTES)
        self._days = DayFile(settings.state_dir)
        self._process = process
        self._wall_clock = wall_clock
        self._clock = clock
        self._away_until = -math.inf
        self._prefix = settings.key_prefix
        self._key = SYNCS.under(self._prefix)
        self._days_key = SYNC_DAYS.under(self._prefix)
        self._redis: Any = None
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if settings.redis_url is not None:
            from redis.exceptions import RedisError

            from catalog_sync.store.client import connect_blocking

            self._redis = connect_blocking(settings.redis_url, timeout=REDIS_TIMEOUT)
            self._errors = (OSError, RedisError)
        self._writer = ThreadPoolExecutor(1, "history")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()
        if self._redis is not None:
            self._redis.close()

    def sync_ended(self, report: SyncReport) -> None:
        """Stores a report, soon, in another thread. The same report is stored only once."""
        self._writer.submit(self._keep, report)

    def keep_trace(self, spans: Sequence[SpanRecord]) -> None:
        """Stores this process's spans of the trace of a failed sync, soon, in another thread."""
        if spans:
            self._writer.submit(self._keep_spans, spans)

    def latest(self, limit: int = KEPT) -> Found:
        """The last syncs. Blocks for at most about a second; an unreadable record is logged and left out."""
        texts, complete = self._read_both(
            "syncs",
            lambda: islice(self._files.documents(), limit),
            lambda: self._ask(lambda redis: redis.zrevrange(self._key, 0, limit - 1)),
        )
        found = {record.identity: record for record in sorted(_records(texts), key=lambda each: each.ended_at)}
        newest = sorted(found.values(), key=lambda record: record.ended_at, reverse=True)
        return Found(newest[:limit], complete)

    def days(self) -> FoundDays:
        """The last days on which syncs ended. Blocks like :meth:`latest`; an unreadable day is logged.

        A day whose records contain more than its summary, as after damage, is recomputed from them.
        """
        found = self.latest()
        counted, complete = self._read_both(
            "days",
            lambda: self._days.read().values(),
            lambda: read_days(self._ask(lambda redis: redis.hgetall(self._days_key)).items()).values(),
        )
        known = summed(counted)
        for date, day in summed(map(DaySummary.of, reversed(found.syncs))).items():
            if date not in known or day.count > known[date].count:
                known[date] = day
        return FoundDays(known, complete and found.complete)

    def _read_both(
        self, what: str, files: Callable[[], Iterable[Any]], redis: Callable[[], Iterable[Any]]
    ) -> tuple[list[Any], bool]:
        """The content of both stores, and whether both could be read."""
        found: list[Any] = []
        complete = True
        places = {"the state folder": files} if self._redis is None else {"the state folder": files, "Redis": redis}
        for place, read in places.items():
            try:
                found += read()
            except self._errors as error:
                complete = False
                _log.warning("the %s in %s cannot be read: %s", what, place, _reason(error))
        return found, complete

    def _keep(self, report: SyncReport) -> None:
        try:
            record = SyncRecord.of(report, self._process)
            if not self._in_redis("the record of a sync", lambda redis: self._add(redis, record)):
                self._add_to_files(record)
        except (OSError, ValueError) as error:
            _log.error("the record of sync %s was not kept: %s", report.correlation_id, _reason(error))

    def _keep_spans(self, spans: Sequence[SpanRecord]) -> None:
        from catalog_sync.store.traces import push_failed

        try:
            if not self._in_redis("the trace of a sync", lambda redis: push_failed(redis, spans, prefix=self._prefix)):
                self.traces.write(spans)
        except (OSError, ValueError) as error:
            _log.error("trace %s was not kept: %s", spans[0].trace_id, _reason(error))

    def _in_redis(self, what: str, write: Callable[[Any], object]) -> bool:
        """Whether Redis has stored it."""
        if self._redis is None:
            return False
        try:
            self._ask(write)
        except self._errors as error:
            _log.warning("%s is kept in the state folder: Redis does not take it (%s)", what, type(error).__name__)
            return False
        return True

    def _ask(self, question: Callable[[Any], T]) -> T:
        """The reply of Redis. If it did not answer, this raises for the next :data:`REDIS_PAUSE` without asking."""
        from redis.exceptions import ResponseError

        if self._clock() < self._away_until:
            raise TimeoutError(errno.ETIMEDOUT, "it did not answer a moment ago")
        try:
            return question(self._redis)
        except self._errors as error:
            if not isinstance(error, ResponseError):
                self._away_until = self._clock() + REDIS_PAUSE
            raise

    def _add_to_files(self, record: SyncRecord) -> None:
        known = record.identity in {each.identity for each in _records(self._files.documents(record.correlation_id))}
        self._files.write(self._wall_clock(), record.correlation_id, record.to_json())
        if not known:
            self._days.add(DaySummary.of(record), self._today())

    def _add(self, redis: Any, record: SyncRecord) -> None:
        def change(pipeline: Any) -> None:
            now = self._wall_clock()
            last = pipeline.zrevrange(self._key, 0, REPORTED_TWICE - 1)
            before = _records(text for text in last if record.correlation_id.encode() in text)
            known = record.identity in {each.identity for each in before}
            is_hash = pipeline.type(self._days_key) == b"hash"
            days = pipeline.hgetall(self._days_key) if is_hash else {}
            pipeline.multi()
            pipeline.zadd(self._key, {json.dumps(record.to_json()): now})
            pipeline.zremrangebyscore(self._key, "-inf", now - MAX_AGE)
            pipeline.zremrangebyrank(self._key, 0, -KEPT - 1)
            day = DaySummary.of(record)
            if known or not is_kept(day.date, self._today()):
                return
            if not is_hash:
                pipeline.delete(self._days_key)
            same = read_days((name, text) for name, text in days.items() if name == day.date.encode())
            day = summed([*same.values(), day])[day.date]
            pipeline.hset(self._days_key, day.date, json.dumps(day.to_json()))
            old = [name for name in days if not is_kept(name.decode("ascii", "replace"), self._today())]
            if old:
                pipeline.hdel(self._days_key, *old)

        redis.transaction(change, self._key, self._days_key)

    def _today(self) -> dt.date:
        return dt.datetime.fromtimestamp(self._wall_clock(), dt.UTC).date()


def _records(found: Iterable[Any]) -> list[SyncRecord]:
    records = []
    for each in found:
        try:
            records.append(SyncRecord.from_json_text(each) if isinstance(each, bytes) else SyncRecord.from_json(each))
        except ValueError as error:
            _log.warning("a record of a sync cannot be read: %s", error)
    return records


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
