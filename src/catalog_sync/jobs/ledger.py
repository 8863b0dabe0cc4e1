"""The ledger of jobs in Redis: what was requested, who works on which step, and the results.

Celery only transports the messages; the truth is here. A message may come twice, late or never: every step first asks
the ledger whether it is still wanted, and only its first result counts.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

from catalog_sync.domain.models import Outcome, SyncReport, SyncRequest
from catalog_sync.domain.text import is_encodable
from catalog_sync.jobs import scripts
from catalog_sync.jobs.keys import ACTIVE, CHANGES, DEAD, DEAD_COUNT, INDEX, JobKeys, is_job_id
from catalog_sync.jobs.port import Job, JobNotFoundError, JobStatus
from catalog_sync.jobs.records import (
    Record,
    progress_field,
    read_record,
    record_fields,
    shown_job,
    step_of,
    unreadable_report,
)
from catalog_sync.store.client import GuardedRedis, named
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.keys import LOCK
from catalog_sync.sync.progress import GroupProgress
from catalog_sync.sync.shared.staged import Part

KEPT_JOBS: Final = 200
"""Maximum jobs whose records are kept."""
KEPT_SECONDS: Final = 7 * 86_400
"""Seconds for which the record of an ended job is kept."""
KEPT_LETTERS: Final = 100
MAX_STARTS: Final = 5
"""How often a step is started before it counts as one that kills its worker."""
CHANGES_WAIT_MS: Final = 1_000

_log = logging.getLogger(__name__)

Refusal = Literal["gone", "ended", "done", "early", "stopped", "busy", "dead"]


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """A step that may run."""

    starts: int
    """How often it was started, including this time."""
    left: float
    """Seconds until the sync must have ended; negative if it is overdue."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepState:
    """What the sweep needs to know about a step."""

    starts: int
    sent_ms: int
    until_ms: int


