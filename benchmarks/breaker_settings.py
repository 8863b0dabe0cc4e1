"""What settings of a circuit breaker do, tested on the real one with a fake clock: ``python -m
benchmarks.breaker_settings``.

Calls arrive at random (Poisson). *Detection*: ten minutes in which one call in 500 fails, then every call fails with
probability p; how long, and how many failed calls, until the circuit is open. *Recovery*: the circuit has just opened,
the dependency is back after a while; how many probes meet it while it is dead, and how long until calls pass again.
``--write`` puts the tables into docs/breaker-settings.md.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import random
import statistics
from collections.abc import Iterable
from typing import Final

from benchmarks.tables import table, write_results
from otel_resilience import CircuitBreaker, CircuitBreakerConfig
from otel_resilience.testing import FakeClock

PAGE: Final = pathlib.Path(__file__).parents[1] / "docs/breaker-settings.md"
RULES: Final = {
    "default: half of at least 10 in 60 s, or 5 in a row": CircuitBreakerConfig(),
    "5 in a row": CircuitBreakerConfig(failure_rate=None),
    "half of at least 20 in 10 s": CircuitBreakerConfig(
        minimum_calls=20, monitoring_period=10, consecutive_failures=None
    ),
    "a tenth of at least 100 in 30 s": CircuitBreakerConfig(
        failure_rate=0.1, minimum_calls=100, monitoring_period=30, consecutive_failures=None
    ),
    "3 failures in 10 s": CircuitBreakerConfig(failure_threshold=3, monitoring_period=10),
}
PAUSES: Final = {
    "default: 5 s, doubled up to 60 s": CircuitBreakerConfig(),
    "1 s, doubled up to 30 s": CircuitBreakerConfig(reset_timeout=1, max_reset_timeout=30),
    "5 s, always": CircuitBreakerConfig(reset_timeout=5, max_reset_timeout=5),
    "60 s, always": CircuitBreakerConfig(reset_timeout=60, max_reset_timeout=60),
}
RATES: Final = (0.1, 0.5, 2.0, 10.0, 50.0)
PROBABILITIES: Final = (1.0, 0.5, 0.15)
OUTAGES: Final = (30.0, 600.0, 7200.0)
NOISE: Final = 0.002
HEALTHY: Final = 600.0
WATCHED: Final = 1800.0
DETECTION_SEEDS: Final = range(15)
RECOVERY_SEEDS: Final = range(25)


class DownError(ConnectionError):
    """What a call of the dependency raises while it fails."""


def _fail() -> None:
    raise DownError


def _succeed() -> None: ...


def _call(breaker: CircuitBreaker, *, fails: bool) -> None:
    try:
        breaker.execute(_fail if fails else _succeed)
    except DownError:
        return


def detection(config: CircuitBreakerConfig, rate: float, probability: float, seed: int) -> tuple[float, int] | None:
    """Seconds and failed calls until it opens; negative seconds: before the outage; ``None``: not in half an hour."""
    chance, clock = random.Random(seed), FakeClock()
    breaker = CircuitBreaker("dependency", config, clock=clock, rng=chance.random)
    began, now, failed = clock(), chance.expovariate(rate), 0
    while now < HEALTHY + WATCHED:
        clock.advance(max(0.0, began + now - clock()))
        fails = chance.random() < (NOISE if now < HEALTHY else probability)
        failed += fails and now >= HEALTHY
        _call(breaker, fails=fails)
        if fails and breaker.state.name == "OPEN":
            return now - HEALTHY, failed
        now += chance.expovariate(rate)
    return None


def recovery(config: CircuitBreakerConfig, rate: float, outage: float, seed: int) -> tuple[int, float]:
    """Probes that met the dead dependency, and seconds from its return until the circuit is closed."""
    chance, clock = random.Random(seed), FakeClock()
    breaker = CircuitBreaker("dependency", config, clock=clock, rng=chance.random)
    began = clock()
    while breaker.state.name != "OPEN":
        _call(breaker, fails=True)
    probes = 0
    while True:
        # Calls before the end of the open time are rejected and change nothing.
        clock.advance((breaker.metrics().retry_after or 0.0) + chance.expovariate(rate))
        alive = clock() - began >= outage
        _call(breaker, fails=not alive)
        if alive:
            return probes, clock() - began - outage
        probes += 1


def detected(config: CircuitBreakerConfig, rate: float, probability: float) -> str:
    """A cell of the first tables: the median of the runs."""
    found = [detection(config, rate, probability, seed) for seed in DETECTION_SEEDS]
    ours = [each for each in found if each is not None]
    false = sum(seconds < 0 for seconds, _ in ours)
    if 2 * false > len(found):
        return f"false alarm in {false} of {len(found)} runs"
    true = sorted(each for each in ours if each[0] >= 0)
    if 2 * len(true) < len(found):
        return "never"
    seconds = statistics.median(each[0] for each in true)
    failed = statistics.median(each[1] for each in true)
    return f"{seconds:,.1f} s, {failed:,.0f} calls" + (f" ({false} false)" if false else "")


def recovered(config: CircuitBreakerConfig, rate: float, outage: float) -> str:
    """A cell of the last table: means of the runs."""
    found = [recovery(config, rate, outage, seed) for seed in RECOVERY_SEEDS]
    probes, seconds = (statistics.fmean(column) for column in zip(*found, strict=True))
    return f"{probes:,.1f} probes, {seconds:,.1f} s"


def tables() -> Iterable[str]:
    """All of them, with their headings."""
    for probability in PROBABILITIES:
        yield f"### {probability:.0%} of the calls fail"
        yield table(
            ["rule", *(f"{rate:g}/s" for rate in RATES)],
            [[name, *(detected(config, rate, probability) for rate in RATES)] for name, config in RULES.items()],
        )
    yield "### How long it stays open"
    yield table(
        ["open time", *(f"{outage:,.0f} s, {rate:g}/s" for outage in OUTAGES for rate in (0.5, 10.0))],
        [
            [name, *(recovered(config, rate, outage) for outage in OUTAGES for rate in (0.5, 10.0))]
            for name, config in PAUSES.items()
        ],
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/breaker-settings.md")
    arguments = parser.parse_args()
    logging.disable()
    text = "\n\n".join(tables())
    print(text)
    if arguments.write:
        write_results("breaker settings", text, PAGE)


if __name__ == "__main__":
    main()
