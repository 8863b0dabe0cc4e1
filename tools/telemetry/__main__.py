"""``python -m tools.telemetry``: writes what follows from the registry; with ``--check`` names what is out of date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tools.telemetry import constants, reference, registry


def generated() -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    for module in constants.MODULES:
        yield module.path, constants.render(module)
    yield reference.TARGET, reference.render()


def main(arguments: list[str]) -> int:
    """Writes or checks; 1 if a check finds a file out of date."""
    stale = [(path, text) for path, text in generated() if not path.exists() or path.read_text("utf-8") != text]
    for path, text in stale:
        name = path.relative_to(registry.ROOT.parent)
        if "--check" in arguments:
            print(f"{name} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
