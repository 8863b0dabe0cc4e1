"""Groups I and J: one retry after the errors that clients raise, decided by the classifier, and after one's own.

In group I the real client fails: httpx and redis-py against a closed port, a server that does not answer, one that
answers 503. In group J the same exceptions are constructed directly, which costs next to nothing, so that only the
library is measured: class, message, request, response and the chain of causes are those of the client, and like those
they are freed without the garbage collector; that is checked.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import httpcore
import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks import ours, peers
from benchmarks.groups import OURS
from benchmarks.measure import ANSWER, Case, InvalidCaseError, Operation
from otel_resilience import retry

I = "I. One retry after a failure of the real client"  # noqa: E741  # the letter of the group
J = "J. One retry after an exception as the client raises it"
PEER = "nopanic retry+budget, "
PARTS = "decorator, retry+budget, "
OWN = "own exception"
BY_TYPE = "@retry(on=), budget, "


LIMITS = {
    "httpx.ConnectError": 1.5,
    "httpx.ReadTimeout": 1.5,
    "redis.ConnectionError": 1.3,
    "httpx.HTTPStatusError 503": 1.3,
    OWN: 1.25,
}
"""By row, as a multiple of the peer's time."""


class WarehouseBusyError(Exception):
    """One's own exception, which no rule knows."""


def cases(real: bool) -> list[Case]:
    """The rows of group I (``real``) or J."""
    group, found = (I if real else J), []
    for name, (kind, by_hand, by_client) in _errors().items():
        if real and by_client is None:
            continue
        fail = by_client if real and by_client is not None else by_hand
        protect = ours.decorated(breaker=False)
        row = PARTS
        if name == OWN:
            protect, row = _retry_on_own, BY_TYPE
        for title, make in ((PEER, peers.nopanic_policy(budget=True, on=kind)), (OURS + row, protect)):
            operation = Operation(failing="every other", fail=fail)
            found.append(Case(group, title + name, make(operation.function), operation))
    return found


def _retry_on_own(function: Callable[[], Any]) -> Callable[[], Any]:
    return retry(ours.RETRY, on=WarehouseBusyError, dependency="warehouse")(function)


_Failure = Callable[[], NoReturn]


class _Clients:
    """The clients, and how each fails."""

    def __init__(self) -> None:
        self._closed, self._silent, self._unwell = _closed_port(), _silent_port(), _answering_503()
        self._client = httpx.Client(timeout=0.002, trust_env=False)
        self._redis = redis.Redis("127.0.0.1", self._closed, retry=Retry(NoBackoff(), 0))
        self._request = self._client.build_request("GET", f"http://127.0.0.1:{self._closed}/")
        self._response: httpx.Response = _caught(httpx.HTTPStatusError, self.status_error).response

    def connect_error(self) -> NoReturn:
        self._client.get(f"http://127.0.0.1:{self._closed}/")
        raise AssertionError

    def read_timeout(self) -> NoReturn:
        self._client.get(f"http://127.0.0.1:{self._silent}/")
        raise AssertionError

    def status_error(self) -> NoReturn:
        self._client.get(f"http://127.0.0.1:{self._unwell}/", timeout=5).raise_for_status()
        raise AssertionError

    def redis_error(self) -> NoReturn:
        self._redis.ping()
        raise AssertionError

    def made_connect_error(self) -> NoReturn:
        self._map(ConnectionRefusedError(111, "Connection refused"), httpcore.ConnectError, httpx.ConnectError)

    def made_read_timeout(self) -> NoReturn:
        self._map(TimeoutError("timed out"), httpcore.ReadTimeout, httpx.ReadTimeout)

    def made_status_error(self) -> NoReturn:
        self._response.raise_for_status()
        raise AssertionError

    def made_redis_error(self) -> NoReturn:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError:
            raise redis.ConnectionError(  # noqa: B904  # as redis-py does
                f"Error 111 connecting to 127.0.0.1:{self._closed}. Connection refused."
            )

    def _map(self, below: OSError, core: type[Exception], kind: type[httpx.RequestError]) -> NoReturn:
        """An error of the system as httpcore, then httpx raises it."""
        try:
            try:
                try:
                    raise below
                except OSError as error:
                    raise core(error) from None  # as its pool raises it again
            except core as error:
                raise kind(str(error)) from error
        except httpx.RequestError as error:
            error.request = self._request
            raise


def _fail_of_ones_own() -> NoReturn:
    raise WarehouseBusyError("busy")


def _errors() -> dict[str, tuple[type[Exception], _Failure, _Failure | None]]:
    """By the name of the row: the type, a function that raises it directly, and one that makes the client raise it."""
    clients = _Clients()
    found: dict[str, tuple[type[Exception], _Failure, _Failure | None]] = {
        "httpx.ConnectError": (httpx.ConnectError, clients.made_connect_error, clients.connect_error),
        "httpx.ReadTimeout": (httpx.ReadTimeout, clients.made_read_timeout, clients.read_timeout),
        "redis.ConnectionError": (redis.ConnectionError, clients.made_redis_error, clients.redis_error),
        "httpx.HTTPStatusError 503": (httpx.HTTPStatusError, clients.made_status_error, clients.status_error),
        OWN: (WarehouseBusyError, _fail_of_ones_own, None),
    }
    for name, (kind, by_hand, by_client) in found.items():
        if by_client is not None:
            made, real = (_shape(_caught(kind, fail)) for fail in (by_hand, by_client))
            if made != real:
                raise InvalidCaseError(f"{name} made by hand is {made}, of the client {real}")
            if _outlives(kind, by_hand) != _outlives(kind, by_client):
                raise InvalidCaseError(f"{name} made by hand and of the client are not freed alike")
    return found


def examples() -> dict[str, BaseException]:
    """One exception for each row, constructed directly."""
    return {name: _caught(kind, by_hand) for name, (kind, by_hand, _) in _errors().items()}


def _caught(kind: type[Any], fail: _Failure) -> Any:
    try:
        fail()
    except kind as error:
        return error


def _outlives(kind: type[Any], fail: _Failure) -> bool:
    """Whether the error is part of a reference cycle, so that only the garbage collector frees it."""
    gc.disable()
    try:
        return weakref.ref(_caught(kind, fail))() is not None
    finally:
        gc.enable()


def _shape(error: BaseException | None) -> list[tuple[type, str, bool, list[str]]]:
    """The shape of an exception and of those behind it: class, text, whether that is hidden, attributes."""
    found = []
    while error is not None:
        hidden = error.__cause__ is None and error.__suppress_context__
        found.append((type(error), str(error), hidden, sorted(vars(error))))
        error = error.__cause__ or error.__context__
    return found


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _silent_port() -> int:
    """The port of a server that accepts connections and says nothing."""
    return _serve(b"")


def _answering_503() -> int:
    return _serve(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\n%d" % ANSWER
    )


def _serve(answer: bytes) -> int:
    server = socket.create_server(("127.0.0.1", 0), backlog=128)

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(answer)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = server.getsockname()[1]
    return port
