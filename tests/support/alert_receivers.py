"""Receivers of alerts on the loopback: Slack, PagerDuty and a generic webhook, real HTTP, as strict as the originals.

    with served(FakeSlack()) as slack:
        slack.script(503, Reply(429, retry_after=2), RESET)    # then it behaves again
        SlackChannel(slack.url)...
        assert slack.accepted == [{...}]

Everything that came in is in ``requests``, what was accepted in ``accepted`` as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar

from support.alert_payloads import RefusedError, check_generic, check_pagerduty, check_slack

SLACK_PATH = "/services/T00000000/B00000000/fakeWebhookToken00000000"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"


@dataclasses.dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    at: float
    """Seconds on the receiver's clock."""
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer. As a step of a script, nothing of the request is looked at, unless ``status`` is ``None``."""

    status: int | None = None
    """``None``: as the receiver would answer without a script."""
    body: str | bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    retry_after: int | str | None = None
    delay: float = 0.0
    """Seconds before the first byte."""
    drip: float = 0.0
    """Seconds between the bytes of the answer, of its head too."""
    promised: int | None = None
    """Content-Length that is reported if it is not the body's; what is missing never comes."""


RESET = "reset"
"""Step of a script: the connection is reset once the request is there."""
BLACK_HOLE = "black hole"
"""Step of a script: no answer until the receiver ends."""

Step = Reply | int | str
R = TypeVar("R", bound="Receiver")


