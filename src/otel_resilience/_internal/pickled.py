"""Exceptions that survive pickling although they are not made of their ``args``."""

from __future__ import annotations

from typing import Any


def reduced(error: BaseException) -> tuple[Any, ...]:
    """For ``__reduce__``: what makes the exception again, with all its attributes.

    By default an exception is made again by calling its class with its ``args``. Where that fails, it breaks whatever
    waits for it: the pool of processes that a worker of raised it, the result of a job queue.
    """
    return _made_again, (type(error), error.args), vars(error)


def _made_again(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)
