"""The pytest plugin in a user's tests: in a separate pytest, found by its entry point."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_resilience
from otel_resilience.testing import plugin

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]


def test_a_test_gets_what_the_page_promises(run_pytest: Run) -> None:
    result = run_pytest(
        """
        import pytest
        from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, RetryConfig

        policy = Policy("shop", retry=RetryConfig(base_delay=3600, max_delay=3600, jitter=False),
                        breaker=CircuitBreakerConfig(failure_threshold=3, reset_timeout=20))

        def plans(failures):
            def list_plans():
                if failures:
                    raise failures.pop()
                return "plans"
            return policy.execute(list_plans, name="list plans")

        def test_first(resilience):
            assert plans([ConnectionRefusedError(), ConnectionRefusedError()]) == "plans"
            resilience.assert_call("list plans", attempts=3, outcome="ok_after_retry")
            assert resilience.call("list plans").attempts == 3
            assert resilience.waits == [3600, 3600]

        @pytest.mark.parametrize("turn", range(3))
        def test_each_starts_fresh(resilience, turn):
            with pytest.raises(ConnectionRefusedError):
                plans([ConnectionRefusedError() for _ in range(3)])
            with pytest.raises(CircuitOpenError):
                plans([])
            resilience.clock.advance(30)
            assert plans([]) == "plans"
            assert len(resilience.calls("list plans")) == 3
            assert resilience.telemetry.spans

        def test_without_it_nothing_is_changed():
            import time
            assert policy.sleep is time.sleep
        """,
    )
    result.assert_outcomes(passed=5)


def test_a_failure_shows_the_calls_and_hides_the_helper(run_pytest: Run) -> None:
    result = run_pytest(
        """
        from otel_resilience import Policy

        def test_mine(resilience):
            Policy("shop").execute(lambda: None, name="list plans")
            resilience.assert_call("list plans", attempts=3)
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*no call 'list plans' with attempts=3; the calls that were made:",
        "*shop 'list plans': attempts=1, outcome='ok'",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*session.py:*: AssertionError*")


ASYNCHRONOUS = """
        import asyncio, pytest
        from otel_resilience import Policy, RetryConfig

        retry = RetryConfig(base_delay=3600, max_delay=3600)
        policy = Policy("shop", retry=retry, idempotent=True, attempt_timeout=7200)
        pytestmark = pytest.mark.{mark}

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_mine(resilience):
            clock = resilience.clock
            failures = [ConnectionRefusedError()]

            async def list_plans():
                if failures:
                    raise failures.pop()
                await clock.async_sleep(10)
                return "plans"

            results = await asyncio.gather(*(policy.execute(list_plans) for _ in range(3)))
            assert results == ["plans"] * 3
            assert sorted(call.attempts for call in resilience.calls("list_plans")) == [1, 1, 2]
"""
LOOP_OF_FUNCTIONS = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]


@pytest.mark.parametrize(("mark", "options"), [("asyncio", LOOP_OF_FUNCTIONS), ("anyio", ["-p", "anyio"])])
def test_async_tests(run_pytest: Run, mark: str, options: list[str]) -> None:
    run_pytest(ASYNCHRONOUS.format(mark=mark), *options).assert_outcomes(passed=1)


def test_several_processes(run_pytest: Run) -> None:
    result = run_pytest(
        """
        import pytest
        from otel_resilience import Policy

        @pytest.mark.parametrize("number", range(6))
        def test_mine(resilience, number):
            Policy("shop").execute(lambda: number, name="list plans")
            resilience.assert_call("list plans", attempts=1, times=1)
        """,
        "-p", "xdist", "-n", "2",
    )  # fmt: skip
    result.assert_outcomes(passed=6)


def test_pytest_starts_without_what_only_the_fixture_needs() -> None:
    code = """
import sys
import otel_resilience.testing.plugin
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
assert not {"otel_resilience.alerting", "otel_resilience.storage", "httpx", "redis", "hypothesis"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)


def test_fixtures_are_listed_with_what_they_are_for(run_pytest: Run) -> None:
    result = run_pytest("", "--fixtures")
    result.stdout.fnmatch_lines(["resilience -- *plugin.py:*", "*No waits anywhere*"])


def test_the_distribution_names_the_plugin() -> None:
    project = tomllib.loads((Path(otel_resilience.__file__).with_name("pyproject.toml")).read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"otel_resilience": plugin.__name__}
