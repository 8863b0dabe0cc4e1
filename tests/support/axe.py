"""What axe-core finds wrong with a page for users of a keyboard or a screen reader, or with low vision."""

from __future__ import annotations

import functools
import json
from importlib.resources import files

from support.browser import Browser

_RUN = """
axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations.map(
  (each) => `${each.id}: ${each.nodes.map((node) => node.html).join(' ').slice(0, 300)}`)))
"""


@functools.cache
def _script() -> str:
    return (files("axe_core_python") / "axe.min.js").read_text("utf-8")


def violations(browser: Browser) -> list[str]:
    """The rules that the page breaks in its current state, each with the elements that break it."""
    if browser.ask("window.axe === undefined"):
        browser.ask(f"{_script()}; 0")
    found: list[str] = json.loads(browser.ask(_RUN))
    return found
