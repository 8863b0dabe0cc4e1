"""Common code of the instrumentors: their options, and attributes that are replaced and restored."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # its file opts out

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import context_of, name_of, text_of, traceback_of
from otel_resilience._internal.operations import function_name
from otel_resilience.classification import error_types
from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.defaults import default_classifier
from otel_resilience.classification.model import Classification, ErrorClass, Severity
from otel_resilience.telemetry import cardinality, never_raise

CIRCUIT_OPEN: Final = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.CIRCUIT_OPEN, max_retries=0)
"""The verdict on a rejection by a circuit breaker of another library."""

_PYBREAKER: Final = "pybreaker.CircuitBreakerError"


class Plan:
    """The names under which the calls to one dependency are reported."""

    def __init__(self, dependency: str) -> None:
        self.dependency = dependency
        self.clock = time.monotonic
        self._operation_name = cardinality.BoundedNames(cardinality.MAX_OPERATIONS)

    def operation_name(self, function: object, name: str | None) -> str:
        """The given name, else the function's; from a bounded set."""
        return self._operation_name(name or function_name(function))


class Settings:
    """The options that an instrumentor was given. Raises ``TypeError`` or ``ValueError`` naming the option."""

    def __init__(self, dependency: str | Callable[[str], str | None] | None, classifier: Classifier | None) -> None:
        if dependency is not None and not callable(dependency):
            check.label("dependency", dependency)
        check.instance("classifier", classifier, Classifier, types.NoneType)
        self._naming = dependency
        self._known = cardinality.BoundedNames(cardinality.MAX_DEPENDENCIES)
        self._plans: dict[str, Plan] = {}
        self.classify = (classifier or default_classifier().extended(_judge_rejection)).classify

    def dependency(self, default: str) -> str:
        """The name of the dependency: ``default`` unless an option says otherwise; from a bounded set."""
        named = self._renamed(default) if callable(self._naming) else self._naming
        return self._known(named or default)

    @never_raise
    def _renamed(self, default: str) -> str | None:
        named = self._naming(default) if callable(self._naming) else None
        return None if named is None else check.label("dependency", named)

    def plan(self, default: str) -> Plan:
        """How that dependency is reported."""
        dependency = self.dependency(default)
        return self._plans.get(dependency) or self._plans.setdefault(dependency, Plan(dependency))


class Patches:
    """Attributes of classes and modules that are replaced until :meth:`restore`."""

    def __init__(self) -> None:
        self._saved: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, /, **makers: Callable[[Any], Any]) -> None:
        """Replaces attributes of ``owner`` by what their makers return for them."""
        for name, make in makers.items():
            original = vars(owner)[name]
            setattr(owner, name, make(original))
            self._saved.append((owner, name, original))

    def restore(self) -> None:
        """Restores everything."""
        while self._saved:
            setattr(*self._saved.pop())


class LibraryInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base has no types
    """Base of the instrumentors."""

    _supported: ClassVar[str]
    """The library and its supported versions, as a requirement."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """The library and its supported versions, as a requirement."""
        return (self._supported,)

    def instrument(
        self,
        *,
        dependency: str | Callable[[str], str | None] | None = None,
        classifier: Classifier | None = None,
        **kwargs: Any,
    ) -> None:
        """From now on calls are reported, including those of functions decorated and objects created before.

        ``dependency`` is the name of what is called: one name for all calls, or a function that takes the default name
        (for a retried function: its module; for a circuit breaker: its own name) and returns another, or ``None`` to
        keep it. ``classifier`` judges the errors; by default the library's own. Has no effect if the installed version
        of the library is not supported, which is logged, or if it is instrumented already. Raises ``TypeError`` or
        ``ValueError`` naming the option.

        Examples:
            >>> from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
            >>> TenacityInstrumentor().instrument(dependency={"shop.supplier": "supplier"}.get)
            >>> TenacityInstrumentor().uninstrument()
        """
        if kwargs.pop("skip_dep_check", False):
            # Called by `opentelemetry-instrument`, which checks versions by distribution; this one has five.
            kwargs["raise_exception_on_conflict"] = True
        super().instrument(dependency=dependency, classifier=classifier, **kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        settings = Settings(kwargs.get("dependency"), kwargs.get("classifier"))
        try:
            self._enable(settings)
        except BaseException:
            self._uninstrument()
            raise

    def _enable(self, settings: Settings) -> None:
        raise NotImplementedError


def module_of(function: Any) -> str:
    """The module of a function; that of the type for a callable object."""
    target = getattr(function, "func", function)
    return str(getattr(target, "__module__", None) or type(target).__module__)


def hide_frame(error: BaseException) -> None:
    """Removes the frame that catches ``error`` from its traceback; follow it with a plain ``raise``."""
    here = traceback_of(error)
    if here is not None:
        BaseException.with_traceback(error, here.tb_next)  # assignment would fail for a frozen dataclass


class Observing:
    """A block whose errors are passed to ``report`` and propagate, without its frame in their traceback."""

    def __init__(self, report: Callable[[BaseException], object]) -> None:
        self._report = report

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            self._report(error)
            hide_frame(error)


def replaced_failure(error: BaseException) -> BaseException | None:
    """The failure that opened a pybreaker circuit, if pybreaker replaced it by its own rejection."""
    failure = context_of(error)
    trip = name_of(type(error)) == _PYBREAKER and text_of(error).endswith("circuit breaker opened")
    return failure if trip else None


def _judge_rejection(error: BaseException) -> Classification | None:
    """The verdict on the rejections of other circuit breakers, which no other rule knows."""
    if name_of(type(error)) not in (_PYBREAKER, "circuitbreaker.CircuitBreakerError"):
        return None
    failure = replaced_failure(error)
    return CIRCUIT_OPEN if failure is None else default_classifier().classify(failure)
