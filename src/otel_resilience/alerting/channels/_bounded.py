"""One delivery with a hard time limit, whatever the receiver does."""

from __future__ import annotations

import socket
import threading


class BoundedThread(threading.Thread):
    """One delivery, in a thread that is abandoned when its time is up.

    A thread, because nothing else bounds a slow name server or a receiver that sends a byte now and then.
    """

    def __init__(self, name: str, timeout: float) -> None:
        super().__init__(name=name, daemon=True)
        self._timeout = max(timeout, 0.001)
        self._ended = threading.Event()

    def bounded(self) -> bool:
        """Runs it, and returns when it has ended or its time is up. Returns whether it ended by itself."""
        try:
            self.start()
        except RuntimeError:  # no thread is available, as at interpreter shutdown: each step still has its own timeout
            self.run()
            return True
        if self._ended.wait(min(self._timeout, threading.TIMEOUT_MAX)):
            return True
        self._give_up()
        return False

    def run(self) -> None:
        """Sends, and keeps the outcome."""
        try:
            self._send()
        except Exception as error:  # noqa: BLE001  # classified for the caller's thread; it may contain secrets
            self._failed(error)
        finally:
            self._ended.set()

    def _send(self) -> None:
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        raise NotImplementedError

    def _held(self) -> socket.socket | None:
        """The connection, if there is one."""
        raise NotImplementedError

    def _give_up(self) -> None:
        held = self._held()
        if held is not None:
            try:
                socket.socket.shutdown(held, socket.SHUT_RDWR)  # wakes the thread; close() would not
            except OSError:
                return  # the other side has closed it already, so the thread is awake
