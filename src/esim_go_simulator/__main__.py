"""``python -m esim_go_simulator``: the simulator without the rest of the command line."""

from __future__ import annotations

import argparse
import sys

from catalog_sync.programs import run_program
from esim_go_simulator import command


def main() -> int:
    """Run the simulator with the options of ``catalog-sync simulate``."""
    parser = argparse.ArgumentParser(prog="catalog-sync simulate")
    command.add_arguments(parser)
    return run_program(parser.prog, lambda: command.run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
