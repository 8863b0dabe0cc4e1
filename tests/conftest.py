"""Fixtures and settings of all tests."""

from __future__ import annotations

import gc
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from otel_resilience import redaction
from otel_resilience.testing import forget_budgets
from support import fault_table

# Elsewhere each run looks at new examples; a run that decides over a change looks at the same ones every time.
# `make mutants` runs a test several times in one process, which Hypothesis takes for different executors of a method.
_unchecked = [HealthCheck.too_slow, HealthCheck.differing_executors]
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_unchecked)
settings.register_profile("here", deadline=None, suppress_health_check=_unchecked)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

os.environ["CATALOG_ENV_FILE"] = "none"  # no test reads the .env of who runs it

os.environ.setdefault("GOGC", "800")  # promtool, which lives for seconds, takes a third less with some more memory

# What collecting makes lives to the end: whoever looks for garbage meanwhile finds none.
gc.disable()

PROCESSES_PER_CORE = 2
"""And one more: many tests wait most of the time."""
WAITING = (
    "tests/drill/test_short_drill.py",
    "tests/catalog_sync/worker/test_failover.py",
    "tests/catalog_sync/worker/test_start.py",
    "tests/catalog_sync/worker/test_faults.py",
    "tests/otel_collector/test_rules_see_it.py",
    "tests/grafana/test_alertmanager.py",
    "tests/catalog_sync/worker/",
    "tests/catalog_sync/cli/test_demo.py",
    "tests/otel_resilience/storage/test_shared_rate.py",
    "tests/otel_collector/",
    "tests/otel_resilience/storage/test_processes.py",
    "tests/otel_resilience/alerting/test_processes.py",
)
"""Files that wait more than they compute, by the beginnings of their names, the longest first."""
COMPUTING = ("tests/test_distributions.py", "tests/docs/test_site.py", "tests/catalog_sync/cli/")
"""Of the others those that take longest; they begin first, so that the end does not wait for one alone."""
COMPUTING_BETWEEN = 3
"""As many of them between two that wait, so that the processors have work from the beginning to the end."""

_FAULT = "fault"
_results: defaultdict[str, Counter[str]] = defaultdict(Counter)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Restores the state of the process after a test: registered secrets and the logging level."""
    known, exact, root = dict(redaction._known), redaction._exact, logging.getLogger()
    level = root.level
    yield
    redaction._known, redaction._exact = known, exact
    root.setLevel(level)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-table",
        metavar="FILE",
        help="write the table of faults with how the tests of each row ended; '-' prints it",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = fault_table.rows()
    for item in items:
        for mark in item.iter_markers(_FAULT):
            for name in mark.args:
                if name not in known:
                    raise pytest.UsageError(f"{item.nodeid}: tests/fault_rows.toml has no row {name!r}")
                item.user_properties.append((_FAULT, name))
    slow = Counter(_file(item) for item in items if item.get_closest_marker("slow"))
    turns = {file: turn for turn, file in enumerate(_in_turns(dict.fromkeys(map(_file, items)), slow))}
    items.sort(key=lambda item: turns[_file(item)])  # stable: what belongs together stays so


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _in_turns(files: Iterable[str], slow: Mapping[str, int]) -> Iterator[str]:
    waiting: list[str] = []
    computing: list[str] = []
    for file in files:
        (waiting if file.startswith(WAITING) else computing).append(file)
    waiting.sort(key=lambda file: _turn(file, WAITING))
    computing.sort(key=lambda file: (_turn(file, COMPUTING), -slow.get(file, 0)))
    while waiting or computing:
        yield from waiting[:1]
        yield from computing[:COMPUTING_BETWEEN]
        del waiting[:1], computing[:COMPUTING_BETWEEN]


def pytest_collection_finish() -> None:
    """Freezes the objects made by collection, nearly a million, so that no garbage collection walks them again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _turn(file: str, starts: Sequence[str]) -> int:
    return next((turn for turn, start in enumerate(starts) if file.startswith(start)), len(starts))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return PROCESSES_PER_CORE * (os.cpu_count() or 1) + 1


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        for kind, name in report.user_properties:
            if kind == _FAULT:
                _results[str(name)][report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    target = config.getoption("--fault-table")
    if target is None:
        return
    table = fault_table.result_table(_results)
    if target == "-":
        terminalreporter.section("faults")
        terminalreporter.write(table)
    else:
        Path(target).write_text(table, encoding="utf-8")


@pytest.fixture(autouse=True)
def _fresh_retry_budgets() -> None:
    """Policies of one dependency share a retry budget, also with those of an earlier test that are still in memory."""
    forget_budgets()
