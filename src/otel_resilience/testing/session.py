"""The object behind the fixture ``resilience`` of the pytest plugin."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_resilience.telemetry import contract
from otel_resilience.testing.shared_clock import SharedClock
from otel_resilience.testing.substitution import ASYNC_SLEEP, CLOCK, SLEEP, Substitution, start_afresh
from otel_resilience.testing.telemetry import RecordedTelemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedCall:
    """One protected call that has ended, as returned by :meth:`Resilience.call`.

    Examples:
        >>> from otel_resilience.testing import Resilience
        >>> with Resilience().active() as resilience:
        ...     _ = Policy("supplier").execute(lambda: "plans", name="list plans")
        ...     print(resilience.call("list plans"))
        supplier 'list plans': attempts=1, outcome='ok'
    """

    dependency: str
    operation: str
    attempts: int
    """Attempts that were made."""
    outcome: str
    """``ok``, ``ok_after_retry``, ``fallback``, ``failed``, ``rejected``, ``deadline`` or ``cancelled``."""
    error_type: str | None
    """The ``error.type`` of a call that failed."""
    errors: tuple[str, ...]
    """The ``error.type`` of each attempt that failed."""

    def __str__(self) -> str:
        text = f"{self.dependency} {self.operation!r}: attempts={self.attempts}, outcome={self.outcome!r}"
        text += f", error_type={self.error_type!r}" if self.error_type else ""
        return text + (f" (attempts failed with {', '.join(self.errors)})" if self.errors else "")


class Resilience:
    """One test's view of the library: no waits, fresh state, recorded telemetry, a fake clock on demand.

    It applies to every policy of the process, whenever it was created, ``def`` and ``async def``. Tests get it from the
    pytest plugin as the fixture ``resilience``.

    Examples:
        >>> from otel_resilience.testing import Resilience
        >>> def fetch():
        ...     if current_attempt() < 3:
        ...         raise ConnectionResetError
        >>> with Resilience().active() as resilience:  # in a test the fixture is active
        ...     Policy("supplier", retry=RetryConfig(base_delay=10)).execute(fetch, name="list plans")
        ...     resilience.assert_call("list plans", attempts=3, outcome="ok_after_retry")
        ...     len(resilience.waits)
        2
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        """The requested waits, in seconds and in order; none was actually made."""
        self._stack = contextlib.ExitStack()
        self._telemetry: RecordedTelemetry | None = None
        self._clock: SharedClock | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[Resilience]:
        """Active within the block, for the whole process."""
        start_afresh()
        try:
            with self._stack:
                self._stack.enter_context(Substitution({SLEEP: self._sleep, ASYNC_SLEEP: self._async_sleep}))
                if importlib.util.find_spec("opentelemetry.sdk") is not None:
                    self._telemetry = self._stack.enter_context(RecordedTelemetry().recording())
                yield self
        finally:
            start_afresh()

    @property
    def telemetry(self) -> RecordedTelemetry:
        """What the library has emitted in this test. Raises ``RuntimeError`` if ``opentelemetry-sdk`` is missing."""
        if self._telemetry is None:
            raise RuntimeError("recorded telemetry needs opentelemetry-sdk: pip install 'otel-resilience[testing]'")
        return self._telemetry

    @property
    def clock(self) -> SharedClock:
        """The clock of all policies and circuit breakers from the first use of this property on.

        It continues from the real time, and moves by ``advance(seconds)`` and by the waits. Attempts that sleep on it
        reach their time limits immediately.
        """
        if self._clock is None:
            self._clock = SharedClock(self.waits)
            self._stack.enter_context(Substitution({CLOCK: self._clock}))
            self._stack.enter_context(self._clock.cutting())
        return self._clock

    def calls(self, operation: str | None = None, *, dependency: str | None = None) -> list[RecordedCall]:
        """The protected calls that have ended, in order: all, or those of an operation or a dependency."""
        spans = self.telemetry.spans
        attempts: dict[int, list[str]] = {}
        for span in spans:
            if span.name == contract.ATTEMPT_SPAN and span.parent is not None and _attribute(span, contract.ERROR_TYPE):
                attempts.setdefault(span.parent.span_id, []).append(_attribute(span, contract.ERROR_TYPE))
        found = [_call(span, attempts) for span in spans if _attribute(span, contract.OPERATION) is not None]
        return [call for call in found if operation in (None, call.operation) and dependency in (None, call.dependency)]

    def call(self, operation: str, *, dependency: str | None = None) -> RecordedCall:
        """The last call of ``operation``. Raises ``AssertionError``, which lists the calls that were made."""
        __tracebackhide__ = True
        found = self.calls(operation, dependency=dependency)
        if not found:
            raise AssertionError(self._no_call(operation, dependency, {}))
        return found[-1]

    def assert_call(
        self,
        operation: str,
        *,
        attempts: int | None = None,
        outcome: str | None = None,
        error_type: str | None = None,
        dependency: str | None = None,
        times: int | None = None,
    ) -> None:
        """Asserts that there was a call of ``operation`` with these values; ``times``: exactly that many.

        Raises ``AssertionError``, which lists the calls that were made.
        """
        __tracebackhide__ = True
        wanted = {"attempts": attempts, "outcome": outcome, "error_type": error_type}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        found = [
            call
            for call in self.calls(operation, dependency=dependency)
            if all(getattr(call, name) == value for name, value in wanted.items())
        ]
        if times is None and not found:
            raise AssertionError(self._no_call(operation, dependency, wanted))
        if times is not None and len(found) != times:
            raise AssertionError(f"{len(found)} of {times}: {self._no_call(operation, dependency, wanted)}")

    def _no_call(self, operation: str, dependency: str | None, wanted: dict[str, Any]) -> str:
        of = f" of {dependency}" if dependency else ""
        having = f" with {', '.join(f'{name}={value!r}' for name, value in wanted.items())}" if wanted else ""
        made = "".join(f"\n  {call}" for call in self.calls()) or " none"
        return f"no call {operation!r}{of}{having}; the calls that were made:{made}"

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self._clock is not None:
            self._clock.advance(seconds)

    async def _async_sleep(self, seconds: float) -> None:
        self._sleep(seconds)
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented for such use, and does not raise
            await asyncio.sleep(0)  # lets other tasks run, so that what the wait was too long for is cut off


def _attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def _call(span: ReadableSpan, attempts: dict[int, list[str]]) -> RecordedCall:
    context = span.get_span_context()
    return RecordedCall(
        dependency=_attribute(span, contract.DEPENDENCY),
        operation=_attribute(span, contract.OPERATION),
        attempts=_attribute(span, contract.ATTEMPTS),
        outcome=_attribute(span, contract.OUTCOME),
        error_type=_attribute(span, contract.ERROR_TYPE),
        errors=tuple(attempts.get(0 if context is None else context.span_id, ())),
    )
