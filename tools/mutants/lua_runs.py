"""Runs tests against mutants of Lua scripts: each in a process forked from one that has imported what tests need."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tools.mutants.lua import Change, changed, changes, pieces, with_piece
from tools.mutants.python_code import PYTEST_OPTIONS, ROOT
from tools.mutants.result import Mutant

_PRELOADED = (
    "hypothesis",
    "pytest_asyncio.plugin",
    "catalog_sync.store.backend",
    "support.published",
    "support.redis_server",
)


def run(
    module: str, names: Sequence[str], tests: Sequence[str], options: Sequence[str], processes: int, log: Path
) -> list[Mutant]:
    """Runs every mutant of the named scripts. Raises ``RuntimeError`` if the tests fail without any mutant."""
    os.environ["CI"] = "true"
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "tests"))
    loaded = importlib.import_module(module)
    for preloaded in _PRELOADED:
        importlib.import_module(preloaded)
    scripts = {name: text for name, text in vars(loaded).items() if isinstance(text, str) and name.strip("_").isupper()}
    # What is imported before pytest starts has no rewritten assertions; pytest would warn of that.
    known = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    arguments = [
        "-x",
        "-q",
        "-W",
        known,
        *PYTEST_OPTIONS,
        "-p",
        "no:schemathesis",
        # What a broken-off test leaves behind is not what becomes of the mutant.
        "-p",
        "no:unraisableexception",
        *tests,
        *options,
    ]
    started = time.monotonic()
    if _finish(_start(loaded, {}, arguments, log, "no mutant"), give_up=started + 600) != 0:
        raise RuntimeError(f"the tests of {module} fail without a mutant; see {log}")
    bound = 20 + 5 * (time.monotonic() - started)
    planned = list(_planned(scripts, names))
    mutants = []
    running: dict[int, tuple[str, Change, float]] = {}
    while planned or running:
        while planned and len(running) < processes:
            name, change, replaced = planned.pop()
            title = f"{name}: {change.after.strip() or 'without ' + change.before.strip()}"
            running[_start(loaded, replaced, arguments, log, title)] = (name, change, time.monotonic() + bound)
        for pid, (name, change, give_up) in list(running.items()):
            code = _ended(pid, give_up)
            if code is not None:
                del running[pid]
                mutants.append(_mutant(loaded, name, change, code))
        time.sleep(0.02)
    return mutants


def _planned(scripts: Mapping[str, str], names: Sequence[str]) -> Iterator[tuple[str, Change, dict[str, str]]]:
    alone = pieces(scripts)
    for name in names:
        for change in changes(alone[name]):
            yield name, change, with_piece(scripts, alone[name], changed(alone[name], change))


def _start(module: ModuleType, replaced: Mapping[str, str], arguments: Sequence[str], log: Path, title: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    code = 70
    try:
        for name, text in replaced.items():
            setattr(module, name, text)
        with log.open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = int(pytest.main(list(arguments)))
        print(f"{code} {title}")
    except BaseException:
        # The process that forked this one is not to go on twice.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(pid: int, give_up: float) -> int | None:
    """The exit code, ``-1`` after the time is up, ``None`` while it runs. What it started ends with it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found and time.monotonic() < give_up:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if not found:
        os.waitpid(pid, 0)
        return -1
    return os.waitstatus_to_exitcode(status)


def _finish(pid: int, *, give_up: float) -> int:
    while (code := _ended(pid, give_up)) is None:
        time.sleep(0.02)
    return code


def _mutant(module: ModuleType, name: str, change: Change, code: int) -> Mutant:
    status = {-1: "timeout", int(pytest.ExitCode.OK): "survived", int(pytest.ExitCode.TESTS_FAILED): "killed"}.get(code)
    if status is None:
        raise RuntimeError(f"pytest ended with {code} under {name}: {change.after.strip()}")
    return Mutant(
        module=f"{module.__name__} {name}",
        place=name,
        before=change.before.strip(),
        after=change.after.strip(),
        status=status,
    )
