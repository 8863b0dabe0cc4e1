"""The rule of the concurrency limit, compared with a list of arrivals."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_resilience.limits.places import Places


class PlacesModel(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.places: Places[int] = Places(limit)
        self.limit = limit
        self.inside: list[int] = []
        self.queue: list[int] = []
        self.arrived = 0

    @rule()
    def arrive(self) -> None:
        self.arrived += 1
        taken = self.places.take()
        assert taken == (len(self.inside) < self.limit)
        if taken:
            self.inside.append(self.arrived)
        else:
            self.places.join(self.arrived)
            self.queue.append(self.arrived)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.inside.remove(data.draw(st.sampled_from(self.inside)))
        first = self.queue.pop(0) if self.queue else None
        assert self.places.give() == first
        if first is not None:
            self.inside.append(first)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.queue))
        self.queue.remove(waiter)
        assert self.places.leave(waiter)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def stop_waiting_too_late(self, data: st.DataObject) -> None:
        assert not self.places.leave(data.draw(st.sampled_from(self.inside)))

    @invariant()
    def no_place_is_lost_and_none_is_given_twice(self) -> None:
        assert self.places.in_use == len(self.inside) <= self.limit
        assert not (self.queue and len(self.inside) < self.limit)


TestPlaces = PlacesModel.TestCase
