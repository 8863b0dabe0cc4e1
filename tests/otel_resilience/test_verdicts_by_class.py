"""Verdicts cached by class, and what prevents an exception from being judged by its class alone."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import httpx
import pytest
import redis

from otel_resilience import Classification, Classifier, Severity, classify, default_classifier
from otel_resilience._internal.foreign import has_none_of
from otel_resilience.classification import by_class, model
from otel_resilience.classification.by_class import decided_by_class
from otel_resilience.classification.model import ErrorClass


class WarehouseError(Exception):
    pass


class ResponseLike:
    status_code = 503
    headers: ClassVar[dict[str, str]] = {}


class RequestLike:
    method = "POST"
    headers: ClassVar[dict[str, str]] = {}


@pytest.mark.parametrize("error", [WarehouseError("busy"), ValueError(), KeyError("plan"), LookupError()])
def test_what_no_rule_looks_into_is_judged_by_its_class(error: Exception) -> None:
    classifier = Classifier(default_classifier().rules)

    first = classifier.classify(error)

    assert classifier._by_class[type(error)].verdict is first
    assert classifier.classify(type(error)("other text")) is first


@pytest.mark.parametrize(
    ("name", "value", "error_type"),
    [
        ("response", ResponseLike(), "503"),
        ("status_code", 429, "429"),
        ("http_status", 404, "404"),
        ("classification", Classification(ErrorClass.TRANSIENT, Severity.LOW, "unavailable"), "unavailable"),
    ],
)
def test_an_attribute_of_one_instance_comes_before_the_verdict_on_its_class(
    name: str, value: object, error_type: str
) -> None:
    plain, special = WarehouseError(), WarehouseError()
    setattr(special, name, value)

    assert classify(plain).unclassified
    assert classify(special).error_type == error_type
    assert classify(plain).unclassified


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("reset"), httpx.ReadTimeout("slow"), LookupError(), ConnectionAbortedError("gone")],
    ids=lambda error: type(error).__name__,
)
def test_the_verdict_that_an_error_of_any_library_carries_comes_first(error: Exception) -> None:
    classifier = Classifier(default_classifier().rules)
    known = classifier.classify(error)
    own = Classification(ErrorClass.CONTROL, Severity.LOW, "unavailable")
    error.classification = own  # type: ignore[attr-defined]

    assert classifier.classify(error) is own
    del error.classification  # type: ignore[attr-defined]
    assert classifier.classify(error) == known


def test_a_cause_comes_before_the_verdict_on_the_class() -> None:
    wrapped = WarehouseError()
    assert classify(wrapped).unclassified

    wrapped.__cause__ = ConnectionRefusedError()

    assert classify(wrapped).error_class is ErrorClass.TRANSIENT


def test_a_request_that_one_instance_shows_decides_whether_it_may_be_repeated() -> None:
    assert classify(WarehouseError()).idempotent is None
    shown = WarehouseError()
    shown.request = RequestLike()  # type: ignore[attr-defined]

    assert classify(shown).idempotent is False


def test_a_rule_that_does_not_say_so_is_asked_for_each_exception() -> None:
    asked: list[BaseException] = []

    def rule(error: BaseException) -> Classification | None:
        asked.append(error)
        return Classification(ErrorClass.TRANSIENT, Severity.LOW, "503") if error.args else None

    classifier = Classifier([rule])
    busy, empty = WarehouseError("busy"), WarehouseError()

    assert [classifier.classify(each).unclassified for each in (empty, busy, empty, busy)] == [True, False, True, False]
    assert asked == [empty, busy, empty, busy]


def test_a_rule_that_is_added_is_asked_although_the_class_was_known() -> None:
    base = Classifier(default_classifier().rules)
    base.classify(WarehouseError())
    verdict = Classification(ErrorClass.THROTTLED, Severity.LOW, "429")

    assert base.extended(lambda error: verdict).classify(WarehouseError()) is verdict


@pytest.mark.parametrize("number", [111, 113, 28])
def test_an_error_of_the_system_is_judged_by_its_number_each_time(number: int) -> None:
    class OwnSystemError(OSError):
        pass

    classifier = Classifier(default_classifier().rules)
    classifier.classify(OwnSystemError(13, "denied"))

    assert classifier.classify(OwnSystemError(number, "")) == classify(OSError(number, ""))


@dataclasses.dataclass
class CodeRule:
    """A rule with settings, which as a dataclass that is not frozen has no hash."""

    codes: set[str]

    def __call__(self, error: BaseException) -> Classification | None:
        known = isinstance(error, ValueError) and str(error) in self.codes
        return Classification(ErrorClass.TRANSIENT, Severity.LOW, "unavailable") if known else None


class ComparedRule(CodeRule):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")


@pytest.mark.parametrize("kind", [CodeRule, ComparedRule])
def test_a_rule_may_be_an_object_without_a_hash_or_one_that_cannot_be_compared(kind: type[CodeRule]) -> None:
    for classifier in (Classifier([kind({"7"})]), default_classifier().extended(kind({"7"}))):
        assert classifier.classify(ValueError("7")).error_type == "unavailable"
        assert classifier.classify(TimeoutError()).unclassified is (len(classifier.rules) == 1)


def test_what_a_class_gets_after_its_first_failure_is_not_seen_and_what_an_exception_gets_is() -> None:
    class LateError(Exception):
        classification: Classification

    own = Classification(ErrorClass.TRANSIENT, Severity.LOW, "unavailable")
    before = classify(LateError())
    LateError.classification = own
    assert classify(LateError()) == before
    error = LateError()
    error.classification = own
    assert classify(error) == own
    assert Classifier(default_classifier().rules).classify(LateError()) == own


@pytest.mark.usefixtures("nothing_logged_yet")
def test_as_many_classes_are_kept_as_are_bounded() -> None:
    classifier = Classifier(default_classifier().rules)
    most = 0
    for number in range(1200):
        classifier.classify(type(f"Made{number}", (Exception,), {})())
        most = max(most, len(classifier._by_class))

    assert most == 512


class TestAMarkedRule:
    """One that says by ``decided_by_class`` when it need not be asked."""

    @pytest.fixture(autouse=True)
    def marks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(by_class, "_known", dict(by_class._known))

    def test_that_answers_alike_on_a_class_is_asked_once_for_it(self) -> None:
        asked: list[BaseException] = []

        def rule(error: BaseException) -> None:
            asked.append(error)

        classifier = Classifier([decided_by_class(lambda kind: True)(rule)])
        first, other, noted = WarehouseError(), WarehouseError("busy"), WarehouseError()
        noted.plan = "esim_1"  # type: ignore[attr-defined]

        assert len({classifier.classify(each) for each in (first, other, noted)}) == 1
        assert asked == [first]

    def test_is_asked_once_which_classes_those_are(self) -> None:
        looked_at: list[type] = []

        def decides(kind: type[BaseException]) -> bool:
            looked_at.append(kind)
            return False

        classifier = Classifier([decided_by_class(decides)(lambda error: None)])
        wrapper = ValueError()
        wrapper.__cause__ = WarehouseError()
        for error in (WarehouseError(), WarehouseError(), ExceptionGroup("two", [WarehouseError(), wrapper]), wrapper):
            classifier.classify(error)

        assert looked_at.count(WarehouseError) == looked_at.count(ValueError) == 1

    def test_that_reads_attributes_is_asked_where_one_is_there(self) -> None:
        asked: list[BaseException] = []

        def rule(error: BaseException) -> None:
            asked.append(error)

        classifier = Classifier([decided_by_class(lambda kind: False, reads=frozenset({"status"}))(rule)])
        bare, noted, carrier, wrapper = WarehouseError(), WarehouseError(), WarehouseError(), WarehouseError()
        noted.plan = carrier.status = "busy"  # type: ignore[attr-defined]
        wrapper.__cause__ = carrier
        for error in (bare, noted, wrapper):
            classifier.classify(error)

        assert asked == [carrier]


def test_a_rule_knows_exceptions_whose_dictionary_cannot_be_read() -> None:
    class UnreadableError(Exception):
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise RuntimeError("not to be read")

    verdict = Classification(ErrorClass.TRANSIENT, Severity.LOW, "503")
    classifier = Classifier([lambda error: verdict if isinstance(error, UnreadableError) else None])

    assert classifier.classify(UnreadableError()) is verdict


class PropertyError(Exception):
    @property
    def request(self) -> object:
        return RequestLike()


class DynamicError(Exception):
    def __getattr__(self, name: str) -> Any:
        return RequestLike() if name == "request" else None


class EverythingError(Exception):
    def __getattribute__(self, name: str) -> Any:
        return RequestLike() if name == "request" else super().__getattribute__(name)


class SlottedError(Exception):
    __slots__ = ("request",)


class OnTheClassError(Exception):
    request = RequestLike()


class Mixin:
    pass


class MixedError(Exception, Mixin):
    pass


class MixedBeforeError(Mixin, Exception):
    pass


class OwnDictionaryError(Exception):
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


class HiddenTracebackError(Exception):
    __traceback__ = None


class DynamicMixin:
    def __getattr__(self, name: str) -> Any:
        return RequestLike() if name == "request" else None


class DynamicAfterError(Exception, DynamicMixin):
    pass


class TestHasNoneOf:
    nothing = staticmethod(has_none_of(("request", "response")))

    @pytest.mark.parametrize(
        "kind", [WarehouseError, MixedError, MixedBeforeError, ConnectionResetError, OSError, UnicodeDecodeError]
    )
    def test_plain_classes_have_none(self, kind: type[Exception]) -> None:
        error = kind("utf-8", b"", 0, 1, "") if kind is UnicodeDecodeError else kind("x")
        assert self.nothing(error)

    @pytest.mark.parametrize(
        "kind",
        [
            PropertyError,
            DynamicError,
            EverythingError,
            SlottedError,
            OnTheClassError,
            OwnDictionaryError,
            HiddenTracebackError,
            DynamicAfterError,
        ],
    )
    def test_a_class_that_may_have_one_has(self, kind: type[Exception]) -> None:
        assert not self.nothing(kind())
        assert not self.nothing(type("Derived", (kind,), {})())

    def test_an_instance_that_has_one(self) -> None:
        error = WarehouseError()
        assert self.nothing(error)
        error.response = None  # type: ignore[attr-defined]
        assert not self.nothing(error)
        error.other = 1  # type: ignore[attr-defined]
        del error.response  # type: ignore[attr-defined]
        assert self.nothing(error)


class TestReplace:
    verdict = Classification(ErrorClass.TRANSIENT, Severity.LOW, "503")

    @pytest.mark.parametrize("value", [True, False])
    def test_the_same_change_of_a_flag_is_made_once(self, value: bool) -> None:
        new = self.verdict.replace(error_type="new")  # of which nobody has asked for a change yet
        assert new.replace(idempotent=value) is new.replace(idempotent=value)

    def test_a_changed_flag_is_all_that_differs(self) -> None:
        assert self.verdict.replace(unsent=True) == Classification(
            ErrorClass.TRANSIENT, Severity.LOW, "503", unsent=True
        )
        assert self.verdict.replace(idempotent=True).idempotent is True
        assert self.verdict.replace(idempotent=False).idempotent is False

    def test_equal_verdicts_are_not_confused(self) -> None:
        other = Classification(ErrorClass.TRANSIENT, Severity.HIGH, "503")
        self.verdict.replace(unsent=True)
        assert other.replace(unsent=True).severity is other.severity

    def test_what_is_not_a_flag_is_checked_each_time(self) -> None:
        self.verdict.replace(unsent=True)
        with pytest.raises(TypeError, match="unsent"):
            self.verdict.replace(unsent=1)
        with pytest.raises(TypeError):
            self.verdict.replace(unknown=True)


class TestWhatIsKeptOfChangedVerdicts:
    verdict = Classification(ErrorClass.TRANSIENT, Severity.LOW, "503")

    @pytest.fixture(autouse=True)
    def kept(self, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
        """A cache with room for two."""
        monkeypatch.setattr(model, "_changed", {})
        monkeypatch.setattr(model, "_MAX_CHANGED", 2)
        return model._changed

    def test_those_with_a_wait_of_their_own_are_not(self, kept: dict[Any, Any]) -> None:
        for seconds in range(3):
            assert self.verdict.replace(retry_after=seconds).replace(unsent=True).unsent
        assert not kept

    def test_it_is_bounded(self, kept: dict[Any, Any]) -> None:
        sizes = []
        for number in range(5):
            self.verdict.replace(error_type=str(number)).replace(unsent=True)
            sizes.append(len(kept))
        assert sizes == [1, 2, 1, 2, 1]
