"""Pickling of exceptions whose constructors do not take their ``args``."""

from __future__ import annotations

from typing import Any


def reduced(error: BaseException) -> tuple[Any, ...]:
    """For ``__reduce__``: what rebuilds the exception, with all its attributes.

    By default an exception is rebuilt by calling its class with its ``args``. If that fails, it breaks whatever waits
    for the result: a process pool, or the client of a job queue.
    """
    return _made_again, (type(error), error.args), vars(error)


def _made_again(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)