class Receiver:
    """What all of them have in common. ``url`` is what a channel is given."""

    path = "/"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests: list[Received] = []
        self.accepted: list[Any] = []
        self.failures: list[BaseException] = []
        self.url = ""
        self.stopping = threading.Event()
        self._clock = clock
        self._script: list[Step] = []
        self._forever: Step | None = None
        self._changed = threading.Condition()

    def script(self, *steps: Step, forever: bool = False) -> None:
        """What happens to the next requests, one step each: a status, a `Reply`, `RESET` or `BLACK_HOLE`.

        ``forever`` repeats the last step until the next call; without steps the receiver behaves again.
        """
        with self._changed:
            self._script = list(steps)
            self._forever = steps[-1] if forever and steps else None

    def wait_for(self, accepted: int = 0, *, requests: int = 0, timeout: float = 60.0) -> None:
        """Waits until that many were accepted, and that many requests came. Fails after ``timeout`` seconds."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: len(self.accepted) >= accepted and len(self.requests) >= requests, timeout
            )
            assert there, f"{len(self.accepted)} accepted of {len(self.requests)} requests after {timeout} s"

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply | str:
        """What to answer, or `RESET` or `BLACK_HOLE`; records the request."""
        with self._changed:
            request = Received(self._clock(), path, headers, body)
            self.requests.append(request)
            step = self._script.pop(0) if self._script else self._forever
            if isinstance(step, int):
                step = Reply(step)
            if isinstance(step, Reply) and step.status is None:
                own = self.answer(request)
                step = dataclasses.replace(step, status=own.status, body=own.body, headers=own.headers)
            reply = self.answer(request) if step is None else step
            self._changed.notify_all()
            return reply

    def answer(self, request: Received) -> Reply:
        """What the original would answer; adds to ``accepted`` what it takes."""
        raise NotImplementedError


class FakeSlack(Receiver):
    """An incoming webhook. Answers in plain text; takes one message a second; can be revoked."""

    path = SLACK_PATH

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, rate_limit: bool = True) -> None:
        super().__init__(clock)
        self._rate_limit = rate_limit
        self._revoked: Reply | None = None
        self._last: float | None = None

    def revoke(self, status: int = 404, reason: str = "no_service") -> None:
        """As if somebody removed the app (404 no_service), the channel (410 channel_is_archived), the permission
        (403)."""
        self._revoked = Reply(status, reason)

    def answer(self, request: Received) -> Reply:
        if self._revoked is not None:
            return self._revoked
        if request.path != self.path:
            return Reply(404, "no_team")
        wait = self._wait(request.at)
        if wait > 0:
            return Reply(429, "rate_limited", retry_after=math.ceil(wait))
        if not request.headers.get("content-type", "").startswith("application/json"):
            return Reply(400, "invalid_payload")
        try:
            message = json.loads(request.body)
            check_slack(message)
        except (ValueError, RefusedError) as problem:
            self.failures.append(problem)
            return Reply(400, "invalid_payload")
        self.accepted.append(message)
        self._last = request.at
        return Reply(200, "ok")

    def _wait(self, at: float) -> float:
        return 0.0 if self._last is None or not self._rate_limit else self._last + 1.0 - at


@dataclasses.dataclass
class Incident:
    """An incident at PagerDuty."""

    dedup_key: str
    severity: str
    summary: str
    status: str = "triggered"
    """``triggered``, ``acknowledged`` or ``resolved``."""
    triggers: int = 1
    pages: int = 1
    """How often people were called."""


class FakePagerDuty(Receiver):
    """The Events API v2, with the incidents that come of the events."""

    path = "/v2/enqueue"
    MAX_BYTES = 512 * 1024
    PER_MINUTE = 120

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, routing_key: str = ROUTING_KEY) -> None:
        super().__init__(clock)
        self.incidents: list[Incident] = []
        """In the order in which they were opened."""
        self.dropped: list[Any] = []
        """Accepted, but about no open incident."""
        self._routing_key = routing_key
        self._taken: list[float] = []

    def open_incident(self, dedup_key: str) -> Incident | None:
        """The open one with this key."""
        for incident in self.incidents:
            if incident.dedup_key == dedup_key and incident.status != "resolved":
                return incident
        return None

    def forgive(self) -> None:
        """Counts no event of before for its limit."""
        self._taken.clear()

    def acknowledge(self, dedup_key: str) -> None:
        """Acknowledges the incident like a person would."""
        incident = self.open_incident(dedup_key)
        assert incident is not None, f"no open incident {dedup_key}"
        incident.status = "acknowledged"

    def answer(self, request: Received) -> Reply:
        if request.path != self.path:
            return Reply(404, "Not Found")
        if len(request.body) > self.MAX_BYTES:
            return Reply(413, "Payload Too Large")
        try:
            event = json.loads(request.body)
            check_pagerduty(event)
            if event["routing_key"] != self._routing_key:
                raise RefusedError("'routing_key' is unknown")
        except (ValueError, RefusedError) as problem:
            self.failures.append(problem)
            said = {"status": "invalid event", "message": "Event object is invalid", "errors": [str(problem)]}
            return Reply(400, json.dumps(said))
        self._taken = [at for at in self._taken if at > request.at - 60.0]
        if len(self._taken) >= self.PER_MINUTE:
            said = {"status": "throttle exceeded", "message": "Requests for this service are arriving too quickly."}
            return Reply(429, json.dumps(said))
        self._taken.append(request.at)
        self.accepted.append(event)
        key = event.get("dedup_key") or f"made-here-{len(self.accepted)}"
        self._apply(event, key)
        return Reply(202, json.dumps({"status": "success", "message": "Event processed", "dedup_key": key}))

    def _apply(self, event: Any, key: str) -> None:
        incident = self.open_incident(key)
        if event["event_action"] == "trigger":
            payload = event["payload"]
            if incident is None:
                self.incidents.append(Incident(key, payload["severity"], payload["summary"]))
            else:  # joins it; one that somebody acknowledged stays so
                incident.triggers += 1
                incident.severity = payload["severity"]
        elif incident is None:
            self.dropped.append(event)
        else:
            incident.status = {"acknowledge": "acknowledged", "resolve": "resolved"}[event["event_action"]]


class FakeWebhook(Receiver):
    """A receiver of the generic webhook, which checks signature, freshness, key and fields, and drops repetitions."""

    path = "/alerts"
    MAX_AGE = 300.0

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        secret: str | None = None,
        now: Callable[[], float] = time.time,
        status: int = 204,
    ) -> None:
        super().__init__(clock)
        self.repeated: list[str] = []
        """Idempotency keys that came again after they had been accepted."""
        self._secret = secret
        self._now = now
        self._status = status

    def answer(self, request: Received) -> Reply:
        if request.path != self.path:
            return Reply(404)
        problem = self._forged(request)
        if problem:
            self.failures.append(RefusedError(problem))
            return Reply(401, problem)
        try:
            if not request.headers.get("content-type", "").startswith("application/json"):
                raise RefusedError("not JSON")
            message = json.loads(request.body.decode("utf-8"), parse_constant=_refuse_constant)
            check_generic(message)
            if request.headers.get("idempotency-key") != message["id"]:
                raise RefusedError("Idempotency-Key is not the id")
        except (ValueError, RefusedError) as broken:
            self.failures.append(broken)
            return Reply(400, str(broken))
        if any(message["id"] == known["id"] for known in self.accepted):
            self.repeated.append(message["id"])
        else:
            self.accepted.append(message)
        return Reply(self._status)

    def _forged(self, request: Received) -> str | None:
        if self._secret is None:
            return None
        timestamp = request.headers.get("x-timestamp", "")
        if not timestamp.isdigit() or abs(self._now() - int(timestamp)) > self.MAX_AGE:
            return "X-Timestamp is missing or not fresh"
        signed = hmac.new(self._secret.encode(), f"{timestamp}.".encode() + request.body, hashlib.sha256)
        given = request.headers.get("x-signature-256", "")
        return None if hmac.compare_digest(f"sha256={signed.hexdigest()}", given) else "X-Signature-256 does not fit"


def _refuse_constant(name: str) -> Any:
    raise RefusedError(f"{name} is not JSON")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: ClassVar[Receiver]

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.receiver.take(self.path, headers, self.rfile.read(length))
        if reply == BLACK_HOLE:
            self.receiver.stopping.wait()
            self.close_connection = True
        elif isinstance(reply, Reply):
            self._write(reply)
        else:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True

    def _write(self, reply: Reply) -> None:
        self.receiver.stopping.wait(reply.delay)
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {reply.promised or len(body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.retry_after is not None:
            lines.append(f"Retry-After: {reply.retry_after}")
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        if not reply.drip:
            self.wfile.write(data)
            if reply.promised:
                self.receiver.stopping.wait()
            return
        for at in range(len(data)):
            self.wfile.write(data[at : at + 1])
            if self.receiver.stopping.wait(reply.drip):
                break

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named by the base class
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):  # a client may leave whenever it likes
            self.receiver.failures.append(error)


@contextlib.contextmanager
def served(receiver: R) -> Iterator[R]:
    """Serves it on a free port of the loopback, and ends everything with the block."""
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = _Server(("127.0.0.1", 0), handler)
    server.receiver = receiver
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}{receiver.path}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="alert receiver", daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
