"""``python -m esim_go_simulator``: the simulator without the rest of the command line."""

from __future__ import annotations

import sys

from catalog_sync.terminal.arguments import run_single_command
from esim_go_simulator.command import EXAMPLES, simulate


def main() -> int:
    """Run the simulator with the options of ``catalog-sync simulate``."""
    return run_single_command("catalog-sync simulate", simulate, sys.argv[1:], *EXAMPLES)


if __name__ == "__main__":
    sys.exit(main())
