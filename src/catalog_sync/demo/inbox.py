"""The webhook receiver for the demo's alerts, on the loopback interface; it checks signatures."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.demo.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BODY: Final = 512 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """One message."""

    at: float
    """Seconds since the epoch."""
    message: dict[str, Any]


class Inbox:
    """The messages that have arrived. Thread-safe."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._arrivals: list[Arrival] = []
        self._changed = threading.Condition()

    def since(self, moment: float) -> list[Arrival]:
        """The messages that arrived after ``moment``, in seconds since the epoch."""
        with self._changed:
            return [each for each in self._arrivals if each.at >= moment]

    def wait(self, moment: float, status: str, timeout: float) -> bool:
        """Whether a message with this status arrives after ``moment``, for at most ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: any(each.at >= moment and each.message.get("status") == status for each in self._arrivals),
                timeout,
            )

    def add(self, body: bytes, timestamp: str, signature: str) -> bool:
        """Keeps a message with a valid signature."""
        expected = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, f"sha256={expected}"):
            return False
        with self._changed:
            self._arrivals.append(Arrival(time.time(), json.loads(body)))
            self._changed.notify_all()
        return True


@contextlib.contextmanager
def running_inbox(inbox: Inbox) -> Iterator[str]:
    """Receives until the block ends; yields the value for ``ERROR_ALERT_WEBHOOK_URL``."""

    class Handler(_Handler):
        kept = inbox

    with serving(Handler, "alert-inbox") as url:
        yield f"{url}/alerts"


class _Handler(BaseHTTPRequestHandler):
    kept: Inbox

    def do_POST(self) -> None:  # the name that http.server calls
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if 0 < length <= MAX_BODY else b""
        taken = self.kept.add(body, self.headers.get("X-Timestamp", ""), self.headers.get("X-Signature-256", ""))
        self.send_response(204 if taken else 400)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the base class
        """Logs nothing: the demo shows what arrived."""
