"""``catalog-sync``: arguments, and what becomes of every error."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from catalog_sync import exit_codes
from catalog_sync.terminal import output
from catalog_sync.terminal.signals import StopRequested, StopSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM: Final = "catalog-sync"

_SIMULATE_HELP: Final = "run a simulator of the eSIM Go API, with fault scenarios"
_EPILOG: Final = "Every command takes --json: one JSON object on stdout and nothing else, also when it fails."

_ON_AN_INCIDENT: Final = ("ack", "close", "silence", "resend")
"""Actions of ``alerts`` that need an ID."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing and exiting, so that ``--json`` covers wrong arguments too."""

    def error(self, message: str) -> NoReturn:
        raise output.UsageError(self.prog, message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing but ``SystemExit`` of a hard stop is ever raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output.accept_any_text()
    answer = output.Answer(as_json=_wants_json(arguments))
    signals = StopSignals()
    try:
        return _run(_parse(arguments), answer, signals, own_process=argv is None)
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else exit_codes.OK
    except StopRequested as stop:
        return answer.stopped(stop.number)
    except KeyboardInterrupt:
        return answer.stopped(2)
    except BrokenPipeError:
        # What is still buffered goes nowhere, and must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except output.UsageError as error:
        return answer.usage_error(error)
    except Exception as error:  # noqa: BLE001  # the last stop: classified, redacted, reported with its correlation ID
        from catalog_sync.programs import missing_extra

        return answer.failed(missing_extra(error) or error)


def _run(args: argparse.Namespace, answer: output.Answer, signals: StopSignals, *, own_process: bool) -> int:
    if args.command == "simulate":  # it has its own handling of signals
        return _command("esim_go_simulator.command", "run")(args)
    signals.install()
    from catalog_sync.programs import know_secrets, log_uncaught

    know_secrets()
    if own_process:
        log_uncaught()
    code = _command(args.module, args.function)(args, answer, signals)
    sys.stdout.flush()  # so that a reader that has left is noticed here
    return code


def _command(module: str, function: str) -> Callable[..., int]:
    found: Callable[..., int] = getattr(importlib.import_module(module), function)
    return found


def _wants_json(arguments: Sequence[str]) -> bool:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM,
        description="Copies the eSIM Go catalogue into Redis, whole or not at all, and says what happened.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version() if "--version" in arguments else "")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    _add_demo(commands)
    _add_run(commands)
    _add_search(commands)
    _add(commands, "show", "read", "show one bundle of the catalogue").add_argument("name", metavar="NAME")
    _add(commands, "status", "status", "show catalogue, last sync, lock, breakers, budgets and alerts")
    _add_simulate(commands, arguments)
    _add_alerts(commands)
    _add(commands, "doctor", "doctor", "check every connection and say what to do")
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.error("a command is missing; catalog-sync --help lists them")
    _check(parser, args)
    return args


def _add(commands: argparse._SubParsersAction[_Parser], name: str, module: str, text: str) -> _Parser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    parser.set_defaults(module=module if "." in module else f"catalog_sync.cli.{module}", function=name)
    return parser


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    demo = _add(
        commands, "demo", "catalog_sync.demo.command", "the whole story on this machine: sync, faults, outage, recovery"
    )
    demo.add_argument("--fast", action="store_true", help="a smaller catalogue and a shorter outage")


def _add_alerts(commands: argparse._SubParsersAction[_Parser]) -> None:
    alerts = _add(
        commands, "alerts", "alerts", "show incidents, outbox and dead letters; act on an incident; or send a test"
    )
    actions = ("list", "test", *_ON_AN_INCIDENT)
    alerts.add_argument("action", nargs="?", choices=actions, default="list", help="(default: %(default)s)")
    alerts.add_argument(
        "id", nargs="?", type=_text, metavar="ID", help="of the incident; for `resend` also of a letter"
    )
    alerts.add_argument(
        "--for",
        dest="seconds",
        type=_duration,
        default=14_400,
        metavar="T",
        help="of `silence`, as 30m, 4h (default), 2d",
    )
    alerts.add_argument(
        "--severity", type=str.upper, choices=("LOW", "MEDIUM", "HIGH", "CRITICAL"), default="HIGH", help="of the test"
    )
    alerts.add_argument("--channel", type=_text, action="append", metavar="C", help="of the test; may be repeated")


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = _add(commands, "run", "run", "sync the catalogue, or a part of it")
    scope = run.add_mutually_exclusive_group()
    scope.add_argument("--group", type=_text, metavar="G", help="renew this group only")
    scope.add_argument("--country", type=_text, metavar="ISO", help="renew the bundles of this country only")
    scope.add_argument("--bundle", type=_text, metavar="NAME", help="renew this bundle only")
    run.add_argument("--force", action="store_true", help="publish although a guard objects")
    run.add_argument(
        "--if-due",
        action="store_true",
        help="do nothing unless the catalogue is older than CATALOG_SYNC_EVERY_S and the supplier may be asked again",
    )


def _add_search(commands: argparse._SubParsersAction[_Parser]) -> None:
    search = _add(commands, "search", "read", "search the catalogue")
    search.add_argument("--country", type=_text, metavar="ISO", help="country code, as the supplier spells it")
    search.add_argument("--group", type=_text, metavar="G")
    search.add_argument("--region", type=_text, metavar="R")
    search.add_argument("--min-days", type=_count, metavar="N", help="shortest duration in days")
    search.add_argument("--max-days", type=_count, metavar="N", help="longest duration in days")
    search.add_argument("--text", type=_text, metavar="T", help="part of the name or description")
    search.add_argument("--limit", type=_count, default=50, metavar="N", help="0: all (default: %(default)s)")
    search.add_argument("--offset", type=_count, default=0, metavar="N", help="leave out the first N")


def _add_simulate(commands: argparse._SubParsersAction[_Parser], arguments: Sequence[str]) -> None:
    """The simulator's own parser, or for all other commands a stand-in that costs nothing."""
    if next((word for word in arguments if not word.startswith("-")), None) == "simulate":
        from esim_go_simulator.command import add_parser

        add_parser(commands)  # type: ignore[arg-type]  # of our own kind of parser
    else:
        commands.add_parser("simulate", help=_SIMULATE_HELP)


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.command == "run" and args.if_due and (args.group or args.country or args.bundle):
        parser.error("--if-due is about the whole catalogue: it cannot be combined with --group, --country or --bundle")
    if args.command == "alerts" and (args.id is None) is (args.action in _ON_AN_INCIDENT):
        needs = "the ID of an incident, see catalog-sync alerts" if args.id is None else "no ID"
        parser.error(f"alerts {args.action} needs {needs}")
    if args.command != "search" or args.min_days is None or args.max_days is None:
        return
    if args.min_days > args.max_days:
        parser.error(f"--min-days {args.min_days} is more than --max-days {args.max_days}")


def _text(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def _duration(value: str) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a number and one of s, m, h, d, as in 30m, not {value!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 999999999, not {value!r}")
    return int(value)


def _version() -> str:
    from importlib.metadata import version

    return f"{PROGRAM} {version('catalog-sync')}"


if __name__ == "__main__":
    sys.exit(main())
