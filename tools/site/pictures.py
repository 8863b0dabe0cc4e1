"""Takes the pictures of docs/on-call.md: an outage of the simulator, as the page and as the command line show it.

PYTHONPATH=tests python -m tools.site.pictures
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from support.answering_server import answering_server
from support.api_server import ApiProcess, running_api
from support.browser import running_chromium
from support.cli import API_KEY, Supplier, running_supplier

FOLDER: Final = Path(__file__).parents[2] / "docs/pictures"
COLUMNS: Final = 100
OUTAGE: Final = {"name": "outage", "rules": [{"fault": "status", "status": 503, "retry_after": "none"}]}
QUICK: Final = {"ERROR_RETRY_BASE_DELAY": "200", "CATALOG_SUPPLIER_RATE_PER_S": "0"}
_FONT_FACE: Final = re.compile(r"@font-face \{.*?\}\s*", re.S)


def main() -> None:
    """Both in a folder that is removed again."""
    with tempfile.TemporaryDirectory() as folder, running_supplier(5200) as supplier:
        _command_line(Path(folder) / "cli", supplier)
        supplier.reset()
        with answering_server() as receiver:
            settings = {**QUICK, "ERROR_ALERT_WEBHOOK_URL": receiver.url}
            with running_api(Path(folder) / "api", supplier, **settings) as api:
                _page(api, supplier)


def _command_line(state: Path, supplier: Supplier) -> None:
    own = {"ESIM_GO_BASE_URL": supplier.base_url, "ESIM_GO_API_KEY": API_KEY, "CATALOG_STATE_DIR": str(state)}
    environment = {**os.environ, **QUICK, **own, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}

    def run(command: str) -> str:
        program = [sys.executable, "-m", "catalog_sync", command]
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=False).stdout

    run("run")
    supplier.play(OUTAGE)
    run("run")
    for command in ("trace", "alerts"):
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(run(command)))
        svg = console.export_svg(title=f"catalog-sync {command}", theme=MONOKAI, unique_id=command)
        (FOLDER / f"on-call-{command}.svg").write_text(_FONT_FACE.sub("", svg), encoding="utf-8")


def _page(api: ApiProcess, supplier: Supplier) -> None:
    api.finish(api.ask())
    supplier.play(OUTAGE)
    api.finish(api.ask())
    with running_chromium() as browser:
        browser.size(900, 700)
        browser.open(api.base_url)
        browser.wait("document.querySelector('.verdict') !== null")
        browser.wait("document.body.innerText.includes('eSIM Go is down')")
        browser.ask("document.documentElement.style.scrollbarWidth = 'none'")
        browser.picture(FOLDER / "on-call-page.png", whole=False)
        cause = "[...document.querySelectorAll('.cause, .cause *')].find(each => each.tabIndex >= 0)"
        browser.ask(f"{cause}.focus()")
        browser.press("Enter", 13, "\r")
        browser.wait("document.querySelector('.cause.picked .inside')?.innerText")
        browser.ask("document.querySelector('.cause').scrollIntoView({block: 'center'})")
        browser.picture(FOLDER / "on-call-attempt.png", whole=False)


if __name__ == "__main__":
    main()
