"""Writes every generated file. ``--check`` only lists the outdated ones and ends with 1 if there are any."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana.generate.files import generated
from grafana.generate.settings import RUNBOOK_BASE, Settings

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Writes or checks; 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generate", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument(
        "--runbook-base", default=RUNBOOK_BASE, help="where alerts find docs/alerts.md (default: %(default)s)"
    )
    options = parser.parse_args()
    outdated = []
    for name, text in generated(Settings(runbook_base=options.runbook_base)).items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in outdated:
        sys.stdout.write(f"{'out of date' if options.check else 'written'}: {name}\n")
    return 1 if options.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
