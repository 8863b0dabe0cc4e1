"""The real catalogue file of November 2025, if it is next to the repository."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from catalog_sync.domain.models import Outcome
from support.redis_server import RedisServer
from support.sync_world import world_with

FILE = Path(__file__).parents[4] / "shared" / "data" / "esim_go_catalogue_2025_11.json"


@pytest.mark.skipif(not FILE.is_file(), reason="the catalogue file is not beside the repository")
async def test_the_real_catalogue_syncs_complete_and_every_bundle_is_readable(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    sent = {row["name"]: row for row in json.loads(FILE.read_text(), parse_float=Decimal, parse_int=Decimal)}
    redis_server.command("FLUSHALL")
    async with world_with(redis_server.url, tmp_path, data=FILE) as world:
        report = await world.sync()
        published = await world.bundles()
        found = await world.store.get_bundles((await world.meta()).version, list(sent))

    assert report.outcome is Outcome.COMPLETE
    assert report.bundles == len(sent) == len(published)
    assert report.quarantined == 0
    for bundle, row in zip(found, sent.values(), strict=True):
        assert bundle is not None
        assert bundle.price == str(row["price"])
        assert bundle.duration_days == row["duration"]
        assert bundle.groups == tuple(row["groups"])
        assert sorted(bundle.countries) == sorted({country["iso"] for country in row["countries"]})
