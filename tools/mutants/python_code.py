"""Mutants of Python modules, made and run by mutmut.

mutmut works on a copy of the tree below a folder that holds its settings, so each module gets a folder of its own.
Tests run against a copy with all mutants in it, and each mutant only against the tests that reach its function.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.mutants.result import Mutant

ROOT = Path(__file__).parents[2]
MUTMUT = Path(sys.executable).with_name("mutmut")
_RESULT = re.compile(r"^\s+(\S+): (.+)$", re.MULTILINE)
_DEFINED = re.compile(r"^(?:async )?def [^(]+")
"""The name says which mutant it is; what follows it may be changed as well."""
_CLASS_SEPARATOR = "ǁ"
PYTEST_OPTIONS = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tools.mutants.plugin"]
_SPARE_SECONDS = 5.0
"""Added to what the tests of a mutant take without it, before mutmut multiplies that by 15 and gives up after it."""
_LONGEST = 600.0
"""Seconds for the tests of one mutant in a Python of its own."""


def generated(module: str) -> dict[str, tuple[str, str]]:
    """All mutants of a module: by name, the lines that go and those that come instead."""
    from mutmut.mutation.file_mutation import (
        mutate_file_contents,  # slow to load, and every test run collects this file
    )
    from mutmut.utils.format_utils import get_mutant_name

    path = Path(module)
    mutated = mutate_file_contents(module, (ROOT / path).read_text(encoding="utf-8"))
    lines = mutated.code.splitlines()

    def body(function: str) -> list[str]:
        span = mutated.line_span_by_function_name[function]
        return [_DEFINED.sub("def ", line.strip()) for line in lines[span.start - 1 : span.end]]

    return {
        get_mutant_name(path, name): change(body(f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"), body(name))
        for name in mutated.mutant_names
    }


def sampled(names: Sequence[str], limit: int, seed: str) -> list[str]:
    """All names, or a sample that is the same on every machine; a larger one holds the smaller ones."""
    if len(names) <= limit:
        return list(names)
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled[:limit])


def prepare(work: Path, module: str, tests: Sequence[str]) -> None:
    """A folder for mutmut: its settings, with links to the sources, the tests and the pages that tests read."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("src", "tests", "docs"):
        (work / name).symlink_to(ROOT / name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = ["[tool.pytest.ini_options]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in project["tool"]["pytest"]["ini_options"].items()]
    lines += [
        "",
        "[tool.mutmut]",
        'source_paths = ["src"]',
        f"only_mutate = {json.dumps([module])}",
        'also_copy = ["docs"]',
        f"pytest_add_cli_args_test_selection = {json.dumps(list(tests))}",
        f"pytest_add_cli_args = {json.dumps(PYTEST_OPTIONS)}",
        f"timeout_constant = {_SPARE_SECONDS}",
        "use_git_change_detection = false",
    ]
    (work / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(work: Path, names: Sequence[str], processes: int) -> None:
    """Runs the named mutants. Raises ``RuntimeError`` if the tests fail without any mutant."""
    # Seeded examples: a mutant that lives is to live in the next run too.
    environment = {**os.environ, "CI": "true", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    log = work / "mutmut.log"
    with log.open("wb") as output:
        ended = subprocess.run(
            [MUTMUT, "run", "--max-children", str(processes), *names],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        raise RuntimeError(f"mutmut ended with {ended.returncode}; see {log}")


def collect(work: Path, module: str, mutants: Mapping[str, tuple[str, str]]) -> dict[str, Mutant]:
    """What became of these mutants, by name."""
    command = [str(MUTMUT), "results", "--all", "true"]
    answer = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
    statuses = dict(_RESULT.findall(answer.stdout))
    return {
        name: Mutant(module=module, place=place_of(name), before=before, after=after, status=statuses[name])
        for name, (before, after) in mutants.items()
    }


def called_at_import(source: str) -> set[str]:
    """The functions of a module that run when it is imported: mutmut chooses a mutant only after that."""
    module = ast.parse(source)
    functions = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef)}
    pending: list[ast.AST] = [each for each in module.body if each not in functions.values()]
    called: set[str] = set()
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node not in functions.values():
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in functions and name not in called:
                called.add(name)
                pending.append(functions[name])
        pending.extend(ast.iter_child_nodes(node))
    return called


def run_at_import(work: Path, names: Sequence[str], tests: Sequence[str], processes: int) -> dict[str, str]:
    """What becomes of mutants that are chosen before the module is imported.

    Each gets a Python of its own, which takes seconds. Raises ``RuntimeError`` if the tests fail without any mutant.
    """
    if not names:
        return {}
    if _tests_of(work, "", tests) != "survived":
        raise RuntimeError(f"the tests fail in {work / 'mutants'} without a mutant")
    with ThreadPoolExecutor(processes) as pool:
        return dict(zip(names, pool.map(lambda name: _tests_of(work, name, tests), names), strict=True))


def _tests_of(work: Path, name: str, tests: Sequence[str]) -> str:
    folder = work / "mutants"
    environment = {
        **os.environ,
        "CI": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(ROOT)]),
        "MUTANT_UNDER_TEST": name,
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--rootdir=.", *PYTEST_OPTIONS]
    try:
        ended = subprocess.run(
            [*command, *tests],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed" if ended.returncode else "survived"


def place_of(name: str) -> str:
    """``package.module.Class.function`` from the name of a mutant."""
    module, _, mangled = name.rpartition(".")
    function = mangled.rpartition("__mutmut_")[0]
    if function.startswith(f"x{_CLASS_SEPARATOR}"):
        _, owner, function = function.split(_CLASS_SEPARATOR)
        return f"{module}.{owner}.{function}"
    return f"{module}.{function.removeprefix('x_')}"


def is_in(place: str, module: str) -> bool:
    """Whether the function is in the module of this path."""
    return place.startswith(module.removeprefix("src/").removesuffix(".py").replace("/", ".") + ".")


def change(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """The lines that went and those that came."""
    difference = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
    gone, came = (" ".join(line[2:] for line in difference if line[0] == sign) for sign in "-+")
    return gone, came
