"""The fast check that suffices for most failures: certainly no request is shown."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from otel_resilience import AttemptTimeoutError, Policy, RetryConfig
from otel_resilience.classification.requests_seen import seen_in_frames, shows_nothing, shows_unsafe_request


class RequestLike:
    method = "POST"
    headers: ClassVar[dict[str, str]] = {}


class WarehouseError(Exception):
    pass


def raised(error: Exception, *, reason: BaseException | None = None, within: BaseException | None = None) -> Exception:
    try:
        if within is not None:
            try:
                raise within
            except BaseException:
                raise error  # noqa: B904  # while handling the other one
        raise error from reason
    except Exception as caught:
        return caught


def looked_at_twice(error: Exception) -> bool:
    """The answer once the modules of its frames are known."""
    seen_in_frames(error)
    for each in (error.__cause__, error.__context__):
        if isinstance(each, Exception):
            seen_in_frames(each)
    return shows_nothing(error)


def with_request(error: Exception) -> Exception:
    error.request = RequestLike()  # type: ignore[attr-defined]
    return error


class TestNothingIsShown:
    def test_by_an_error_of_ones_own(self) -> None:
        assert looked_at_twice(raised(WarehouseError("busy")))

    def test_by_one_with_other_attributes(self) -> None:
        error = WarehouseError()
        error.status_code = None  # type: ignore[attr-defined]
        assert looked_at_twice(raised(error))

    def test_by_what_it_was_raised_from_or_while_handling(self) -> None:
        assert looked_at_twice(raised(WarehouseError(), reason=ConnectionResetError()))
        assert looked_at_twice(raised(WarehouseError(), within=ConnectionResetError()))


class PropertyError(Exception):
    @property
    def request(self) -> object:
        return RequestLike()


class HiddenCauseError(Exception):
    @property
    def __cause__(self) -> None:  # type: ignore[override]
        return None


class OwnDictionaryError(Exception):
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


class Unhashable(type):
    def __hash__(cls) -> int:
        raise TypeError("no hash")


class UnhashableError(Exception, metaclass=Unhashable):
    pass


class TestALongerLookIsNeeded:
    @pytest.mark.parametrize(
        "error",
        [
            with_request(WarehouseError()),
            PropertyError(),
            HiddenCauseError(),
            OwnDictionaryError(),
            UnhashableError(),
            AttemptTimeoutError(1.0),
            ExceptionGroup("two", [WarehouseError(), WarehouseError()]),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_for_the_error_itself_and_behind_another(self, error: Exception) -> None:
        assert not looked_at_twice(raised(error))
        assert not looked_at_twice(raised(WarehouseError(), reason=error))
        assert not looked_at_twice(raised(WarehouseError(), within=error))

    def test_where_causes_lead_in_a_circle(self) -> None:
        one, other = WarehouseError(), WarehouseError()
        one.__cause__, other.__cause__ = other, one
        assert not looked_at_twice(one)

    def test_for_a_frame_of_a_client(self) -> None:
        send = in_module("http.client", "def send(method, fail):\n    fail()")
        error = caught(lambda: send("POST", fail))
        assert not looked_at_twice(error)
        assert shows_unsafe_request((error,))

    @pytest.mark.parametrize("name", [None, 7, ["a", "list"]])
    def test_for_a_frame_whose_module_has_no_name(self, name: object) -> None:
        call = in_module(name, "def call(fail):\n    fail()")
        error = caught(lambda: call(fail))
        assert not looked_at_twice(error)
        assert not shows_unsafe_request((error,))


def fail() -> None:
    raise WarehouseError


def caught(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError


def in_module(name: object, source: str) -> Callable[..., object]:
    variables: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(source, variables)  # a module of that name
    (function,) = (each for each in variables.values() if isinstance(each, types.FunctionType))
    return function


@pytest.mark.parametrize(("error", "calls"), [(ConnectionResetError(), 3), (with_request(ConnectionResetError()), 1)])
def test_an_unsafe_request_on_one_error_of_a_class_is_seen_after_many_without(error: Exception, calls: int) -> None:
    policy = Policy("supplier", retry=RetryConfig(base_delay=0), budget=False)
    made = 0

    def fetch() -> None:
        nonlocal made
        made += 1
        raise error

    for _ in range(20):
        with pytest.raises(ConnectionResetError):
            policy.execute(_reset)
    with pytest.raises(ConnectionResetError):
        policy.execute(fetch)
    assert made == calls


def _reset() -> None:
    raise ConnectionResetError
