"""What holds for all tests."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from otel_resilience.testing import forget_budgets
from support import fault_table

# Elsewhere each run looks at new examples; a run that decides over a change looks at the same ones every time.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

os.environ["CATALOG_ENV_FILE"] = "none"  # no test reads the .env of who runs it

_FAULT = "fault"
_results: defaultdict[str, Counter[str]] = defaultdict(Counter)


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
