"""All pages in a real browser: accessible, and honest when nothing can be reached."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import pytest

from support.api_server import AUTHORIZED, TOKEN, ApiProcess, running_api
from support.axe import violations
from support.browser import Browser, running_chromium
from support.cli import Supplier, running_supplier

DOWN = {"name": "down", "rules": [{"fault": "status", "status": 503, "retry_after": "none"}]}
READY = "document.readyState === 'complete' && document.querySelector('#line')?.textContent === 'live'"
RED = (
    "[...document.querySelectorAll('main *')].filter((each) => each.checkVisibility() && each.innerText"
    " && [getComputedStyle(each).color, getComputedStyle(each).backgroundColor, getComputedStyle(each).borderLeftColor]"
    ".some((one) => reds.includes(one)))"
)
GREEN = "[...document.querySelectorAll('.pill')].filter((pill) => getComputedStyle(pill).color === good)"


@dataclasses.dataclass(frozen=True)
class Site:
    """A running API after a sync that went well and two that failed, with an incident."""

    api: ApiProcess
    supplier: Supplier
    failed: str
    incident: str

    @property
    def paths(self) -> dict[str, str]:
        """Every page."""
        return {
            "now": "/",
            "syncs": "/syncs",
            "sync": f"/syncs/{self.failed}",
            "traces": "/traces",
            "trace": f"/traces/{self.failed}",
            "incidents": "/incidents",
            "incident": f"/incidents/{self.incident}",
            "system": "/system",
            "nothing": f"/traces/{'0' * 31}1",
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    stays_open = {"ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": "3600000"}
    folder = tmp_path_factory.mktemp("api")
    with running_supplier(100) as supplier, running_api(folder, supplier, **stays_open) as api:
        api.finish(api.ask())
        supplier.play(DOWN)
        # Six failures: at ten, with the next one, the circuit opens and that is an incident.
        failed = api.finish(api.ask(kind="group", scope="Standard - Fixed"))
        api.finish(api.ask(kind="group", scope="Standard - Fixed"))
        while not (incidents := api.http.get("/incidents").json()["incidents"]):
            pass
        yield Site(api, supplier, failed["correlation_id"], incidents[0]["id"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


def opened(browser: Browser, site: Site, name: str, *, ready: str = READY) -> Browser:
    browser.open(site.api.base_url + site.paths[name])
    browser.wait(f"location.pathname === '{site.paths[name]}' && {ready}")
    if name in {"now", "sync", "trace"}:
        browser.wait("document.querySelector('.trace') !== null")
    return browser


@pytest.mark.fault("U8")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_on_any_page_and_nothing_is_wider_than_the_screen(
    chromium: Browser, site: Site, *, dark: bool
) -> None:
    chromium.size(1200, 900, dark=dark)
    for name in site.paths:
        opened(chromium, site, name)
        assert violations(chromium) == [], name
        for width in (320, 640):
            chromium.size(width, 800, dark=dark, phone=width < 640)
            assert chromium.wait(f"document.documentElement.clientWidth <= {width}")
            assert chromium.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        chromium.size(1200, 900, dark=dark)


@pytest.mark.fault("U8")
def test_names_of_spans_are_whole_at_200_percent(chromium: Browser, site: Site) -> None:
    for width in (640, 700, 800):
        chromium.size(width, 800)
        opened(chromium, site, "trace")
        cut = "[...document.querySelectorAll('.trace .name > span:first-child')].filter((n) => n.checkVisibility())"
        assert chromium.ask(f"{cut}.length") > 5
        assert chromium.ask(f"{cut}.filter((n) => n.scrollWidth > n.clientWidth + 1).map((n) => n.innerText)") == []
    chromium.size(1200, 900)


@pytest.mark.fault("U8")
def test_on_a_phone_no_name_of_a_span_is_broken_within_a_word(chromium: Browser, site: Site) -> None:
    """However deep it stands, as below the steps of a worker, and however long its error is."""
    chromium.size(375, 800, phone=True)
    opened(chromium, site, "trace")
    chromium.ask("document.querySelectorAll('.trace .name').forEach((each) => each.style.setProperty('--depth', 7))")
    chromium.ask("document.querySelectorAll('.trace .mark').forEach((each) => { each.innerText = 'connect_timeout' })")
    attempts = (
        "[...document.querySelectorAll('.trace .name > span:first-child')].filter((n) => n.checkVisibility())"
        ".filter((n) => n.innerText.startsWith('attempt '))"
    )
    assert chromium.ask(f"{attempts}.length") > 1
    in_one_line = "n.offsetHeight < 1.5 * parseFloat(getComputedStyle(n).lineHeight)"
    assert chromium.ask(f"{attempts}.every((n) => {in_one_line})")
    chromium.size(1200, 900)


@pytest.mark.fault("U5")
def test_the_way_from_the_list_to_the_failed_attempt_is_two_links(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "syncs")
    chromium.ask(f"document.querySelector('#list a[href=\"/traces/{site.failed}\"]').click()")
    chromium.wait(f"location.pathname === '/traces/{site.failed}' && document.querySelector('.trace .cause') !== null")
    assert "failed at attempt 3 after 2 retries: 503" in chromium.ask("document.querySelector('.verdict').innerText")
    chromium.ask(f"document.querySelector('#find').value = ' {site.failed.upper()} '")
    chromium.ask("document.querySelector('.find button').click()")
    chromium.wait(f"location.pathname === '/traces/{site.failed}' && {READY}")


@pytest.mark.fault("U5")
def test_the_page_can_be_visited_again_and_again(chromium: Browser, site: Site) -> None:
    """A browser has six connections for a server; a visit whose stream stays open while one goes back takes one."""
    for _ in range(8):
        opened(chromium, site, "now")
        chromium.ask(f"document.querySelector('#find').value = '{site.failed}'")
        chromium.ask("document.querySelector('.find button').click()")
        chromium.wait(f"location.pathname === '/traces/{site.failed}' && {READY}")
        chromium.wait("document.querySelector('.trace') !== null")


@pytest.mark.fault("U8")
def test_without_javascript_everything_can_be_read(chromium: Browser, site: Site) -> None:
    chromium.scripts(on=False)
    try:
        for name, wanted in {
            "now": "Without it: syncs",
            "syncs": "failed trace",
            "sync": "at attempt 3",
            "trace": "attempt 3 · ",
            "incident": "first seen",
            "system": "10 that open it",
        }.items():
            chromium.open(site.api.base_url + site.paths[name])
            chromium.wait(f"location.pathname === '{site.paths[name]}' && document.readyState === 'complete'")
            text = chromium.text()
            assert wanted in text, text
            assert not re.search(r"looking …|Run it again|Acknowledge\b", text)
    finally:
        chromium.scripts(on=True)


@pytest.mark.fault("U8")
def test_an_incident_is_acknowledged_and_the_focus_comes_back_after_the_token(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "incident")
    chromium.ask("sessionStorage.removeItem('token')")
    opened(chromium, site, "incident")
    chromium.ask("document.querySelector('[name=by]').value = 'ann'")
    chromium.ask("document.querySelector('[name=reason]').value = 'the supplier knows'")
    chromium.ask("document.querySelector('[value=ack]').focus()")
    chromium.press("Enter", 13, "\r")
    chromium.wait("document.activeElement.id === 'token-value'")
    chromium.ask(f"document.querySelector('#token-value').value = '{TOKEN}'")
    chromium.press("Enter", 13, "\r")
    chromium.wait("document.activeElement.value === 'ack'")
    chromium.press("Enter", 13, "\r")
    chromium.wait("document.querySelector('#timeline').innerText.includes('acknowledged by ann: the supplier knows')")
    assert chromium.ask("document.activeElement.value") == "ack"
    assert TOKEN not in chromium.text()


@pytest.mark.fault("U8")
def test_the_end_of_a_silence_is_ahead(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "incident")
    chromium.ask(f"sessionStorage.setItem('token', '{TOKEN}')")
    opened(chromium, site, "incident")
    chromium.ask("document.querySelector('[value=silence]').click()")
    shown = "document.querySelector('#timeline').innerText"
    chromium.wait(f"{shown}.includes('silenced until') && /silenced until .* \\(in 4 h\\)/.test({shown})")
    assert " ago)" in chromium.ask(shown)


@pytest.mark.fault("U8")
def test_a_refused_decision_says_why(chromium: Browser, site: Site) -> None:
    """A wrong token is not a missing one, and without an answer nobody knows whether it was done."""
    opened(chromium, site, "incident")
    chromium.ask("sessionStorage.setItem('token', 'of yesterday')")
    opened(chromium, site, "incident")
    chromium.ask("document.querySelector('[value=resend]').click()")
    assert "token is not accepted" in chromium.wait("document.querySelector('#said').innerText")
    assert chromium.ask("document.activeElement.id") == "token-value"
    chromium.press("Escape", 27)
    chromium.offline(on=True)
    try:
        chromium.ask("document.querySelector('#said').innerText = ''")
        chromium.ask("document.querySelector('[value=resend]').click()")
        assert "unknown whether it was done" in chromium.wait("document.querySelector('#said').innerText")
    finally:
        chromium.offline(on=False)
        chromium.ask("sessionStorage.removeItem('token')")


def test_a_failed_sync_is_run_again_from_its_page(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "sync")
    chromium.ask(f"sessionStorage.setItem('token', '{TOKEN}')")
    opened(chromium, site, "sync")
    chromium.ask("document.querySelector('#state .act button').click()")
    chromium.wait(f"location.pathname.startsWith('/syncs/') && location.pathname !== '/syncs/{site.failed}'")
    again = str(chromium.ask("location.pathname"))
    chromium.wait("document.querySelector('#state .pill')?.innerText === 'failed'")
    assert site.api.http.get(again).json()["trigger"] == "api"


@pytest.mark.fault("U8")
def test_what_is_selected_stays_selected_and_groups_are_chosen(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "now")
    chromium.ask("getSelection().selectAllChildren(document.querySelector('#checks'))")
    before = chromium.ask("getSelection().toString()")
    chromium.ask("window.looks = performance.getEntriesByName(location.origin + '/overview').length; 0")
    chromium.wait("performance.getEntriesByName(location.origin + '/overview').length >= looks + 2")
    assert len(str(chromium.ask("getSelection().toString()"))) >= len(str(before)) - 20
    chromium.ask(
        "const k = document.querySelector('#ask-kind'); k.value = 'group'; k.dispatchEvent(new Event('change'))"
    )
    groups = site.api.http.get("/groups").json()["groups"]
    assert chromium.ask("[...document.querySelector('#ask-choice').options].map((o) => o.value)") == [
        group["name"] for group in groups
    ]
    assert chromium.ask("document.querySelector('#ask-choice').checkVisibility()")
    assert not chromium.ask("document.querySelector('#ask-scope').checkVisibility()")


@pytest.mark.fault("U6")
@pytest.mark.parametrize("name", ["now", "system"])
def test_nothing_is_green_while_the_api_does_not_answer(chromium: Browser, site: Site, name: str) -> None:
    opened(chromium, site, name)
    good = "const p = document.body.appendChild(Object.assign(document.createElement('p'), {className: 'good'}));"
    chromium.ask(
        f"{good} window.good = getComputedStyle(p).color; p.className = 'bad';"
        " window.reds = [getComputedStyle(p).color, getComputedStyle(p).backgroundColor]; p.remove(); 0"
    )
    assert chromium.ask(f"{RED}.length") > 0
    assert chromium.ask(f"{GREEN}.length") > 0
    chromium.offline(on=True)
    try:
        chromium.wait("document.body.classList.contains('lost')", 60)
        assert chromium.ask(f"{GREEN}.length") == 0
        assert chromium.ask(f"{RED}.map((each) => each.className)") == []
        said = str(chromium.ask("document.querySelector('#seen').innerText"))
        assert re.search(r"No answer since .*\d.*what was seen last.*\D\d+ s ago", said), said
        assert violations(chromium) == []
    finally:
        chromium.offline(on=False)
    chromium.wait("!document.body.classList.contains('lost')", 60)
    chromium.wait(f"{GREEN}.length > 0")


@pytest.mark.fault("U6")
def test_calls_that_all_fail_are_not_healthy(site: Site) -> None:
    report = site.api.http.get("/health", headers=AUTHORIZED).json()
    assert report["checks"]["supplier"]["status"] == "degraded"


@pytest.mark.fault("U8")
def test_the_focus_stays_on_the_page_when_an_incident_is_closed(chromium: Browser, site: Site) -> None:
    opened(chromium, site, "incident")
    chromium.ask(f"sessionStorage.setItem('token', '{TOKEN}')")
    opened(chromium, site, "incident")
    chromium.ask("document.querySelector('[value=close]').focus()")
    chromium.press("Enter", 13, "\r")
    chromium.wait("document.querySelector('#state .pill + .pill').innerText === 'resolved'")
    chromium.wait("document.querySelector('#decide') === null")
    assert chromium.ask("document.activeElement.id") == "main"
