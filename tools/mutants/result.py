"""What became of a mutant, and which survivors were judged to be equivalent."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path

KILLED = frozenset({"killed", "timeout"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one place, and how the tests took it."""

    module: str
    place: str
    """The function or the script."""
    before: str
    after: str
    status: str
    """``killed``, ``timeout``, ``survived`` or ``no tests``."""

    @property
    def killed(self) -> bool:
        """Whether the tests noticed it."""
        return self.status in KILLED


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A survivor that changes nothing that a caller can observe, and why."""

    place: str
    before: str
    after: str
    why: str

    def covers(self, mutant: Mutant) -> bool:
        """Whether it is about this mutant."""
        return (self.place, self.before, self.after) == (mutant.place, mutant.before, mutant.after)


def outdated(
    judgements: Iterable[Judgement], owns: Callable[[str], bool], found: Container[tuple[str, str, str]]
) -> list[Judgement]:
    """Judgements on places of a module for which ``owns`` holds, that cover none of the changes ``found`` there."""
    return [each for each in judgements if owns(each.place) and (each.place, each.before, each.after) not in found]


def read_judgements(path: Path) -> list[Judgement]:
    """Every ``[[equivalent]]`` of the file."""
    return [
        Judgement(each["place"], change["before"], change["after"], each["why"])
        for each in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
        for change in each["changes"]
    ]


def write_results(path: Path, mutants: Mapping[str, Mutant]) -> None:
    """Keeps what became of a module's mutants, by name; :func:`read_results` is the inverse."""
    path.write_text(json.dumps({name: dataclasses.asdict(each) for name, each in mutants.items()}), encoding="utf-8")


def read_results(path: Path) -> dict[str, Mutant]:
    """What was kept; nothing if there was no run."""
    if not path.exists():
        return {}
    return {name: Mutant(**each) for name, each in json.loads(path.read_text(encoding="utf-8")).items()}


@dataclasses.dataclass(frozen=True)
class Score:
    """How many mutants of a module the tests kill, of those that are not equivalent."""

    module: str
    generated: int
    run: int
    killed: int
    timeouts: tuple[Mutant, ...]
    """Of those that were killed: what never ended, or did not on a machine with much other work."""
    equivalent: int
    survivors: tuple[Mutant, ...]

    @property
    def percent(self) -> float:
        """Killed mutants per mutant that is not equivalent."""
        counted = self.run - self.equivalent
        return 100.0 * self.killed / counted if counted else 100.0


def score(module: str, generated: int, mutants: Sequence[Mutant], judgements: Iterable[Judgement]) -> Score:
    """The score of one module."""
    known = list(judgements)
    living = [each for each in mutants if not each.killed]
    survivors = tuple(each for each in living if not any(judgement.covers(each) for judgement in known))
    return Score(
        module=module,
        generated=generated,
        run=len(mutants),
        killed=len(mutants) - len(living),
        timeouts=tuple(each for each in mutants if each.status == "timeout"),
        equivalent=len(living) - len(survivors),
        survivors=survivors,
    )


def table(scores: Sequence[Score]) -> str:
    """The scores as lines."""
    width = max(len(each.module) for each in scores)
    lines = [f"{'module':{width}}  mutants    run  killed  (timeout)  equivalent  survived   score"]
    lines += [
        f"{each.module:{width}}  {each.generated:7}  {each.run:5}  {each.killed:6}  {len(each.timeouts):9}"
        f"  {each.equivalent:10}  {len(each.survivors):8}  {each.percent:5.1f} %"
        for each in scores
    ]
    return "\n".join(lines)
