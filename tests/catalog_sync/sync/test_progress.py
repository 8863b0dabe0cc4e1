"""The progress of a sync, summed up while it runs."""

from __future__ import annotations

import random

from catalog_sync.sync.progress import Progress, ProgressTracker


def test_sums_are_those_of_the_scopes_whatever_the_order() -> None:
    """Pages may come again, with fewer entries, and from scopes that were not announced."""
    rng, seen = random.Random(5), list[Progress]()
    tracker = ProgressTracker(seen.append)
    tracker.begin([f"group {number}" for number in range(20)])
    pages: dict[str, tuple[int, int, int]] = {}
    ended: set[str] = set()
    for _ in range(500):
        name = f"group {rng.randrange(22)}"
        if rng.random() < 0.1:
            tracker.group_done(name, failed=rng.random() < 0.5)
            ended.add(name)
        else:
            done, total, bundles = rng.randrange(9), rng.choice([None, 4, 9]), rng.randrange(900)
            tracker.page(name, done, total, bundles)
            pages[name] = done, max(done, total or 0), bundles
        now = seen[-1]
        assert (now.pages_done, now.pages_total, now.bundles) == tuple(map(sum, zip(*pages.values(), strict=True))) or (
            not pages
        )
        assert (now.groups_done, now.groups_total, now.current) == (len(ended), 20, name)
        assert [scope.name for scope in now.scopes] == [f"group {number}" for number in range(20)]
        for scope in now.scopes:
            assert (scope.status in {"ok", "failed"}) is (scope.name in ended)
            assert scope.bundles == pages.get(scope.name, (0, 0, 0))[2]
            assert (scope.status == "pending") is (scope.name not in pages and scope.name not in ended)
