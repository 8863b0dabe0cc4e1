"""The tables of docs/errors.md, for comparing errors of real clients with them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import Classification, classify
from otel_resilience.classification import error_types

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
RETRY_AFTER = 7
_FURTHER = {
    "at once": ("immediate", True),
    "safe to retry": ("idempotent", True),
    "not safe to retry": ("idempotent", False),
}
_DEFAULTS: dict[str, Any] = {"retry_after": None, "max_retries": None, "immediate": False, "idempotent": None}


@dataclasses.dataclass(frozen=True)
class ErrorRow:
    """A row of the page: an error of a client and its verdict."""

    client: str
    error: str
    exception: str
    cells: tuple[str, ...]


def rows_of(client: str) -> list[Any]:
    """The rows of a client's table, as parameters for ``pytest.mark.parametrize``."""
    return [pytest.param(row, id=f"{row.client}: {row.error}") for row in _rows() if row.client == client]


def clients() -> set[str]:
    """The titles of the tables."""
    return {row.client for row in _rows()}


def _rows() -> Iterator[ErrorRow]:
    client = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            client = line[4:]
        elif client and line.startswith("| ") and not line.startswith("| error |"):
            error, exception, *cells = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
            yield ErrorRow(client, error, exception, tuple(cells))


def cells_of(verdict: Classification) -> tuple[str, ...]:
    """A verdict as the page shows it."""
    further = [text for text, (name, value) in _FURTHER.items() if getattr(verdict, name) is value]
    if verdict.retry_after is not None:
        further.append(f"after {verdict.retry_after:g} s")
    if verdict.max_retries is not None:
        further.append(f"at most {verdict.max_retries}")
    unsent = "yes" if verdict.unsent else ""
    return (
        verdict.error_class.value, verdict.severity.value, verdict.breaker.value, verdict.error_type, unsent,
        ", ".join(sorted(further)),
    )  # fmt: skip


def check_row(row: ErrorRow, error: BaseException) -> None:
    """Holds an error against its row."""
    verdict = classify(error)
    assert not verdict.unclassified, repr(error)
    assert (type(error).__name__, *cells_of(verdict)) == (row.exception, *row.cells), repr(error)
    assert verdict.error_type in error_types.NAMES or re.fullmatch(r"\d{3}", verdict.error_type)


def raised(operation: Callable[[], object]) -> Exception:
    """What ``operation`` raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the row says which
        operation()
    return caught.value


async def raised_async(operation: Callable[[], Awaitable[object]]) -> Exception:
    """What an ``async def`` raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await operation()
    return caught.value


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, but on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never sends anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that no further one comes about: packets seem to vanish."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port
