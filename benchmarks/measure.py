"""How a case is checked and timed."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, SupportsIndex

ANSWER = 42
_cpu_time = time.thread_time
"""CPU seconds of the measuring thread: other processes on the machine disturb it less than elapsed time."""
_sleep = time.sleep


class Operation:
    """The protected operation: a plain function, with a count of its calls if a case needs one."""

    def __init__(
        self, *, failing: str = "never", asynchronous: bool = False, fail: Callable[[], NoReturn] | None = None
    ) -> None:
        self.calls = 0
        self.failing = failing
        self._fail = fail
        """What raises the error; ``None``: a ``ConnectionError`` is made."""
        self.function: Callable[[], Any] = self._make_async() if asynchronous else self._make()

    def _make(self) -> Callable[[], Any]:
        if self.failing == "never":

            def succeed() -> int:
                return ANSWER

            return succeed

        raising = self._fail

        def fail() -> int:
            self.calls += 1
            if self.failing == "always" or self.calls % 2:
                if raising is not None:
                    raising()
                raise ConnectionError("reset")
            return ANSWER

        return fail

    def _make_async(self) -> Callable[[], Awaitable[Any]]:
        if self.failing == "never":

            async def succeed() -> int:
                return ANSWER

            return succeed

        async def fail() -> int:
            self.calls += 1
            if self.failing == "always" or self.calls % 2:
                raise ConnectionError("reset")
            return ANSWER

        return fail


@dataclasses.dataclass(slots=True)
class Case:
    """One row: a library in one situation. ``raises`` is set if the call should be rejected."""

    group: str
    name: str
    call: Callable[[], Any]
    operation: Operation
    raises: str | None = None
    asynchronous: bool = False
    elapsed: bool = False
    """Measure elapsed time instead of processor time: other threads do a part of the work."""


@dataclasses.dataclass(slots=True)
class Result:
    """Nanoseconds per call of one case, one number per repeat."""

    case: Case
    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class InvalidCaseError(Exception):
    """A case does not do what its row says."""


class Bench:
    """Checks the cases of one group, then times them in a new random order per repeat."""

    def __init__(self, *, repeats: int, slice_seconds: float, seed: int = 1) -> None:
        self.repeats = repeats
        self.slice_seconds = slice_seconds
        self._order = random.Random(seed)

    def run(self, cases: Sequence[Case]) -> list[Result]:
        with asyncio.Runner() as runner:
            for case in cases:
                self._validate(case, runner)
            numbers = [self._calibrate(case, runner) for case in cases]
            results = [Result(case, []) for case in cases]
            order = list(range(len(cases)))
            for _ in range(self.repeats):
                self._order.shuffle(order)
                for index in order:
                    seconds = _time(cases[index], numbers[index], runner)
                    results[index].samples.append(seconds / numbers[index] * 1e9)
            for case in cases:
                self._validate(case, runner)
        return results

    def ratios(self, case: Case, against: Case, *, rounds: int = 31) -> list[float]:
        """Time of ``case`` over time of ``against``, timed in turn, each pair in a random order."""
        pair = (case, against)
        with asyncio.Runner() as runner:
            numbers = [max(1, self._calibrate(each, runner) // 4) for each in pair]
            found = []
            for _ in range(rounds):
                spent = [0.0, 0.0]
                for index in self._order.sample((0, 1), 2):
                    spent[index] = _time(pair[index], numbers[index], runner) / numbers[index]
                found.append(spent[0] / spent[1])
        return found

    def _calibrate(self, case: Case, runner: asyncio.Runner) -> int:
        number = 1
        while True:
            seconds = _time(case, number, runner)
            if seconds > self.slice_seconds / 10:
                return max(1, int(number * self.slice_seconds / seconds))
            number *= 4

    def _validate(self, case: Case, runner: asyncio.Runner) -> None:
        for _ in range(3):
            before = case.operation.calls
            try:
                value = runner.run(_await(case.call)) if case.asynchronous else case.call()
            except Exception as error:
                if type(error).__name__ != case.raises:
                    raise InvalidCaseError(f"{case.group}: {case.name} raised {error!r}") from error
                value = ANSWER
            else:
                if case.raises is not None:
                    raise InvalidCaseError(f"{case.group}: {case.name} returned {value!r}, not {case.raises}")
            made = case.operation.calls - before
            wanted = {"never": 0, "every other": 2, "always": 1 if case.raises == "ConnectionError" else 0}
            if value != ANSWER or made != wanted[case.operation.failing]:
                raise InvalidCaseError(f"{case.group}: {case.name} gave {value!r} after {made} counted calls")


def trip(call: Callable[[], Any], operation: Operation, *, asynchronous: bool = False) -> str:
    """Fails until the breaker rejects a call without making it. The name of the rejection's type."""
    with asyncio.Runner() as runner:
        for _ in range(200):
            before = operation.calls
            try:
                runner.run(_await(call)) if asynchronous else call()
            except Exception as error:
                if operation.calls == before:
                    return type(error).__name__
    raise InvalidCaseError("the breaker did not open")


def no_sleep(seconds: float | SupportsIndex, /) -> None:
    """Replaces ``time.sleep``, which costs tens of microseconds even for zero seconds."""


class SleepsAreFree:
    """Within the block ``time.sleep`` returns immediately, for peers that call it even if the wait is zero."""

    def __enter__(self) -> None:
        time.sleep = no_sleep

    def __exit__(self, *_: object) -> None:
        time.sleep = _sleep


async def _await(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


def _time(case: Case, number: int, runner: asyncio.Runner) -> float:
    if case.elapsed:
        return _elapsed(case.call, number)
    if case.asynchronous:
        return runner.run((_time_async_rejections if case.raises else _time_async)(case.call, number))
    return (_time_rejections if case.raises else _time_calls)(case.call, number)


def _time_calls(call: Callable[[], Any], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = _cpu_time()
    for _ in rounds:
        call()
    return _cpu_time() - start


def _elapsed(call: Callable[[], Any], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = time.perf_counter()
    for _ in rounds:
        call()
    return time.perf_counter() - start


def _time_rejections(call: Callable[[], Any], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = _cpu_time()
    for _ in rounds:
        try:  # noqa: SIM105  # a context manager would cost more than what is measured
            call()
        except Exception:
            pass
    return _cpu_time() - start


async def _time_async(call: Callable[[], Awaitable[Any]], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = _cpu_time()
    for _ in rounds:
        await call()
    return _cpu_time() - start


async def _time_async_rejections(call: Callable[[], Awaitable[Any]], number: int) -> float:
    rounds = itertools.repeat(None, number)
    start = _cpu_time()
    for _ in rounds:
        try:  # noqa: SIM105
            await call()
        except Exception:
            pass
    return _cpu_time() - start
