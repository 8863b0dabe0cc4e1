"""One worker of a fleet, as a process of its own: calls a server through a policy whose state is shared in Redis.

``python fleet_worker.py REDIS_URL SERVER_URL``: prints ``ready``, then calls until its standard input ends, and prints
what became of the calls as one JSON object.
"""

from __future__ import annotations

import collections
import json
import select
import sys
import time
import urllib.error
import urllib.request

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, classify
from otel_resilience.storage import RedisStorage, SharedState

THRESHOLD = 5
RESET_TIMEOUT = 2.0
PAUSE = 0.02
"""Seconds between two calls."""


def main(redis_url: str, server_url: str) -> None:
    shared = SharedState(RedisStorage(redis_url), wait=10.0)
    policy = Policy(
        "counting-server",
        breaker=CircuitBreakerConfig(
            consecutive_failures=THRESHOLD,
            failure_rate=None,
            reset_timeout=RESET_TIMEOUT,
            max_reset_timeout=RESET_TIMEOUT,
        ),
        shared=shared,
    )
    assert shared.ready(60)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print("ready", flush=True)
    outcomes: collections.Counter[str] = collections.Counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            policy.execute(lambda: opener.open(server_url, timeout=60).close())
        except CircuitOpenError:
            outcomes["rejected"] += 1
        except urllib.error.HTTPError as error:
            outcomes[classify(error).error_type] += 1
            error.close()
        else:
            outcomes["ok"] += 1
        time.sleep(PAUSE)
    shared.close()
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
