"""Common code of the clients: which policy applies to a request, what its response means, and what its caller gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import header_of
from otel_resilience._internal.nesting import remaining
from otel_resilience._internal.operations import discard, is_awaitable
from otel_resilience._internal.pickled import reduced
from otel_resilience._internal.predicates import takes_one
from otel_resilience.classification.model import Classification
from otel_resilience.classification.request_shown import has_key, is_idempotent
from otel_resilience.classification.rules.http_status import classify_status
from otel_resilience.errors import ResilienceError
from otel_resilience.integrations._body import Body
from otel_resilience.policy.policy import Policy

SMALL: Final = 65_536
"""Bytes. A response that claims to be no longer is read before a wait, so that it does not hold its connection."""
RESEND_COUNT: Final = "http.request.resend_count"
"""Semantic conventions, HTTP client spans: not on the first attempt."""
_CHALLENGES: Final = frozenset({"digest", "negotiate", "ntlm"})
_SHORTEST: Final = 0.001
"""Seconds. Clients misinterpret a timeout of 0."""

Q = TypeVar("Q")
R = TypeVar("R")


class PolicyByHost(Protocol):
    """Policies by the host that is called: a dictionary, or a registry that creates them.

    Examples:
        >>> from otel_resilience.integrations import PolicyByHost
        >>> by_host: PolicyByHost = {"api.example.com": Policy("supplier"), "hooks.example.com": Policy("hooks")}
        >>> made_when_needed: PolicyByHost = PolicyRegistry(lambda host: Policy(host, retry=RetryConfig()))
        >>> made_when_needed["api.example.com"].dependency
        'api.example.com'
    """

    def __getitem__(self, host: str, /) -> Policy:
        """The policy for requests to ``host``, a lower-case name or an address, without the port."""
        ...


class StatusError(Exception):
    """A response with a status of 400 or above, as predicates, hooks, fallbacks and classification rules see it.

    A client never raises it to its caller, who gets the response.

    Examples:
        >>> import httpx
        >>> from otel_resilience.integrations import StatusError
        >>> from otel_resilience.integrations.httpx import ResilientTransport
        >>> def teapot(error):
        ...     return isinstance(error, StatusError) and error.response.status_code == 418
        >>> answers = iter([418, 200])
        >>> wire = httpx.MockTransport(lambda request: httpx.Response(next(answers)))
        >>> boiling = Classification(ErrorClass.TRANSIENT, Severity.LOW, "418")
        >>> policy = Policy("kitchen", retry=RetryConfig(), classifier=default_classifier().extended(
        ...     lambda error: boiling if teapot(error) else None
        ... ))
        >>> with httpx.Client(transport=ResilientTransport(policy, wire)) as client:
        ...     client.get("https://kitchen.example/tea").status_code
        200
    """

    def __init__(self, response: Any, classification: Classification) -> None:
        super().__init__(f"HTTP status {classification.error_type}")
        self.response = response
        """The client's own response."""
        self.classification = classification
        """The verdict by status and headers, unless a rule of the policy's classifier has another."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)


class Protection(Generic[Q]):
    """The policies for the requests of one client, and the names of their operations."""

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        name: Callable[[Q], str] | None,
        max_body_bytes: int | None,
        judge: Callable[[Any], object] | None,
        *,
        asynchronous: bool,
    ) -> None:
        if isinstance(policy, (type, str)) or not (isinstance(policy, Policy) or hasattr(policy, "__getitem__")):
            raise TypeError(f"policy must be a Policy, or policies by host, not {policy!r}")
        if name is not None:
            check.def_function("name", name)
            takes_one("name", name, "request")
        if max_body_bytes is not None:
            check.count("max_body_bytes", max_body_bytes)
        if judge is not None:
            (check.function if asynchronous else check.def_function)("judge", judge)
            takes_one("judge", judge, "answer")
            if max_body_bytes is None:
                raise TypeError("judge needs max_body_bytes: it is given the answer with its body")
        self._policy = policy
        self.by_host = not isinstance(policy, Policy)
        self._name = name
        self.max_body_bytes = max_body_bytes
        self.judge = judge

    def policy(self, host: str | None) -> Policy:
        """The policy for a host. Raises ``KeyError`` if there are policies by host, and none for this one."""
        return self._policy if isinstance(self._policy, Policy) else self._policy[(host or "").lower().strip("[]")]

    def options(
        self, policy: Policy, request: Q, method: str, headers: Any, *, one_shot: bool, name: str | None = None
    ) -> dict[str, Any]:
        """How the call is made: the operation's name on telemetry, and whether it is ``idempotent``: by the body, by
        the policy's declaration, or by the request itself."""
        idempotent: bool | None = None
        if one_shot:
            idempotent = False
        elif policy.idempotent is None:
            idempotent = is_idempotent(method) or has_key(headers)
        return {"name": name or method if self._name is None else self._name(request), "idempotent": idempotent}

    def body(self, response: Any, method: str | None, status: int, headers: Any, *, decoded: bool = False) -> Body:
        """Reads the body of a response, up to ``max_body_bytes``. Raises ``BodyError`` if it is known to be unusable.

        ``decoded``: the client decodes the pieces.
        """
        empty = method == "HEAD" or status in {204, 304}  # whose headers may describe a body that they do not have
        cut = not 200 <= status < 300
        return Body(response, headers, self.max_body_bytes or 0, empty=empty, cut=cut, decoded=decoded)


