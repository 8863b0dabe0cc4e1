"""One delivery that ends in time, whatever the receiver does."""

from __future__ import annotations

import socket
import threading


class BoundedThread(threading.Thread):
    """One delivery, in a thread that is left behind when its time is up.

    The thread, because nothing else bounds a name server or a receiver that sends a byte now and then.
    """

    def __init__(self, name: str, timeout: float) -> None:
        super().__init__(name=name, daemon=True)
        self._timeout = max(timeout, 0.001)
        self._ended = threading.Event()

    def bounded(self) -> bool:
        """Runs it, and returns when it ended or its time is up: whether it ended by itself."""
        try:
            self.start()
        except RuntimeError:  # no thread to be had, as at the end of the interpreter: each step is bounded still
            self.run()
            return True
        if self._ended.wait(min(self._timeout, threading.TIMEOUT_MAX)):
            return True
        self._give_up()
        return False

    def run(self) -> None:
        """Sends, and keeps what came of it."""
        try:
            self._send()
        except Exception as error:  # noqa: BLE001  # classified for the caller's thread; it may hold secrets
            self._failed(error)
        finally:
            self._ended.set()

    def _send(self) -> None:
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        raise NotImplementedError

    def _held(self) -> socket.socket | None:
        """The connection, where there is one."""
        raise NotImplementedError

    def _give_up(self) -> None:
        held = self._held()
        if held is not None:
            try:
                socket.socket.shutdown(held, socket.SHUT_RDWR)  # wakes the thread; close() would not
            except OSError:
                return  # closed by the other side already, so the thread is awake
