"""Draws the diagrams of docs/ as docs/pictures/*.svg, with mermaid from npm and Chromium: the site loads neither.

PYTHONPATH=tests python -m tools.site.diagrams
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from support.browser import Browser, running_chromium
from tools.site.hooks import ROOT, digest

MERMAID: Final = "mermaid@11.16.0"
PICTURES: Final = ROOT / "docs/pictures"
_FENCE: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.M | re.S)
_STYLE: Final = "svg { background: white }"


def main() -> None:
    """Draws what is not drawn yet and removes what no page shows any more."""
    wanted = {
        f"{page.stem}-{digest(source)}.svg": source
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for source in _FENCE.findall(page.read_text(encoding="utf-8"))
    }
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.glob("*-????????.svg"):
        if old.name not in wanted:
            old.unlink()
    missing = {name: source for name, source in wanted.items() if not (PICTURES / name).is_file()}
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder, running_chromium() as browser:
        browser.open(_page(Path(folder)).as_uri())
        browser.wait("typeof mermaid !== 'undefined'")
        for name, source in missing.items():
            (PICTURES / name).write_text(_svg(browser, name, source), encoding="utf-8")
            print(PICTURES / name)


def _page(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not on PATH")
    subprocess.run([npm, "pack", MERMAID, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("mermaid-*.tgz")
    shutil.unpack_archive(archive, folder, filter="data")
    page = folder / "page.html"
    page.write_text('<meta charset="utf-8"><body><script src="package/dist/mermaid.min.js"></script>', encoding="utf-8")
    return page


def _svg(browser: Browser, name: str, source: str) -> str:
    settings = {"startOnLoad": False, "theme": "neutral", "htmlLabels": False, "flowchart": {"htmlLabels": False}}
    # Only an image of its own size can be read on a phone, by scrolling; breaks in HTML are not XML.
    svg: str = browser.ask(
        f"(mermaid.initialize({json.dumps(settings)}),"
        f" mermaid.render({json.dumps('d' + name[-12:-4])}, {json.dumps(source)})).then(each => each.svg)"
    )
    return svg.replace("<br>", "<br/>").replace("<style>", f"<style>{_STYLE}", 1) + "\n"


if __name__ == "__main__":
    main()