class Exchange(Generic[R]):
    """One protected request: how often it was sent, and the responses still open."""

    def __init__(self, request_headers: Any) -> None:
        self.attempts = 0
        self._request_headers = request_headers
        self._answers: list[R] = []
        self._refused: StatusError | None = None
        """The last error response."""

    def judge(self, response: R, status: int, headers: Any) -> StatusError | None:
        """The error that ``response`` represents; ``None`` if it is not an error, or is for the client to handle: a
        redirect, an authentication challenge."""
        self._answers.append(response)
        verdict = None if status < 400 or self._is_challenge(status, headers) else classify_status(status, headers)
        return None if verdict is None else StatusError(response, verdict)

    def worth_reading(self, error: StatusError | None, headers: Any) -> bool:
        """Whether to read a response immediately: it may be discarded, and it is small."""
        length = headers.get("Content-Length") if error is not None and error.classification.retryable else None
        return length is not None and length.isdecimal() and int(length) <= SMALL

    def refuse(self, error: StatusError) -> StatusError:
        """The error for the attempt to raise. Its response is as the caller may get it: read if needed."""
        self._refused = error
        return error

    def _answer(self, error: BaseException) -> R | None:
        """What the caller gets instead of ``error``: its response, or the last one if it is our refusal to send the
        request again. ``None``: the error itself."""
        if isinstance(error, ResilienceError):
            error = self._refused or error
        if not isinstance(error, StatusError):
            return None
        return next((each for each in self._answers if each is error.response), None)

    def _rest(self, but: R | None = None) -> list[R]:
        """The responses that no caller gets, to be closed."""
        answers, self._answers = self._answers, []
        return [each for each in answers if each is not but] if answers != [but] else []

    def _is_challenge(self, status: int, headers: Any) -> bool:
        """Whether it is the first step of a two-step authentication."""
        scheme = (header_of(headers, "www-authenticate") or "").partition(" ")[0].lower()
        return status == 401 and scheme in _CHALLENGES and header_of(self._request_headers, "authorization") is None


class SyncExchange(Exchange[R]):
    """The exchange of a synchronous client."""

    def __init__(self, request_headers: Any, close: Callable[[R], None]) -> None:
        super().__init__(request_headers)
        self._close = close

    def begin_attempt(self) -> None:
        """Counts an attempt, and closes the responses to earlier ones."""
        self.attempts += 1
        self._close_rest()

    def accepts(self, judge: Callable[[Any], object], response: Any) -> bool:
        """Asks ``judge`` about the current response: whether it is good whatever its status. An exception that it
        raises replaces the verdict by status."""
        if is_awaitable(opinion := judge(response)):
            discard(opinion)
            raise TypeError("judge must be a def function here")
        return opinion is True

    def run(self, call: Callable[[], R]) -> R:
        """What the client's caller gets from the protected call."""
        answer: R | None = None
        try:
            answer = call()
        except BaseException as error:
            answer = self._answer(error)
            if answer is None:
                raise
        finally:
            self._close_rest(but=answer)
        return answer

    def _close_rest(self, but: R | None = None) -> None:
        for response in self._rest(but):
            self._close(response)


class AsyncExchange(Exchange[R]):
    """The exchange of an asynchronous client."""

    def __init__(self, request_headers: Any, close: Callable[[R], Awaitable[None]]) -> None:
        super().__init__(request_headers)
        self._close = close

    async def begin_attempt(self) -> None:
        """Like that of :class:`SyncExchange`."""
        self.attempts += 1
        await self._close_rest()

    async def accepts(self, judge: Callable[[Any], object], response: Any) -> bool:
        """Like that of :class:`SyncExchange`; ``judge`` may be an ``async def``."""
        opinion: Any = judge(response)
        return (await opinion if is_awaitable(opinion) else opinion) is True

    async def run(self, call: Callable[[], Awaitable[R]]) -> R:
        """Like that of :class:`SyncExchange`."""
        answer: R | None = None
        try:
            answer = await call()
        except BaseException as error:
            answer = self._answer(error)
            if answer is None:
                raise
        finally:
            await self._close_rest(but=answer)
        return answer

    async def _close_rest(self, but: R | None = None) -> None:
        for response in self._rest(but):
            await self._close(response)


def timed_by_client(policy: Policy) -> Policy:
    """The same policy, for a client that enforces the attempt timeout: nothing else is needed to cut off an attempt."""
    if policy.attempt_timeout is None:
        return policy
    timed = object.__new__(type(policy))  # its breaker, budget and counters are the same objects
    vars(timed).update(vars(policy), attempt_timeout=None)
    return timed


def time_left(attempt_timeout: float | None) -> float | None:
    """Seconds that the running attempt may take; ``None`` without a limit."""
    left = remaining()
    if left is None:
        return attempt_timeout
    return max(left if attempt_timeout is None else min(left, attempt_timeout), _SHORTEST)
