"""A receiver that refused us is tried again."""

from __future__ import annotations

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, MemoryStore, Route
from otel_resilience.alerting.delivery.dispatch import DISABLED_KIND
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, Inbox, RevokedFault, World

CONFIG = AlertConfig(escalation=(), group_wait=0.0, repeat_interval=86_400.0)


def kinds(inbox: Inbox) -> list[str]:
    return [message.kind for message in inbox.messages]


def test_a_critical_one_is_always_tried() -> None:
    world = World(config=CONFIG)
    world.inbox.next_outcomes = [RevokedFault()]
    world.report("first")
    world.run(1)
    world.report("second", Severity.CRITICAL)
    world.run(1)
    assert "second" in kinds(world.inbox)
    assert world.service.revoked() == []


def test_it_is_probed_with_growing_pauses() -> None:
    clock = FakeClock(EPOCH)
    gone, fallback = Inbox(clock, "gone"), Inbox(clock, "fallback")
    gone.fails = RevokedFault()
    world = World([Route(gone), Route(fallback, fallback=True)], CONFIG, clock=clock)
    for number in range(240):
        world.report(f"trouble {number}")
        world.run(30)
    pauses = [round(after - before) for (before, _), (after, _) in zip(gone.tried, gone.tried[1:], strict=False)]
    assert pauses[0] == 60
    assert pauses == sorted(pauses)
    assert len(gone.tried) <= 9
    told = {message.kind for message in fallback.messages} - {DISABLED_KIND}
    assert len(told) == 240, "what it refused went elsewhere"


def test_it_comes_back_by_itself() -> None:
    clock = FakeClock(EPOCH)
    gone, fallback = Inbox(clock, "gone"), Inbox(clock, "fallback")
    gone.next_outcomes = [RevokedFault()]
    world = World([Route(gone), Route(fallback, fallback=True)], CONFIG, clock=clock)
    world.report("first")
    world.run(30)
    world.report("second")
    world.run(60)
    assert "second" in kinds(fallback)
    world.report("third")
    world.report("fourth")
    world.run(1)
    assert {"third", "fourth"} <= set(kinds(gone))
    assert world.service.revoked() == []
    ended = [m for m in fallback.messages + gone.messages if m.kind == DISABLED_KIND and m.reason == "resolved"]
    assert ended, "that it was disabled is over"


def test_processes_that_did_not_try_do_not_call_it_calm() -> None:
    """A worker was refused; the API has the same channel and nothing to send. Both look at the same incident."""
    clock, store = FakeClock(EPOCH), MemoryStore()
    gone, fallback = Inbox(clock, "gone"), Inbox(clock, "fallback")
    gone.fails = RevokedFault()
    routes = [Route(gone), Route(fallback, fallback=True)]
    worker, other = (World(routes, CONFIG, clock=clock, store=store) for _ in range(2))
    worker.report("trouble")
    seen = []
    for _ in range(200):
        for world in (worker, other):
            world.run(3)
        seen += [(each.phase.value, each.calm_since) for each in other.book if each.kind == DISABLED_KIND]
    assert set(seen) == {("open", None)}
    worker.service.close()
    gone.fails = None
    for _ in range(40):
        other.run(15)
    assert [each.phase.value for each in other.book if each.kind == DISABLED_KIND] == ["over"]
