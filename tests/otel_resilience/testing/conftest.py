from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

INSTALLED = any(each.name == "otel_resilience" for each in entry_points(group="pytest11"))
PLUGIN = "otel_resilience" if INSTALLED else "otel_resilience.testing.plugin"
"""By its entry point, which an installation from before the library had one does not show."""


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs the source of a test file, with options, in a separate pytest with only our plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", "-p", PLUGIN, *options)

    return run
