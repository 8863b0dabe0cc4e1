"""Four real processes against a server that counts: they act as one client."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import fleet_worker
from support.cli import wait_until
from support.counting_server import CountingServer, counting_server
from support.fleet_worker import RESET_TIMEOUT, THRESHOLD
from support.redis_server import RedisServer
from support.timing import TRIES

WORKERS = 4


@contextmanager
def fleet(redis_url: str, server: CountingServer) -> Iterator[list[dict[str, int]]]:
    """Workers that call until the block ends; then what each of them met."""
    command = [sys.executable, str(Path(fleet_worker.__file__)), redis_url, server.url]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)
    ]
    outcomes: list[dict[str, int]] = []
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        yield outcomes
        outcomes.extend(json.loads(worker.communicate("stop\n", timeout=60)[0]) for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


@pytest.mark.slow
def test_in_an_outage_they_send_no_more_than_one_client_would(tmp_path: Path) -> None:
    """One that a busy machine does not let look at Redis in time has a circuit of its own meanwhile."""
    for number in range(TRIES):
        if act_as_one_client(tmp_path / str(number)):
            return
    pytest.fail("they act as several clients each time")


def act_as_one_client(folder: Path) -> bool:
    """Whether they do in an outage and at its end; in any case none sends more than one client may."""
    with RedisServer(folder) as redis, counting_server() as server:
        server.takes = 0.05
        with fleet(redis.url, server) as outcomes:
            time.sleep(0.5)
            server.status = 503
            began = time.monotonic()
            wait_until(lambda: server.answered(503) >= THRESHOLD + WORKERS + 3)
            server.status = 200
            recovered_from = time.monotonic()
            healthy_before = server.answered(200)
            wait_until(lambda: server.answered(200) >= healthy_before + 50 * WORKERS)
        failed = [seen for seen in server.seen if seen.status == 503]
        burst = [seen for seen in failed if seen.at < failed[0].at + RESET_TIMEOUT / 2]
        assert THRESHOLD <= len(burst) <= WORKERS * THRESHOLD
        assert all(outcome["ok"] > 5 and outcome["rejected"] > 5 for outcome in outcomes)
        assert sum(outcome.get("503", 0) for outcome in outcomes) == len(failed)
        probes = failed[len(burst) :]
        gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(probes)]
        healthy = [seen.at for seen in server.seen if seen.status == 200 and seen.at > recovered_from]
        return (
            # The failures that open it, and what the others had under way or began before their next look.
            len(burst) <= THRESHOLD + WORKERS
            and {probe.under_way for probe in probes} == {1}
            and min(gaps, default=0.0) >= RESET_TIMEOUT / 2
            and 3 <= len(probes) <= (recovered_from - began) / (RESET_TIMEOUT / 2)
            and healthy[0] - recovered_from <= 2 * RESET_TIMEOUT
        )
