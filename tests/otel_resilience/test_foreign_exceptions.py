"""Exceptions that behave oddly reach the caller unchanged: no error of this package replaces them."""

# ruff: noqa: N818  # the classes are named after what they do, for the ids of the tests

from __future__ import annotations

import dataclasses
import traceback
import unittest.mock
from collections.abc import Iterator
from typing import Any

import pytest

from otel_resilience import (
    CircuitBreakerConfig,
    Classification,
    Classifier,
    ErrorClass,
    Policy,
    ResilienceError,
    RetryConfig,
    Severity,
    classify,
    enrich,
    error_context,
)
from otel_resilience.errors import ErrorContext, attach_context
from otel_resilience.telemetry.hooks import subscribe, unsubscribe
from otel_resilience.testing import RecordedTelemetry
from support.resilience import Driver, PermanentFault, Script, TransientFault, make_policy, run_fake

ID = "0123456789abcdef" * 2


class RaisesOnAnyName(Exception):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)  # as where a dictionary is asked


class RaisesFromTheDepth(Exception):
    def __getattr__(self, name: str) -> Any:
        return getattr(self, name + "_")  # ends in RecursionError


class AnswersNone(Exception):
    def __getattr__(self, name: str) -> Any:
        return None


class AnswersMocks(Exception):
    def __getattr__(self, name: str) -> Any:
        return unittest.mock.MagicMock(name=name)


class AnswersItself(Exception):
    def __getattr__(self, name: str) -> Any:
        return self


class NotesAreNone(Exception):
    __notes__ = None  # type: ignore[assignment]


class NotesAreText(Exception):
    def __init__(self) -> None:
        self.__notes__ = "text"  # type: ignore[assignment]


class NotesAreATuple(Exception):
    def __init__(self) -> None:
        self.__notes__ = ("one",)  # type: ignore[assignment]


class LivelyList(list[str]):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("iter")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class NotesAreALivelyList(Exception):
    def __init__(self) -> None:
        self.__notes__ = LivelyList(["one"])


class NotesRaise(Exception):
    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("notes")


class NotesCannotBeCompared(Exception):
    def __init__(self) -> None:
        self.__notes__ = [CannotBeCompared()]  # type: ignore[list-item]