class JobLedger:
    """All operations on jobs. Every method raises the ``Cache…Error`` that says why Redis could not serve it."""

    def __init__(self, redis: GuardedRedis) -> None:
        self.redis = redis

    async def submit(self, job_id: str, fields: Sequence[str]) -> str:
        """Records a job. Returns the ID of the active job, which is a different one if there was one before."""
        keys = [ACTIVE, INDEX, JobKeys(job_id).record, CHANGES]
        prefix = JobKeys("").record
        answer = await self._script("submit job", scripts.SUBMIT, keys, [job_id, prefix, KEPT_JOBS, *fields])
        return bytes(answer[1]).decode()

    async def read(self, job_id: str) -> Record:
        """One record. Raises :class:`JobNotFoundError`."""
        raw = await self.redis.command("read job", "HGETALL", JobKeys(job_id).record) if is_job_id(job_id) else None
        if not raw:
            raise JobNotFoundError(f"job {job_id!r} does not exist or is no longer kept")
        return read_record(job_id, cast("Mapping[bytes, bytes]", raw))

    async def active(self) -> Record | None:
        """The job that is queued or running. Raises :class:`CorruptEntryError` if its record cannot be read."""
        job_id = await self.redis.command("read active job", "GET", ACTIVE)
        if job_id is None:
            return None
        try:
            record = await self.read(bytes(job_id).decode("utf-8", "replace"))
        except JobNotFoundError:
            return None
        return None if record.job.status.ended else record

    async def end_unreadable(self, *, finished_at: str) -> SyncReport | None:
        """Ends the active job if its record cannot be read. Returns the report of the ended job.

        No worker can continue it, and while it counts as active there can be no other.
        """
        job_id = await self.redis.command("read active job", "GET", ACTIVE)
        identifier = "" if job_id is None else bytes(job_id).decode("utf-8", "replace")
        [raw] = await self._raw([identifier]) if is_job_id(identifier) else [{}]
        if raw == {}:
            return None
        try:
            read_record(identifier, raw or {})
        except CorruptEntryError:
            _log.error("job %s is ended: its record cannot be read", identifier)
        else:
            return None
        report = unreadable_report(raw or {})
        try:
            ended = await self.end(
                identifier, JobStatus.FINISHED, report.outcome, report.to_json(), finished_at=finished_at
            )
        except CorruptEntryError:  # no record at all
            ended = bool(await self.redis.command("drop what is no record", "UNLINK", JobKeys(identifier).record))
        await self.redis.command("forget active job", "UNLINK", ACTIVE)
        return report if ended else None

    async def shown(self, job_id: str) -> Job:
        """One job, for people: even if its record cannot be read. Raises :class:`JobNotFoundError`."""
        [raw] = await self._raw([job_id]) if is_job_id(job_id) else [{}]
        if raw == {}:
            raise JobNotFoundError(f"job {job_id!r} does not exist or is no longer kept")
        return shown_job(job_id, raw or {})

    async def latest(self, limit: int, offset: int) -> list[Job]:
        """The last jobs, newest first; a job whose record cannot be read is shown as such."""
        raw_ids = await self.redis.command("list jobs", "ZREVRANGE", INDEX, offset, offset + limit - 1)
        ids = [job_id for raw_id in raw_ids if is_job_id(job_id := bytes(raw_id).decode("utf-8", "replace"))]
        found = await self._raw(ids)
        return [shown_job(job_id, raw or {}) for job_id, raw in zip(ids, found, strict=True) if raw != {}]

    async def _raw(self, ids: Sequence[str]) -> list[Mapping[bytes, bytes] | None]:
        """The raw records; empty for a missing one, ``None`` for a key that is not a record at all."""
        commands = [("HGETALL", JobKeys(job_id).record) for job_id in ids]
        try:
            return await self.redis.read_many("read jobs", commands) if commands else []
        except CorruptEntryError:
            if len(ids) == 1:
                return [None]
            return [raw for job_id in ids for raw in await self._raw([job_id])]

    async def start(
        self, job_id: str, step: str, claim: str, *, lease: float, now: str, time_limit: float
    ) -> Started | Refusal:
        """Claims a step for ``lease`` seconds, or returns why it must not run."""
        keys = JobKeys(job_id)
        answer = await self._script(
            "start step",
            scripts.START,
            [*keys.all, CHANGES],
            [job_id, step, claim, _ms(lease), MAX_STARTS, now, _ms(time_limit)],
        )
        word, *details = [bytes(part).decode() for part in answer]
        if word == "ok":
            return Started(int(details[0]), float(details[1]) / 1000)
        return cast("Refusal", word)

    async def beat(self, job_id: str, step: str, claim: str, lease: float) -> Literal["ok", "stop", "lost"]:
        """Extends the claim; ``stop`` if the step is no longer wanted, ``lost`` if another process has it."""
        keys = JobKeys(job_id)
        answer = await self._script("extend step", scripts.BEAT, [keys.record, keys.steps], [step, claim, _ms(lease)])
        return cast("Literal['ok', 'stop', 'lost']", bytes(answer).decode())

    async def release(self, job_id: str, step: str, claim: str) -> None:
        """Releases a claim: the step was not done and may be started immediately."""
        await self._script("release step", scripts.RELEASE, [JobKeys(job_id).steps], [step, claim])

    async def progress(self, job_id: str, number: int, progress: GroupProgress) -> None:
        """Records the progress of a scope."""
        keys = JobKeys(job_id)
        await self._script(
            "note progress",
            scripts.PROGRESS,
            [keys.record, keys.parts, CHANGES],
            [job_id, step_of(number), progress_field(number), json.dumps(progress)],
        )

    async def planned(
        self,
        job_id: str,
        plan: Part,
        scopes: Sequence[str],
        *,
        request: SyncRequest | None = None,
        token: int | None,
        refused_by: Mapping[str, Any] | None,
        carrier: Mapping[str, str],
    ) -> bool:
        """Records the plan; ``False`` if there is one already. ``request``: what is done, if it was changed."""
        fields = ["scopes", json.dumps(list(scopes)), "carrier", json.dumps(dict(carrier))]
        if request is not None:
            fields += ["kind", request.kind.value, "scope", json.dumps(request.scope)]
        if token is not None:
            fields += ["token", str(token)]
        if refused_by is not None:
            fields += ["refused_by", json.dumps(dict(refused_by))]
        answer = await self._script(
            "note plan",
            scripts.PLANNED,
            [*JobKeys(job_id).all, CHANGES],
            [job_id, json.dumps(plan.to_json()), len(scopes), *fields],
        )
        return bool(answer)

    async def finish(self, job_id: str, number: int, part: Part, progress: GroupProgress) -> tuple[bool, bool]:
        """Records the result of a scope. Returns whether this result counts, and whether the last step can start."""
        data = part.to_json()
        answer = await self._script(
            "finish step",
            scripts.FINISH,
            [*JobKeys(job_id).all, CHANGES],
            [
                *(job_id, step_of(number), json.dumps(data), progress_field(number), json.dumps(progress)),
                json.dumps(data["error"]) if part.fatal else "",
            ],
        )
        return answer[0] == b"ok", answer[1] == b"1"

    async def cancel(self, job_id: str) -> None:
        """Requests cancellation."""
        await self._script("cancel job", scripts.STOP, [JobKeys(job_id).record, CHANGES], [job_id, "cancel", "1"])

    async def fail(self, job_id: str, error: Mapping[str, Any]) -> None:
        """Records the error that ends the sync; the first one counts."""
        keys = [JobKeys(job_id).record, CHANGES]
        await self._script("fail job", scripts.STOP, keys, [job_id, "fatal", json.dumps(dict(error))])

    async def parts(self, job_id: str) -> dict[str, Part]:
        """The results so far, by step."""
        raw = await self.redis.command("read parts", "HGETALL", JobKeys(job_id).parts)
        try:
            return {bytes(step).decode(): Part.from_json(json.loads(text)) for step, text in raw.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptEntryError(f"the results of job {job_id} cannot be read") from error

    async def steps(self, job_id: str) -> dict[str, StepState]:
        """The states of the steps that were started or sent."""
        raw = await self.redis.command("read steps", "HGETALL", JobKeys(job_id).steps)
        fields: dict[str, dict[str, str]] = {}
        try:
            for name, value in raw.items():
                step, _, field = bytes(name).decode().rpartition(":")
                fields.setdefault(step, {})[field] = bytes(value).decode()
            return {
                step: StepState(int(found.get("starts", 0)), int(found.get("sent", 0)), int(found.get("until", 0)))
                for step, found in fields.items()
            }
        except ValueError as error:
            raise CorruptEntryError(f"the steps of job {job_id} cannot be read") from error

    async def to_send(self, job_id: str, step: str, *, at_most_every: float) -> bool:
        """Whether the caller should send the message of a step: it was not sent within that many seconds."""
        return bool(await self._script("send step", scripts.SEND, [JobKeys(job_id).steps], [step, _ms(at_most_every)]))

    async def end(
        self,
        job_id: str,
        status: JobStatus,
        outcome: Outcome | None,
        report: Mapping[str, Any] | None,
        *,
        finished_at: str,
        groups: Sequence[GroupProgress] = (),
        only_queued: bool = False,
    ) -> bool:
        """Records the end and releases the lock of the job.

        ``False`` if it had already ended, or if it has started and only a queued job was to be ended.
        """
        fields = ["finished_at", finished_at]
        if outcome is not None:
            fields += ["outcome", outcome.value]
        if report is not None:
            fields += ["report", json.dumps(dict(report))]
        for number, group in enumerate(groups):
            fields += [progress_field(number), json.dumps(group)]
        answer = await self._script(
            "end job",
            scripts.END,
            [*JobKeys(job_id).all, ACTIVE, LOCK, CHANGES],
            [job_id, status.value, KEPT_SECONDS, "queued" if only_queued else "", *fields],
        )
        return bool(bytes(answer) == b"ok")

    async def end_lost(self, record: Record, report: Mapping[str, Any], *, finished_at: str) -> bool:
        """Records the failure of a job whose record is gone, as after FLUSHALL. ``False`` if the record exists."""
        job = record.job
        fields = {
            "status": JobStatus.FINISHED.value,
            "outcome": Outcome.FAILED.value,
            "report": json.dumps(dict(report)),
            "started_at": job.started_at or job.created_at,
            "finished_at": finished_at,
        }
        submitted = record_fields(
            record.request, correlation_id=job.correlation_id, created_at=job.created_at, carrier=record.carrier
        )
        answer = await self._script(
            "end lost job",
            scripts.END_LOST,
            [INDEX, JobKeys(job.id).record, CHANGES],
            [job.id, KEPT_SECONDS, *submitted, *(part for pair in fields.items() for part in pair)],
        )
        return bool(answer)

    async def now_ms(self) -> int:
        """The clock of Redis."""
        seconds, micros = await self.redis.command("read clock", "TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def add_dead_letter(self, letter: Mapping[str, Any]) -> None:
        """Sets a message aside that cannot be handled."""
        await self._script(
            "put dead letter aside", scripts.ADD_DEAD_LETTER, [DEAD, DEAD_COUNT], [json.dumps(letter), KEPT_LETTERS]
        )

    async def dead_letters(self, limit: int = KEPT_LETTERS) -> tuple[int, list[dict[str, Any]]]:
        """How many there have been, and the last ones, newest first."""
        try:
            count, letters = await self.redis.read_many(
                "read dead letters", [("GET", DEAD_COUNT), ("LRANGE", DEAD, 0, limit - 1)]
            )
        except CorruptEntryError as error:
            _log.warning("the dead letters cannot be read: %s", error)
            return 1, [_letter(b"")]
        known = int(count) if count is not None and count.isdigit() and len(count) < 19 else len(letters)
        return known, [_letter(text) for text in letters]

    async def changed(self) -> AsyncIterator[list[str]]:
        """The jobs that change from now on, in batches, each once; an empty list from time to time if none does.

        Does not use the policy: waiting is not a slow answer.
        """
        newest = await self._unobserved("XREVRANGE", CHANGES, "+", "-", "COUNT", 1)
        last = newest[0][0] if newest else b"0-0"
        while True:
            wait = ("COUNT", 500, "BLOCK", CHANGES_WAIT_MS)
            streams = await self._unobserved("XREAD", *wait, "STREAMS", CHANGES, last)
            entries = [entry for _, found in streams for entry in found]
            if entries:
                last = entries[-1][0]
            yield list(dict.fromkeys(fields.get(b"job", b"").decode("utf-8", "replace") for _, fields in entries))

    async def _unobserved(self, *command: str | bytes | int) -> list[Any]:
        async def send(client: Any) -> Any:
            return await client.execute_command(*named(command, self.redis.prefix))

        return list(await self.redis.past_policy("watch jobs", send) or ())

    async def _script(self, name: str, text: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        return await self.redis.script(name, text, keys=keys, args=args)


def _letter(text: bytes) -> dict[str, Any]:
    """A dead letter, as it was set aside; an unreadable one says so and leaves the others readable."""
    letter: dict[str, Any] = dict.fromkeys(("job", "step", "scope", "correlation_id"))
    letter |= {"starts": 0, "at": "at an unknown time", "reason": "this dead letter cannot be read"}
    read = read_object(text)
    return letter if read is None else letter | read


def read_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object that can be shown; ``None`` if it is not one."""
    try:
        found = json.loads(text)
        if isinstance(found, dict) and is_encodable(json.dumps(found, ensure_ascii=False)):
            return found
    except (ValueError, RecursionError) as error:
        _log.debug("an entry cannot be read: %s", type(error).__name__)
    return None


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
