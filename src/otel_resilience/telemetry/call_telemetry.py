"""What one protected call reports to OpenTelemetry: its spans, its events, its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace as trace_api
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal.foreign import is_a, name_of, text_of
from otel_resilience._internal.nesting import Enclosing
from otel_resilience.classification import error_types
from otel_resilience.classification.model import Classification, Severity
from otel_resilience.errors import ResilienceError
from otel_resilience.redaction import redact
from otel_resilience.telemetry import contract
from otel_resilience.telemetry import event_log as events
from otel_resilience.telemetry.listener import Listener, never_raise, report_broken

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

_LEVELS = {
    Severity.LOW: events.INFO,
    Severity.MEDIUM: events.INFO,
    Severity.HIGH: events.WARN,
    Severity.CRITICAL: events.ERROR,
}


class Observed(Protocol):
    """What telemetry shows of the policy that a call is made under."""

    @property
    def dependency(self) -> str:
        """The called dependency."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""
        ...

    def operation_name(self, function: object, name: str | None) -> str:
        """The name of an operation, from a bounded set."""
        ...


class CallTelemetry(Enclosing):
    """The observable part of a call. Attributes that only a listener needs are set when one starts to listen."""

    policy: Observed
    function: object
    name: str | None
    started: float
    started_attempt: float
    delay = 0.0
    _operation: str | None = None
    listener: Listener | None
    span: Span | None = None
    context: Context | None = None
    attempt_span: Span | None = None
    attached: Token[Context] | None = None
    make_current = False
    number = 0
    """Number of the reported attempt, if that is not the latest one."""

    @property
    def operation(self) -> str:
        """The operation's name on telemetry, from a bounded set."""
        shown = self._operation
        if shown is None:
            shown = self._operation = self.policy.operation_name(self.function, self.name)
        return shown

    def observe(self, listener: Listener | None) -> None:
        """Reports this call to ``listener`` from now on, if there is one."""
        if listener is None:
            return
        self.listener = listener
        self.span = self.attempt_span = self.attached = None
        self.make_current = False
        self._open_span(listener)

    def _open_span(self, listener: Listener) -> None:
        try:
            parent = self.context = get_current()
            around = trace_api.get_current_span(parent)
            if around is not trace_api.INVALID_SPAN:
                span_context = around.get_span_context()
                if span_context.is_valid and not span_context.trace_flags.sampled:
                    return
            dependency, operation = self.policy.dependency, self.operation
            attributes: dict[str, str | bool] = {contract.DEPENDENCY: dependency, contract.OPERATION: operation}
            if interventions.off:
                attributes[contract.DISABLED] = True
            span = listener.tracer.start_span(f"{dependency} {operation}", parent, SpanKind.INTERNAL, attributes)
            recording = span.is_recording()
            if recording or span.get_span_context().is_valid:
                self.make_current = True
                self.context = trace_api.set_span_in_context(span, parent)
                if recording:
                    self.span = span
        except Exception as exc:  # noqa: BLE001  # as in `never_raise`
            report_broken("_open_span", exc)

    def _open_attempt_span(self, listener: Listener) -> None:
        try:
            if self.span is not None:
                attributes = {contract.RETRY_DELAY: float(self.delay)} if self.attempts > 1 else None
                span = self._start_attempt_span(listener, attributes)
                self.attached = attach(trace_api.set_span_in_context(span, self.context))
            elif self.make_current and self.context is not None:
                self.attached = attach(self.context)
        except Exception as exc:  # noqa: BLE001  # as in `never_raise`
            report_broken("_open_attempt_span", exc)

    def _start_attempt_span(self, listener: Listener, more: dict[str, bool] | dict[str, float] | None) -> Span:
        # With its own dependency attribute, so that a search for failed attempts need not look up their parents.
        attributes: dict[str, str | bool | float] = {
            contract.DEPENDENCY: self.policy.dependency,
            contract.ATTEMPT_NUMBER: self.attempts,
        }
        if more is not None:
            attributes.update(more)
        span = listener.tracer.start_span(contract.ATTEMPT_SPAN, self.context, SpanKind.INTERNAL, attributes)
        self.attempt_span = span
        return span

    def _open_hedge_span(self) -> Context:
        """A span for a second, concurrent attempt, and the context in which it is current."""
        self.attempt_span = None
        self._start_hedge_span()
        context = get_current() if self.context is None else self.context
        return context if self.attempt_span is None else trace_api.set_span_in_context(self.attempt_span, context)

    @never_raise
    def _start_hedge_span(self) -> None:
        if self.listener is not None and self.span is not None:
            self._start_attempt_span(self.listener, {contract.ATTEMPT_HEDGED: True})

    @contextlib.contextmanager
    def _in_span(self) -> Iterator[None]:
        """Makes the span of the call the current one within the block, if there is a span."""
        if self.listener is not None and self.make_current and self.context is not None:
            self.attached = attach(self.context)
        try:
            yield
        finally:
            self._detach()

    def _detach(self) -> None:
        if self.attached is not None:
            detach(self.attached)
            self.attached = None

    def _forget_spans(self) -> None:
        """The attempt was withdrawn: its span is dropped, with that of the call if it was the first."""
        self._detach()
        self.attempt_span = None
        if not self.attempts:
            self.span = None

    def _close_attempt_span(self) -> None:
        if self.attached is not None:
            detach(self.attached)
            self.attached = None
        span = self.attempt_span
        if span is not None:
            self.attempt_span = None
            self._end_attempt_span(span)

    def _end_attempt_span(self, span: Span) -> None:
        try:
            span.end()
        except Exception as exc:  # noqa: BLE001  # as in `never_raise`
            report_broken("_end_attempt_span", exc)

    @never_raise
    def _report_failure(self, error: BaseException, verdict: Classification) -> None:
        dependency, operation = self.policy.dependency, self.operation
        message = _text(error)
        failure: dict[str, events.Value] = {
            contract.DEPENDENCY: dependency,
            contract.OPERATION: operation,
            contract.ERROR_TYPE: verdict.error_type,
            contract.ERROR_CLASS: verdict.error_class.value,
            contract.ERROR_SEVERITY: verdict.severity.value,
        }
        span = self.attempt_span
        if span is not None:
            span.set_attributes(
                {key: failure[key] for key in (contract.ERROR_TYPE, contract.ERROR_CLASS, contract.ERROR_SEVERITY)}
            )
            span.set_status(Status(StatusCode.ERROR, message))
        self._count_error(verdict)
        telemetry.emit(
            contract.EVENT_ERROR_CLASSIFIED,
            _LEVELS[verdict.severity],
            f"{dependency} {operation}: {verdict.error_type} is {verdict.error_class.value}",
            {**failure, contract.ERROR_UNCLASSIFIED: verdict.unclassified},
            span=span,
        )
        telemetry.emit(
            contract.EVENT_ATTEMPT_FAILED,
            events.INFO,
            f"{dependency} {operation}: attempt {self.number or self.attempts} failed with {verdict.error_type}",
            {
                **failure,
                contract.ATTEMPT_NUMBER: self.number or self.attempts,
                contract.ATTEMPT_DURATION: self.policy.clock() - self.started_attempt,
                "exception.type": name_of(type(error)),
                "exception.message": message,
            },
            span=span,
        )

    @never_raise
    def _count_error(self, verdict: Classification) -> None:
        if self.listener is not None and self.context is not None:
            self.listener.metrics.error(self.policy.dependency, self.operation, verdict, self.context)

    @never_raise
    def _report_retry(self, verdict: Classification, *, made: bool) -> None:
        dependency, operation = self.policy.dependency, self.operation
        hinted = verdict.retry_after is not None and self.delay == verdict.retry_after
        source = contract.RETRY_SOURCES[hinted]
        if made and self.listener is not None and self.context is not None:
            self.listener.metrics.retry(dependency, self.delay, source, self.context)
        telemetry.emit(
            contract.EVENT_RETRY_SCHEDULED if made else contract.EVENT_RETRY_SHADOWED,
            events.INFO,
            f"{dependency} {operation}: {'next attempt' if made else 'shadow mode, a retry would follow'}"
            f" in {self.delay:.3f} s",
            {
                contract.DEPENDENCY: dependency,
                contract.OPERATION: operation,
                contract.ERROR_TYPE: verdict.error_type,
                contract.ATTEMPT_NUMBER: self.attempts + 1,
                contract.RETRY_DELAY: float(self.delay),
                contract.RETRY_SOURCE: source,
            },
            context=self.context,
            span=self.span,
        )

    @never_raise
    def _report_exhausted(self, verdict: Classification) -> None:
        dependency, operation = self.policy.dependency, self.operation
        telemetry.emit(
            contract.EVENT_RETRY_EXHAUSTED,
            events.WARN,
            f"{dependency} {operation}: gave up after {self.attempts} attempts, {verdict.error_type}",
            {
                contract.DEPENDENCY: dependency,
                contract.OPERATION: operation,
                contract.ERROR_TYPE: verdict.error_type,
                contract.ATTEMPTS: self.attempts,
            },
            context=self.context,
            span=self.span,
        )

    @never_raise
    def _count_suppressed(self, reason: str) -> None:
        if self.listener is not None and self.context is not None:
            self.listener.metrics.suppress(self.policy.dependency, reason, self.context)

    def _close(self, outcome: str, verdict: Classification | None, error: BaseException | None = None) -> None:
        listener = self.listener
        if listener is None:
            return
        error_type = ""
        if verdict is not None and outcome != "cancelled":
            error_type = error_types.DEADLINE_EXCEEDED if outcome == "deadline" else verdict.error_type
        if self.context is not None:
            self._record(listener, outcome, error_type, self.context)
        if self.span is not None:
            self._end_span(self.span, outcome, error_type, error)

    def _record(self, listener: Listener, outcome: str, error_type: str, context: Context) -> None:
        try:
            policy = self.policy
            seconds = policy.clock() - self.started
            listener.metrics.operation(
                policy.dependency, self.operation, outcome, error_type, seconds, self.attempts, context
            )
        except Exception as exc:  # noqa: BLE001  # as in `never_raise`
            report_broken("_record", exc)

    def _end_span(self, span: Span, outcome: str, error_type: str, error: BaseException | None) -> None:
        try:
            set_attribute = span.set_attribute  # one by one: the SDK takes longer for a dictionary of two or three
            set_attribute(contract.ATTEMPTS, self.attempts)
            set_attribute(contract.OUTCOME, outcome)
            if error_type:
                set_attribute(contract.ERROR_TYPE, error_type)
            if error_type and outcome != "fallback":
                span.set_status(Status(StatusCode.ERROR, None if error is None else _text(error)))
            span.end()
        except Exception as exc:  # noqa: BLE001  # as in `never_raise`
            report_broken("_end_span", exc)


def _text(error: BaseException) -> str:
    """The message of an error without secrets; the name of its type if it has none."""
    if is_a(error, ResilienceError) and type(error).__module__ == ResilienceError.__module__:
        return str(error)  # our own: it contains only a dependency's name and numbers
    return redact(text_of(error))