class CannotBeCompared(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")


class HasNoTruth(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class IsFalse(Exception):
    def __len__(self) -> int:
        return 0


class HasNoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


class TextIsNoText(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


class ContextIsReadOnly(Exception):
    @property
    def __resilience__(self) -> int:
        return 5


class EveryPropertyRaises(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("args")

    __cause__ = __context__ = __traceback__ = classification = response = request = status = args


class ClassRaises(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("class")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class ClassLies(Exception):
    @property
    def __class__(self) -> Any:
        return TransientFault

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class ForbidsAttributes(Exception):
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(name)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int = 3


class OddOSError(OSError):
    errno = "EPIPE"  # type: ignore[assignment]


class OddMeta(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("eq of the class")


class OddClass(Exception, metaclass=OddMeta):
    pass


class HasNoModule(Exception):
    pass


HasNoModule.__module__ = None  # type: ignore[assignment]

KINDS: list[Any] = [
    RaisesOnAnyName, RaisesFromTheDepth, AnswersNone, AnswersMocks, AnswersItself, NotesAreNone, NotesAreText,
    NotesAreATuple, NotesAreALivelyList, NotesRaise, NotesCannotBeCompared, CannotBeCompared, HasNoTruth, IsFalse,
    HasNoText, TextIsNoText, ContextIsReadOnly, EveryPropertyRaises, ClassRaises, ClassLies, ForbidsAttributes, Frozen,
    OddOSError, OddClass, HasNoModule,
]  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def through(driver: Driver, policy: Policy, script: Script, **options: Any) -> bool:
    """Whether the exception that ``script`` raises comes out of ``policy`` as it is.

    An ``async def`` is watched from within its task: asyncio's own handling of a task that fails needs a ``__repr__``.
    """
    (error,) = script.outcomes
    result: list[BaseException] = []

    async def watched() -> None:
        try:
            await policy.execute(driver.operation(script.play), **options)
        except BaseException as found:  # what is tested
            result.append(found)

    if driver.asynchronous:
        run_fake(driver.clock, watched())
        return [id(each) for each in result] == [id(error)]
    return reaches(error, lambda: policy.execute(driver.operation(script.play), **options))


def raised(call: Any) -> list[BaseException]:
    """What ``call`` raised; not by ``pytest.raises``, which reads the exception itself."""
    try:
        call()
    except BaseException as error:  # what is tested
        return [error]
    return []


def reaches(error: BaseException, call: Any) -> bool:
    """Whether ``call`` raises that very object; a plain value, since pytest cannot show all of these exceptions."""
    return [id(each) for each in raised(call)] == [id(error)]


@pytest.mark.fault("L18")
class TestTheUsersErrorReachesTheUser:
    @every_kind
    def test_through_a_policy(self, kind: Any, driver: Driver) -> None:
        error = kind()
        policy = make_policy(driver.clock)
        for _ in range(3):
            assert through(driver, policy, Script(error))

    @every_kind
    def test_where_it_is_retried(self, kind: Any, driver: Driver) -> None:
        error = kind()
        script = Script(error)
        policy = make_policy(driver.clock)
        assert through(driver, policy, script, is_retryable=lambda _: True)
        assert script.calls == 3

    @every_kind
    def test_as_a_cause_as_a_member_of_a_group_and_beside_another(self, kind: Any, driver: Driver) -> None:
        wrapper = ValueError("wrapper")
        wrapper.__cause__ = wrapper.__context__ = kind()
        group = ExceptionGroup("group", [kind(), TransientFault(), wrapper])
        for error in (wrapper, group):
            assert through(driver, make_policy(driver.clock), Script(error))

    @every_kind
    def test_through_a_circuit_breaker_and_an_observer(self, kind: Any) -> None:
        class Reader:
            texts: list[str] = []  # noqa: RUF012  # of one test

            def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
                self.texts.append(str(error))

            def on_transition(self, dependency: str, transition: object) -> None: ...

        error, reader = kind(), Reader()
        policy = Policy("supplier", breaker=CircuitBreakerConfig())
        assert policy.breaker is not None
        subscribe(reader)
        try:
            assert reaches(error, lambda: policy.execute(Script(error).play))
            assert reaches(error, lambda: policy.breaker.execute(Script(error).play))
        finally:
            unsubscribe(reader)

    @every_kind
    def test_enriched(self, kind: Any) -> None:
        error = kind()
        assert enrich(error, page=3) is error
        context = error_context(error)
        assert context is not None
        assert context.details == {"page": 3}


class TestWhatIsSaidOfIt:
    @every_kind
    def test_it_has_a_verdict_by_what_its_class_is(self, kind: Any) -> None:
        verdict = classify(kind())
        assert verdict.error_class is ErrorClass.PERMANENT
        assert verdict.unclassified

    @every_kind
    def test_its_context_can_be_read(self, kind: Any) -> None:
        error = kind()
        raised(lambda: Policy("supplier").execute(Script(error).play, name="list"))
        context = error_context(error)
        assert context is not None
        assert (context.dependency, context.operation, context.attempts) == ("supplier", "list", 1)

    @every_kind
    def test_its_spans_end_and_its_events_are_written(self, kind: Any) -> None:
        recorded = RecordedTelemetry()
        with recorded.recording():
            raised(lambda: Policy("supplier").execute(Script(kind()).play, name="list"))
        assert [span.name for span in recorded.spans] == ["attempt", "supplier list"]
        assert not any(span.status.is_ok for span in recorded.spans)
        assert "resilience.attempt.failed" in recorded.event_names()

    def test_an_odd_exception_that_says_what_it_means_is_believed(self) -> None:
        class Odd(RaisesOnAnyName):
            classification = Classification(ErrorClass.TRANSIENT, Severity.LOW, "503")

        assert classify(Odd()) is Odd.classification

    def test_an_attribute_that_only_claims_to_be_a_verdict_is_not_believed(self) -> None:
        error = ValueError("mock")
        error.classification = unittest.mock.MagicMock(spec=Classification)  # type: ignore[attr-defined]
        assert isinstance(error.classification, Classification)  # type: ignore[attr-defined]
        assert classify(error).unclassified

    def test_a_class_that_lies_is_what_it_really_is(self) -> None:
        assert isinstance(ClassLies(), TransientFault)
        seen: list[bool] = []
        Classifier([lambda error: seen.append(isinstance(error, TransientFault))]).classify(ClassLies())
        assert seen == [True]
        assert classify(ClassLies()).unclassified


@pytest.mark.fault("L18")
class TestNotes:
    @pytest.mark.parametrize("kind", [RaisesOnAnyName, AnswersNone, NotesAreNone, Frozen, ForbidsAttributes, IsFalse])
    def test_the_note_is_shown(self, kind: Any) -> None:
        error = kind()
        raised(lambda: Policy("supplier").execute(Script(error).play, name="list"))
        assert any("supplier list: 1 attempt" in line for line in traceback.format_exception_only(error))

    def test_the_users_own_notes_stay(self) -> None:
        error = PermanentFault()
        error.add_note("mine")
        raised(lambda: Policy("supplier").execute(Script(error).play))
        assert error.__notes__[0] == "mine"
        assert len(error.__notes__) == 2

    @pytest.mark.parametrize(("kind", "notes"), [(NotesAreText, "text"), (NotesAreATuple, ("one",))])
    def test_notes_that_are_no_list_stay_as_they_are(self, kind: Any, notes: object) -> None:
        error = kind()
        raised(lambda: Policy("supplier").execute(Script(error).play))
        assert error.__notes__ == notes

    def test_notes_of_a_class_are_not_shared_with_what_one_instance_gets(self) -> None:
        class WithNotes(Exception):
            __notes__ = ["of the class"]  # noqa: RUF012  # what is tested

        error = WithNotes()
        raised(lambda: Policy("supplier").execute(Script(error).play))
        assert error.__notes__[0] == "of the class"
        assert len(error.__notes__) == 2
        assert WithNotes.__notes__ == ["of the class"]

    @pytest.mark.parametrize("kind", [PermanentFault, Frozen, RaisesOnAnyName, NotesCannotBeCompared])
    def test_one_object_raised_a_thousand_times_does_not_grow(self, kind: Any) -> None:
        error = kind()
        first, second = Policy("first"), Policy("second", retry=RetryConfig(base_delay=0))
        for _ in range(500):
            raised(lambda: first.execute(Script(error).play))
            raised(lambda: second.execute(Script(error).play))
        assert len(error.__notes__) <= 2

    def test_a_context_takes_the_place_of_an_earlier_one(self) -> None:
        error = HasNoText()
        for attempts in range(3):
            attach_context(error, ErrorContext(ID, attempts=attempts, note=f"{attempts} attempts"))
        context = error_context(error)
        assert context is not None
        assert context.attempts == 2
        assert error.__notes__ == ["2 attempts"]


class OutageError(ResilienceError):
    """Of a service, whose errors derive from the base of those of this library."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"no answer of {self.url}"


def test_the_text_of_an_error_derived_from_ours_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    def fetch() -> None:
        raise OutageError("https://shop:hunter2@supplier.example/?token=abcdef")

    with RecordedTelemetry().recording() as recorded, pytest.raises(OutageError):
        Policy("supplier").execute(fetch)
    written = [str(span.to_json()) for span in recorded.spans] + [str(event.to_json()) for event in recorded.events]
    assert any("supplier.example" in each for each in written)
    assert not any("hunter2" in each or "abcdef" in each for each in [*written, caplog.text])
