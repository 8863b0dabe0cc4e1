"""What the clients have in common: which policy a request has, what its answer means, and what its caller gets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.nesting import remaining
from otel_resilience.classification.model import Classification
from otel_resilience.classification.request_shown import has_key, is_idempotent
from otel_resilience.classification.rules.http_status import classify_status
from otel_resilience.errors import ResilienceError
from otel_resilience.policy.policy import Policy

RESEND_COUNT: Final = "http.request.resend_count"
"""Semantic conventions, HTTP client spans."""
SMALL: Final = 65_536
"""Bytes. An answer that says to be no longer is read before the wait, so that it does not hold its connection."""
_SHORTEST: Final = 0.001
"""Seconds. No client takes a timeout of 0 for what it is."""

Q = TypeVar("Q")
R = TypeVar("R")


class PolicyByHost(Protocol):
    """Policies by the host that is called: a dictionary, or a registry that makes them."""

    def __getitem__(self, host: str, /) -> Policy:
        """The policy for requests to ``host``, a name in lower case or an address, without the port."""
        ...


class StatusError(Exception):
    """An answer with a status from 400, as a policy sees it: in predicates, hooks, fallbacks and classification rules.

    A client never raises it to its caller, who gets the answer.
    """

    def __init__(self, response: Any, classification: Classification) -> None:
        super().__init__(f"HTTP status {classification.error_type}")
        self.response = response
        """The client's own."""
        self.classification = classification
        """The verdict by status and headers, unless a rule of the policy's classifier has another."""


class Protection(Generic[Q]):
    """The policies for the requests of one client, and the names of their operations."""

    def __init__(self, policy: Policy | PolicyByHost, name: Callable[[Q], str] | None) -> None:
        if isinstance(policy, (type, str)) or not (isinstance(policy, Policy) or hasattr(policy, "__getitem__")):
            raise TypeError(f"policy must be a Policy, or policies by host, not {policy!r}")
        if name is not None:
            check.function("name", name)
        self._policy = policy
        self._name = name

    def policy(self, host: str | None) -> Policy:
        """The policy for a host. Raises ``KeyError`` where there are policies by host, and none for this one."""
        return self._policy if isinstance(self._policy, Policy) else self._policy[(host or "").lower()]

    def name(self, request: Q, default: str) -> str:
        """The operation's name on telemetry."""
        return default if self._name is None else self._name(request)


class Exchange(Generic[R]):
    """One protected request: how often it was sent, and the answer in hand."""

    def __init__(self) -> None:
        self.attempts = 0
        self._answer: StatusError | None = None

    def next_attempt(self) -> R | None:
        """Counts an attempt; returns the answer to the former one, which is to be closed."""
        self.attempts += 1
        discarded: R | None = self.take()
        return discarded

    def judge(self, response: R, status: int, headers: Any) -> StatusError | None:
        """The error that ``response`` is; ``None`` where it is none. A redirect is for the client to follow."""
        verdict = None if status < 400 else classify_status(status, headers)
        self._answer = None if verdict is None else StatusError(response, verdict)
        return self._answer

    def ends_with_answer(self, error: BaseException) -> bool:
        """Whether the caller gets the last answer in place of ``error``: that is the answer, or our refusal to send the
        request once more."""
        return self._answer is not None and (error is self._answer or isinstance(error, ResilienceError))

    def take(self) -> Any:
        """The answer in hand, for the last time; ``None`` where there is none."""
        answer, self._answer = self._answer, None
        return None if answer is None else answer.response


def worth_reading(error: StatusError, headers: Any) -> bool:
    """Whether to read an answer at once: it may be discarded, and it is small."""
    length = headers.get("Content-Length")
    return error.classification.retryable and length is not None and length.isdecimal() and int(length) <= SMALL


def declared(policy: Policy, method: str, headers: Any, *, one_shot: bool) -> bool | None:
    """The ``idempotent`` of a call: by the body, what the policy declares, or the request itself."""
    if one_shot:
        return False
    return None if policy.idempotent is not None else is_idempotent(method) or has_key(headers)


def timed_by_client(policy: Policy) -> Policy:
    """The same policy, for a client that is handed the attempt timeout: nothing else is needed to cut an attempt."""
    if policy.attempt_timeout is None:
        return policy
    policy = copy.copy(policy)
    policy.attempt_timeout = None
    return policy


def time_left(attempt_timeout: float | None) -> float | None:
    """Seconds that the attempt which is running may take; ``None`` where nothing limits it."""
    left = remaining()
    if left is None:
        return attempt_timeout
    return max(left if attempt_timeout is None else min(left, attempt_timeout), _SHORTEST)
