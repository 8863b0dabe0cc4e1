"""Progress events, for any number of watchers; slow ones hold up nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.api import events
from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.jobs import Job
from catalog_sync.jobs.watching import MAX_WAITING, Watcher
from support.api_world import AUTHORIZED, ApiWorld, api_world


class Stream:
    """A client of an event stream, over ASGI, that reads as fast as a test lets it."""

    def __init__(self, world: ApiWorld, path: str, *, reads: bool = True, **headers: str) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.parts: list[str] = []
        self.arrived = asyncio.Event()
        self.reading = asyncio.Event()
        if reads:
            self.reading.set()
        self.gone = asyncio.Event()
        self._asked = False
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "root_path": "",
        }
        self.task = asyncio.create_task(world.api(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            await self.reading.wait()
            self.parts.append(message["body"].decode())
        self.arrived.set()

    async def event(self) -> dict[str, Any]:
        """The next event."""
        async with asyncio.timeout(60):
            while True:
                while self.parts:
                    part = self.parts.pop(0)
                    if part.startswith("event: sync\ndata: "):
                        found: dict[str, Any] = json.loads(part.removeprefix("event: sync\ndata: "))
                        return found
                self.arrived.clear()
                await self.arrived.wait()

    async def started(self) -> None:
        """Waits until the answer has started."""
        async with asyncio.timeout(60):
            while self.status is None or not (self.parts or not self.reading.is_set()):
                await asyncio.sleep(0)


async def test_every_change_is_sent(world: ApiWorld) -> None:
    stream = Stream(world, "/events")
    await stream.started()
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert stream.headers["cache-control"] == "no-store"
    assert len(stream.headers["x-correlation-id"]) == 32
    job = (await world.ask()).json()
    assert (await stream.event())["id"] == job["id"]
    await world.sync.started.wait()
    world.sync.progress(A="ok", B="running")
    while (seen := await stream.event())["progress"]["groups_total"] != 2:
        pass
    assert seen["progress"]["groups_done"] == 1
    world.sync.may_end.set()
    while (seen := await stream.event())["status"] != "finished":
        pass
    assert seen == (await world.http.get(job["links"]["self"])).json()
    stream.gone.set()
    await asyncio.wait_for(stream.task, 60)


async def test_the_stream_of_one_sync_starts_with_its_state_and_ends_with_it(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.sync.started.wait()
    streams = [Stream(world, job["links"]["events"]), Stream(world, f"/syncs/{job['correlation_id']}/events")]
    for stream in streams:
        assert (await stream.event())["status"] == "running"
    world.sync.may_end.set()
    for stream in streams:
        while (await stream.event())["status"] != "finished":
            pass
        await asyncio.wait_for(stream.task, 60)
    after = Stream(world, job["links"]["events"])
    assert (await after.event())["status"] == "finished"
    await asyncio.wait_for(after.task, 60)


async def test_an_unknown_sync_has_no_stream(world: ApiWorld) -> None:
    assert (await world.http.get("/syncs/0815/events")).status_code == 404


async def test_a_client_that_does_not_read_blocks_no_one_and_gets_the_latest(world: ApiWorld) -> None:
    slow, quick = Stream(world, "/events", reads=False), Stream(world, "/events")
    await slow.started()
    await quick.started()
    await world.ask()
    await world.sync.started.wait()
    for number in range(1000):
        world.sync.progress(**{f"group {number}": "running"})
        if number % 100 == 0:
            await quick.event()
    slow.reading.set()
    while (seen := await slow.event())["progress"]["groups_total"] == 0:
        pass
    assert seen["progress"]["groups"][0]["name"] == "group 999"


async def test_streams_are_limited_in_number(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_MAX_STREAMS="1") as world:
        first = Stream(world, "/events")
        await first.started()
        refused = await world.http.get("/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        first.gone.set()
        await asyncio.wait_for(first.task, 60)
        second = Stream(world, "/events")
        await second.started()
        assert second.status == 200


async def test_comments_keep_a_silent_connection_open(world: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.02)
    stream = Stream(world, "/events")
    async with asyncio.timeout(60):
        while ": keep-alive\n\n" not in stream.parts:
            await asyncio.sleep(0.01)


async def test_head_opens_no_stream(world: ApiWorld) -> None:
    answer = await world.http.head("/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert len(world.api.hub._clients) == 0


async def test_all_streams_end_when_the_process_does(world: ApiWorld) -> None:
    streams = [Stream(world, "/events") for _ in range(3)]
    for stream in streams:
        await stream.started()
    world.api.drain()
    await asyncio.wait_for(asyncio.gather(*(stream.task for stream in streams)), 60)
    assert (await world.http.get("/events")).status_code == 200  # and ends at once


async def test_listening_to_the_jobs_starts_again_after_a_failure(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LISTEN_AGAIN", 0.001)
    changes = world.jobs.changes
    failures = 0

    def fails_twice() -> Any:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise CacheConnectionError("Redis does not answer")
        return changes()

    monkeypatch.setattr(world.jobs, "changes", fails_twice)
    told: list[Job] = []
    hub = events.Hub(world.jobs, lambda job: job.to_json(), told.append, find=world.jobs.get, max_streams=1)
    listening = asyncio.create_task(hub.listen())
    async with asyncio.timeout(60):
        while len(world.jobs._watchers) < 2:
            await asyncio.sleep(0.001)
        job = (await world.ask()).json()
        while not told:
            await asyncio.sleep(0.001)
    assert (failures, told[0].id) == (2, job["id"])
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_streams_need_the_token_where_reading_does(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_OPEN_READS="false") as world:
        assert (await world.http.get("/events")).status_code == 401
        stream = Stream(world, "/events", authorization=AUTHORIZED["Authorization"])
        await stream.started()
        assert stream.status == 200


async def test_what_waits_for_a_slow_watcher_is_bounded(world: ApiWorld) -> None:
    job = await world.jobs.get((await world.ask()).json()["id"])
    watcher = Watcher()
    for number in range(MAX_WAITING + 50):
        watcher.put(dataclasses.replace(job, id=str(number)))
    watcher.close()
    waiting = [each.id async for each in watcher]
    assert waiting == [str(number) for number in range(50, MAX_WAITING + 50)]
