"""The site is built strictly, makes no request to other hosts, and can be searched and read on a phone."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import breaker_settings
from tools.site import api_pages, docstrings, references

from support.browser import Browser, running_chromium
from support.doc_blocks import ROOT

FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)[^>]*\ssrc=[\"']?(?:https?:)?//[^\"' >]+"
    r"|<link(?![^>]*rel=[\"']?canonical)[^>]*href=[\"']?(?:https?:)?//[^\"' >]+"
    r"|url\([\"']?(?:https?:)?//[^)]+"
)
"""What a page, or a style, loads from another host. Links that a reader may follow are not loaded."""
READ = (
    "",
    "on-call/",
    "breaker-settings/",
    "architecture/",
    "telemetry/",
    "reference/api/policy/",
    "coming-from/polly/",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, address: str) -> Iterator[Browser]:
    chromium.complaints.clear()
    chromium.asked.clear()
    yield chromium
    assert chromium.complaints == []
    assert [url for url in chromium.asked if not url.startswith((address, "data:", "blob:"))] == []


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    found = {
        f"{path.relative_to(site)}: {each[:100]}"
        for path in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]
        for each in FETCHED.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()
    # The theme would load its renderer of diagrams from elsewhere; ours are drawn.
    assert not [path for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text(encoding="utf-8")]


def test_what_is_said_to_the_tests_is_not_shown(site: Path) -> None:
    assert "needs Docker" in (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    assert "needs Docker" not in (site / "deployment/index.html").read_text(encoding="utf-8")


def test_links_show_titles_in_place_of_file_names(site: Path) -> None:
    assert "[telemetry-changes.md](" in (ROOT / "docs/conventions.md").read_text(encoding="utf-8")
    assert 'href="../telemetry-changes/">Changes of telemetry</a>' in (site / "conventions/index.html").read_text()
    assert not [path for path in site.rglob("*.html") if re.search(r">[\w./-]+\.md</a>", path.read_text("utf-8"))]


def test_no_row_stands_outside_its_table(site: Path) -> None:
    assert not [path for path in site.rglob("*.html") if re.search(r"<p>\|", path.read_text("utf-8"))]


def test_every_public_name_is_on_a_page(site: Path) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "reference/api").rglob("*.html"))
    for module, names in _listed().items():
        for name in names:
            assert f'id="{module}.{name}"' in pages, f"{module}.{name}"


def test_members_that_are_not_for_users_are_on_no_page(site: Path) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "reference/api").rglob("*.html"))
    shown = {tuple(found.split(".")[-2:]) for found in re.findall(r'<h\d id="([\w.]+)"', pages)}
    assert ("Policy", "execute") in shown
    assert [pair for pair in shown if len(pair) == 2 and api_pages.public_api().is_for_rooms(*pair)] == []


def test_defaults_are_shown_as_values(site: Path) -> None:
    pages = {path.parent.name: path.read_text("utf-8") for path in (site / "reference/api").glob("*/index.html")}
    signatures = {
        room: [re.sub(r"<[^>]+>", "", each) for each in re.findall(r'<div class="doc-signature.*?</div>', page, re.S)]
        for room, page in pages.items()
    }
    assert any("max_attempt_threads: int = 40" in each for each in signatures["policy"])
    named = re.compile(r"\w+: (?:int|float|str)(?: \| None)? = [A-Z_]{2,}")
    assert {room: found for room, texts in signatures.items() if (found := named.findall("".join(texts)))} == {}


def _listed() -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {"otel_resilience": []}
    for line in (ROOT / "docs/api/otel_resilience.txt").read_text(encoding="utf-8").splitlines()[1:]:
        if not line:
            break
        found = re.match(r" {4}(?:enum |class |protocol |async )?(\w+)", line)
        if found and not line.startswith(" " * 5) and found[1] not in {"__version__", "module"}:
            listed["otel_resilience"].append(found[1])
    return listed


@pytest.mark.parametrize("page", READ)
def test_it_is_read_on_a_phone_and_on_a_desk(browser: Browser, address: str, page: str) -> None:
    for width, height in ((390, 800), (1280, 900)):
        browser.size(width, height, phone=width < 500)
        browser.open(address + page)
        browser.wait(f"document.readyState === 'complete' && location.href === {address + page!r}")
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.ask("[...document.images].every(each => each.complete && each.naturalWidth > 0)")


def test_search_finds(browser: Browser, address: str) -> None:
    browser.size(1280, 900)
    browser.open(address)
    browser.wait("document.readyState === 'complete'")
    browser.ask("document.querySelector('[data-md-component=search-query]').focus()")
    for letter in "RetryBudget":
        browser.press(letter, ord(letter.upper()), letter)
    link = browser.wait("document.querySelector('.md-search-result__link')?.href")
    assert link.startswith(address)


def test_what_make_docs_writes_is_current() -> None:
    for name, render in references.PAGES.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == render(), f"docs/{name}: run `make docs`"


def test_docstrings_become_markdown() -> None:
    homes = {"Policy": "otel_resilience.policy.policy.Policy"}
    text = "Of a :class:`Policy`, :meth:`Policy.execute`, :func:`os.getpid`.\n\n    made()\n\n    again()\n\nThen."
    assert docstrings.as_markdown(text, homes) == (
        "Of a [`Policy`][otel_resilience.policy.policy.Policy],"
        " [`Policy.execute`][otel_resilience.policy.policy.Policy.execute], `os.getpid`.\n\n"
        "```python\nmade()\n\nagain()\n```\n\nThen."
    )


def test_the_figures_about_breakers_are_those_of_the_breaker() -> None:
    """The rows of the default; all of them take a minute: `python -m benchmarks.breaker_settings --write`."""
    page = (ROOT / "docs/breaker-settings.md").read_text(encoding="utf-8")
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in page.splitlines() if line.startswith("| default: ")]
    config = next(iter(breaker_settings.RULES.values()))
    for row, probability in zip(rows, (1.0, 0.5), strict=False):
        for cell, rate in zip(row[1:5], breaker_settings.RATES, strict=False):
            assert cell == breaker_settings.detected(config, rate, probability)
    pauses = next(iter(breaker_settings.PAUSES.values()))
    outages = [(rate, outage) for outage in breaker_settings.OUTAGES for rate in (0.5, 10.0)]
    assert rows[3][1:] == [breaker_settings.recovered(pauses, rate, outage) for rate, outage in outages]
