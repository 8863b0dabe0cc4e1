"""``python -m tools.mutants [target ...]``: prints the score of each module; exit 1 if one is below the least."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.mutants import lua_runs, python_code
from tools.mutants.result import (
    Judgement,
    Mutant,
    Score,
    outdated,
    read_judgements,
    read_results,
    score,
    table,
    write_results,
)

HERE = Path(__file__).parent
WORK = python_code.ROOT / ".cache" / "mutants"


def python_target(
    name: str, target: Mapping[str, Any], judgements: list[Judgement], options: argparse.Namespace
) -> list[Score]:
    """Each module of the target against the target's tests."""
    scores = []
    for module in target["modules"]:
        work = WORK / name / Path(module).stem
        results = work.with_suffix(".json")
        generated = python_code.generated(module)
        known = read_results(results) if options.again or options.survivors else {}
        known = {each: mutant for each, mutant in known.items() if generated.get(each) == (mutant.before, mutant.after)}
        sample = python_code.sampled(list(generated), options.sample, seed=module)
        chosen = {each: generated[each] for each in dict.fromkeys([*known, *sample])}
        due = [] if options.again else [each for each in chosen if not _is_settled(known.get(each), judgements)]
        if due:
            tests = [*target["tests"], *target.get("options", [])]
            python_code.prepare(work, module, tests)
            python_code.run(work, due, options.processes)
            found = python_code.collect(work, module, {each: chosen[each] for each in due})
            at_import = python_code.called_at_import((python_code.ROOT / module).read_text(encoding="utf-8"))
            early = [
                each
                for each, mutant in found.items()
                if not _is_settled(mutant, judgements) and mutant.place.rpartition(".")[2] in at_import
            ]
            for each, status in python_code.run_at_import(work, early, tests, options.processes).items():
                found[each] = dataclasses.replace(found[each], status=status)
            known |= found
            write_results(results, known)
        mutants = [known[each] for each in chosen if each in known]
        scores.append(score(module, len(generated), mutants, judgements))
        report(scores[-1])
        changes = {(python_code.place_of(each), *lines) for each, lines in generated.items()}
        report_outdated(outdated(judgements, functools.partial(python_code.is_in, module=module), changes))
    return scores


def _is_settled(mutant: Mutant | None, judgements: list[Judgement]) -> bool:
    return mutant is not None and (mutant.status == "killed" or any(each.covers(mutant) for each in judgements))


def lua_target(name: str, target: Mapping[str, Any], judgements: list[Judgement], processes: int) -> list[Score]:
    """Each script of the target against the target's tests."""
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    scores = []
    for script in target["scripts"]:
        mutants = lua_runs.run(target["module"], [script], target["tests"], target.get("options", []), processes, log)
        scores.append(score(f"{target['module']} {script}", len(mutants), mutants, judgements))
        report(scores[-1])
        changes = {(each.place, each.before, each.after) for each in mutants}
        report_outdated(outdated(judgements, script.__eq__, changes))
    return scores


def report(result: Score) -> None:
    """A module's survivors, and what did not end, as soon as they are known."""
    print(f"{result.module}: {result.percent:.1f} %", flush=True)
    for mutant in (*result.survivors, *result.timeouts):
        print(f"  {mutant.status} in {mutant.place}\n    - {mutant.before}\n    + {mutant.after}", flush=True)


def report_outdated(judgements: list[Judgement]) -> None:
    """Judgements on lines that were edited since."""
    for each in judgements:
        print(f"  judged, but no mutant any more: {each.place}\n    - {each.before}\n    + {each.after}", flush=True)


def main() -> int:
    """The program."""
    settings = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))
    targets: dict[str, Any] = settings["target"]
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="target", help=f"of {', '.join(targets)}; all where none is named"
    )
    parser.add_argument("--sample", type=int, default=settings["sample"], help="mutants per module (%(default)s)")
    parser.add_argument("--least", type=float, default=settings["least"], help="score in percent (%(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true", help="report the last run of the Python modules anew")
    how.add_argument(
        "--survivors", action="store_true", help="run only what survived or did not end in the last run, or was not run"
    )
    parser.add_argument("--module", help="only modules or scripts whose name ends like this")
    options = parser.parse_args()
    unknown = set(options.targets) - targets.keys()
    if unknown:
        parser.error(f"unknown target: {', '.join(sorted(unknown))}")
    judgements = read_judgements(HERE / "equivalent.toml")
    scores: list[Score] = []
    for name in options.targets or targets:
        target = targets[name]
        part = "scripts" if "scripts" in target else "modules"
        if options.module:
            target[part] = [each for each in target[part] if each.endswith(options.module)]
        if part == "scripts":
            scores += lua_target(name, target, judgements, options.processes)
        else:
            scores += python_target(name, target, judgements, options)
    print(f"\nAt most {options.sample} mutants per Python module, chosen by a fixed seed.\n{table(scores)}")
    low = [each.module for each in scores if each.percent < options.least]
    if low:
        print(f"below {options.least:g} %: {', '.join(low)}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
