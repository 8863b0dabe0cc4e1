"""The page in a real browser shows what is running, and which attempt failed and why, without any other tool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_sync.api.pages.frame import POLICY
from support.api_server import TOKEN, ApiProcess, running_api
from support.browser import Browser, running_chromium
from support.cli import Supplier, running_supplier

FAILING = {
    "name": "one group",
    "rules": [
        {"fault": "status", "status": 503, "retry_after": "none", "when": {"group": 1, "page": 2}},
        {"fault": "status", "status": 500, "when": {"group": 0, "page": 1, "attempt": 1}},
    ],
}


@pytest.fixture(scope="module")
def supplier() -> Iterator[Supplier]:
    with running_supplier(400) as running:
        yield running


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, supplier: Supplier) -> Iterator[ApiProcess]:
    """An API after a good sync and one in which a group failed."""
    with running_api(tmp_path_factory.mktemp("api"), supplier) as running:
        running.finish(running.ask())
        supplier.play(FAILING)
        assert running.finish(running.ask())["outcome"] == "PARTIAL"
        supplier.reset()
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, api: ApiProcess) -> Iterator[Browser]:
    chromium.size(1200, 900)
    chromium.complaints.clear()
    chromium.asked.clear()
    chromium.open(api.base_url)
    chromium.wait("document.querySelectorAll('#sync-list > .sync').length >= 2")
    chromium.wait("document.querySelector('.verdict') !== null")
    yield chromium
    assert chromium.complaints == []
    assert all(url.startswith(api.base_url) for url in chromium.asked)


def test_one_glance_says_which_attempt_failed_and_why(browser: Browser) -> None:
    said = str(browser.ask("document.querySelector('.verdict').innerText"))
    assert said.startswith(
        "Standard - Unlimited Lite: “esim-go list bundles” failed at attempt 3 after 2 retries: 503 (transient, MEDIUM)"
    )
    assert "the supplier answered 503" in said
    assert "page=2" in said
    assert "test-key" not in browser.text()


def test_the_waterfall_leads_down_to_that_attempt_and_folds_the_rest(browser: Browser) -> None:
    rows = browser.ask(
        "[...document.querySelectorAll('.trace .row')].filter(row => row.checkVisibility())"
        ".map(row => row.querySelector('.name').innerText.replace(/\\s+/g, ' ').trim())"
    )
    wanted = [
        "POST /syncs 202",
        "catalog.sync PARTIAL",
        "catalog.sync.group Standard - Unlimited Lite 503",
        "esim-go list bundles 503",
        "attempt 1 503",
        "attempt 2 503",
        "attempt 3 503",
        "GET /catalogue 503",
    ]
    assert [row for row in rows if row in wanted] == wanted
    assert any("that went well" in row for row in rows)
    assert len(rows) < 30
    assert browser.ask("document.querySelector('.cause .name').innerText").startswith("attempt 3")


def test_everything_can_be_reached_with_the_keyboard(browser: Browser) -> None:
    reached = []
    for _ in range(60):
        browser.press("Tab", 9)
        reached.append(
            browser.ask("(document.activeElement.id || document.activeElement.innerText).split('\\n')[0].trim()")
        )
        if reached[-1].startswith("attempt 3"):
            break
    assert reached[0] == "Skip to the syncs"
    assert {"Token", "ask-kind", "ask-force", "Sync now"} <= set(reached)
    assert reached[-1].startswith("attempt 3")
    browser.press("Enter", 13, "\r")
    facts = browser.wait("document.querySelector('.cause.picked .inside')?.innerText")
    assert "resilience.attempt.number" in facts
    assert "error.type" in facts


def test_a_sync_is_requested_and_followed(browser: Browser, supplier: Supplier, api: ApiProcess) -> None:
    supplier.play({"name": "late", "rules": [{"fault": "latency", "delay_s": 0.3}]})
    browser.ask("document.querySelector('#ask button').click()")
    assert browser.wait("document.querySelector('#asked').innerText") == "Enter the token first."
    assert browser.ask("document.activeElement.id") == "token-value"
    browser.complaints.clear()  # the browser itself reports the 401
    browser.ask(f"document.querySelector('#token-value').value = '{TOKEN}'")
    browser.press("Enter", 13, "\r")
    browser.wait("!document.querySelector('#token').open")
    before = browser.ask("document.querySelectorAll('#sync-list > .sync').length")
    browser.ask("document.querySelector('#ask button').click()")
    browser.wait(f"document.querySelectorAll('#sync-list > .sync').length === {before + 1}")
    newest = "document.querySelector('#sync-list > .sync')"
    assert browser.wait(f"{newest}.querySelectorAll('.segments i').length === 5")
    browser.wait(f"{newest}.querySelector('.pill').innerText === 'complete'")
    supplier.reset()
    assert "400 bundles" in browser.ask(f"{newest}.innerText")
    assert browser.ask("document.querySelector('#health').innerText") in {"healthy", "degraded"}
    assert TOKEN not in browser.text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(browser: Browser, width: int, dark: bool) -> None:
    browser.size(width, 800, dark=dark, phone=width < 700)
    browser.wait(f"document.documentElement.clientWidth <= {width}")
    assert browser.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    browser.ask(EVERY_PILL)
    assert browser.ask(CONTRAST) == []


EVERY_PILL = """
document.querySelector('main').append(...['', 'good', 'warn', 'bad', 'busy'].map((tone) =>
  Object.assign(document.createElement('p'), { className: `pill ${tone}`, textContent: `a pill ${tone}` })))
"""
"""The states that a page may pass through too fast to be seen, such as before its first answer."""

CONTRAST = """
(() => {
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0.9) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest('.hidden, .skip, option')) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${node.className || node.tagName} ${node.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return faint;
})()
"""
"""Texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3)."""


def test_the_page_allows_nothing_from_elsewhere_and_nothing_inline(api: ApiProcess) -> None:
    page = api.http.get("/")
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    static = Path(__file__).parents[3] / "src" / "catalog_sync" / "api" / "static"
    for file in static.iterdir():
        text = file.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, file.name
        assert "innerHTML" not in text
        assert not re.search(r"\son[a-z]+=\"|style=\"", text), file.name


def test_unchanged_files_are_not_sent_again(api: ApiProcess) -> None:
    for path in ("/", "/static/page.js", "/static/page.css", "/static/waterfall.js", "/static/icon.svg"):
        first = api.http.get(path)
        again = api.http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
