"""One policy per key, such as a host, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import renew_after_fork
from otel_resilience._internal.in_use import InUse
from otel_resilience._internal.operations import is_coroutine_function
from otel_resilience._internal.predicates import takes_one
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience.policy.policy import Policy


class PolicyRegistry(ProcessBound):
    """Policies by key: each is created on first use, and kept while among the last ``max_size`` used (at least 1).

    ``make`` is called once per key, however many threads ask, and without a lock: it may take time, and may use this
    registry for other keys. If it raises, the error is raised here, nothing is kept, and it is called again next time.

    The least recently used policy is evicted, with its breaker and its series in ``resilience.circuit_breaker.status``.
    Calls still running under it end normally; the next call for its key gets a new policy, with a closed circuit. Retry
    budgets belong to the policy's ``dependency``, and outlive it if another policy shares that name.

    Thread-safe. Raises ``TypeError`` or ``ValueError`` naming the parameter; ``RuntimeError`` if ``make`` recurses.

    Examples:
        >>> policies = PolicyRegistry(lambda host: Policy(host, retry=RetryConfig(), breaker=CircuitBreakerConfig()))
        >>> policies["api.example.com"].execute(lambda: "plans")
        'plans'
        >>> policies
        <PolicyRegistry with 1 of 1000 policies>
    """

    def __init__(self, make: Callable[[str], Policy], max_size: int = 1000) -> None:
        if not callable(make) or is_coroutine_function(make) or isinstance(make, Policy):
            raise TypeError(f"make must be a def function from a key to its policy, not {make!r}")
        takes_one("make", make, "key")
        self._make = make
        self.max_size = check.count("max_size", max_size)
        """Maximum number of policies kept."""
        self._policies: OrderedDict[str, Policy] = OrderedDict()
        """The least recently used one first."""
        self.renew_after_fork()
        renew_after_fork(self)
        registries_in_use.add(self)

    def renew_after_fork(self) -> None:
        """Policies that other threads were creating are not created in the child."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._makers: dict[str, int] = {}
        """The keys whose policies are being created, and the threads that do it."""
        self._waiting: dict[int, str] = {}
        """Threads that wait for another one to create the policy of a key."""

    def __getitem__(self, key: str) -> Policy:
        """The policy of ``key``, created if there is none; it counts as used."""
        with self._lock:
            policy = self._policies.get(key)
            if policy is not None:
                self._policies.move_to_end(key)
                return policy
        check.label("key", key)
        return self._made_elsewhere(key) or self._make_here(key)

    def get(self, key: str) -> Policy | None:
        """The policy of ``key`` if there is one. Creates none, and does not count as a use."""
        return self._policies.get(key)

    def clear(self) -> None:
        """Evicts all policies."""
        with self._lock:
            gone, self._policies = self._policies, OrderedDict()
        gone.clear()  # outside the lock, since a policy's objects may run code of their own when they are freed

    def __repr__(self) -> str:
        return f"<PolicyRegistry with {len(self)} of {self.max_size} policies>"

    def __contains__(self, key: object) -> bool:
        return key in self._policies

    def __len__(self) -> int:
        return len(self._policies)

    def __iter__(self) -> Iterator[str]:
        """The current keys, the least recently used first."""
        with self._lock:
            return iter(tuple(self._policies))

    def _made_elsewhere(self, key: str) -> Policy | None:
        """The policy that another thread has created meanwhile; ``None`` if this thread has to create it."""
        me = threading.get_ident()
        with self._changed:
            while key not in self._policies:
                if key not in self._makers:
                    self._makers[key] = me
                    return None
                self._refuse_circle(key, me)
                self._waiting[me] = key
                try:
                    self._changed.wait()
                finally:
                    self._waiting.pop(me, None)
            self._policies.move_to_end(key)
            return self._policies[key]

    def _refuse_circle(self, key: str, me: int) -> None:
        maker: int | None = self._makers[key]
        while maker is not None and maker != me:
            maker = self._makers.get(self._waiting.get(maker, ""))
        if maker == me:
            raise RuntimeError(f"the policy of {key!r} cannot be made: making it waits for a policy that waits for it")

    def _make_here(self, key: str) -> Policy:
        gone: list[Policy] = []
        try:
            policy = self._make(key)
            check.instance("what make returns", policy, Policy)
            with self._lock:
                self._policies[key] = policy
                while len(self._policies) > self.max_size:
                    gone.append(self._policies.popitem(last=False)[1])
        finally:
            with self._changed:
                self._makers.pop(key, None)
                self._changed.notify_all()
        return policy


registries_in_use: Final[InUse[PolicyRegistry]] = InUse()
