"""A heartbeat for a dead man's switch: an external service that alerts when the heartbeat stops.

Needs httpx.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from otel_resilience.alerting.channels._http import Endpoint, direct_client
from otel_resilience.alerting.channels._proxy import proxy_for
from otel_resilience.policy.policy import Policy
from otel_resilience.redaction import register_secret
from otel_resilience.retries.config import RetryConfig

DEPENDENCY: Final = "heartbeat"
"""The ``resilience.dependency`` of its requests."""

_OTHER_METHOD: Final = frozenset({405, 501})


class Heartbeat:
    """Requests a URL in its own thread, with retries; only :meth:`close` waits for it. Needs httpx.

    By GET, or by POST if the receiver rejects GET. Raises ``ValueError`` if ``timeout`` is not a number of seconds
    greater than 0.

    Examples:
        >>> from otel_resilience.alerting import Heartbeat
        >>> failures = []
        >>> heartbeat = Heartbeat("http://127.0.0.1:9/ping", on_failure=failures.append)
        >>> heartbeat.beat()  # nothing listens there
        >>> heartbeat.close(timeout=30)
        True
        >>> len(failures)
        1
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 3.0,
        on_failure: Callable[[BaseException], None],
        on_success: Callable[[], None] = lambda: None,
    ) -> None:
        """``timeout``: seconds for one request. ``on_failure`` is called when a heartbeat was given up, ``on_success``
        when one was confirmed; both in the heartbeat's thread. Raises ``ValueError`` if the proxy from the environment
        cannot be used."""
        register_secret(url)
        self._proxy = proxy_for(url)
        self._url = url
        self._timeout = timeout
        self._on_failure = on_failure
        self._on_success = on_success
        self._policy = Policy(DEPENDENCY, retry=RetryConfig(max_attempts=3, base_delay=0.5), attempt_timeout=timeout)
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Sends a heartbeat."""
        self._thread = threading.Thread(target=self._send, name="heartbeat", daemon=True)
        self._thread.start()

    def reach(self, *, timeout: float) -> None:
        """Connects as for a heartbeat, within ``timeout`` seconds, and sends none. Raises ``ChannelError``."""
        Endpoint(DEPENDENCY, self._url).reach(timeout=timeout)

    def close(self, timeout: float) -> bool:
        """Waits at most ``timeout`` seconds for the last heartbeat. Returns whether it was finished."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _send(self) -> None:
        try:
            self._policy.execute(self._ask, name="beat", idempotent=True)
        except Exception as error:  # noqa: BLE001  # passed to the owner; nothing else runs in this thread
            self._on_failure(error)
        else:
            self._on_success()

    def _ask(self) -> None:
        with direct_client(self._proxy, timeout=self._timeout) as client:
            for method in ("GET", "POST"):
                answer = client.request(method, self._url, headers={"User-Agent": "otel-resilience"})
                if answer.status_code not in _OTHER_METHOD:
                    break
            answer.raise_for_status()
