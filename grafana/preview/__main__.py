"""``python -m grafana.preview``: pictures of the dashboards, from kept data or a running Prometheus."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from grafana.preview import browser, packages, stored
from grafana.preview.pictures import Kept, picture
from grafana.preview.prometheus import Prometheus, on_copy_of
from grafana.preview.queries import TimeRange

ROOT: Final = Path(__file__).parents[2]


def main() -> int:
    """The command."""
    parser = _parser()
    options = parser.parse_args()
    if options.data is None and options.prometheus is None:
        parser.error("name a kept folder (--data) or a Prometheus (--prometheus)")
    try:
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="preview-")))
            tools = packages.installed()
            packages.bundled(tools, work)
            url = options.prometheus or stack.enter_context(on_copy_of(_data_folder(options.data), options.lookback))
            contents = _contents(options, Prometheus(url))
            served = stack.enter_context(browser.serving({"/": work, **packages.public(tools)}, contents))
            options.out.mkdir(parents=True, exist_ok=True)
            for file, size in browser.draw(served, tools, list(contents), options.out):
                sys.stdout.write(f"{file} {size // 1000} kB\n")
    except (packages.ToolMissing, FileNotFoundError) as error:
        sys.stderr.write(f"preview: {error}\n")
        return 2
    except browser.PageFailed as error:
        sys.stderr.write(f"preview: a panel cannot be drawn: {error}\n")
        return 1
    return 0


def _contents(options: argparse.Namespace, prometheus: Prometheus) -> dict[str, Any]:
    whole = _played(options.data) or prometheus.data_range()
    time_range = TimeRange(options.since or whole.start, options.until or whole.end)
    kept = _kept(options.data)
    contents: dict[str, Any] = {}
    for path in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        if options.only and path.stem not in options.only:
            continue
        found = picture(json.loads(path.read_text(encoding="utf-8")), prometheus, kept, time_range)
        contents[path.stem] = found.content
        for title in found.empty:
            sys.stderr.write(f"{path.stem}: nothing to see in {title!r}\n")
    return contents


def _data_folder(kept: Path) -> Path:
    """Prometheus' data within a kept folder. Raises :class:`FileNotFoundError`."""
    for candidate in (kept / "prometheus/data", kept / "data", kept):
        if (candidate / "wal").is_dir():
            return candidate
    raise FileNotFoundError(f"no data of a Prometheus in {kept}")


def _played(kept: Path | None) -> TimeRange | None:
    """When the drill was that left the folder."""
    file = kept / "drill.json" if kept else None
    if file is None or not file.is_file():
        return None
    times = json.loads(file.read_text(encoding="utf-8"))
    return TimeRange(times["began"], times["ended"])


def _kept(folder: Path | None) -> Kept:
    def records(name: str) -> list[stored.Record] | None:
        path = folder / name if folder else None
        return stored.read(path) if path and path.is_file() else None

    return Kept(records("logs.jsonl"), records("spans.jsonl"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grafana.preview", description="Draws the dashboards without Grafana.")
    parser.add_argument("--data", type=Path, help="what a drill kept: prometheus/data, logs.jsonl, spans.jsonl")
    parser.add_argument("--prometheus", metavar="URL", help="ask this one; logs and traces still come from --data")
    parser.add_argument(
        "--since",
        type=float,
        metavar="S",
        help="seconds since the epoch; default: when the drill began, or the first sample",
    )
    parser.add_argument("--until", type=float, metavar="S", help="seconds since the epoch; default: when it ended")
    parser.add_argument("--lookback", default="30s", help="how long a silent series is still shown (kept data only)")
    parser.add_argument("--only", action="append", metavar="UID", help="this dashboard; may be repeated")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/dashboards", help="folder of the pictures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
