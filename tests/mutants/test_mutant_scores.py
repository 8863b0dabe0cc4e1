"""The score counts what is not equivalent, and a judgement covers one change of one place."""

from __future__ import annotations

from pathlib import Path

from tools.mutants.python_code import change, place_of, sampled
from tools.mutants.result import Judgement, Mutant, read_judgements, score, table


def mutant(status: str, after: str = "b") -> Mutant:
    return Mutant(module="m.py", place="m.f", before="a", after=after, status=status)


def test_equivalent_mutants_do_not_count_and_survivors_do() -> None:
    found = [mutant("killed"), mutant("timeout"), mutant("survived", "same"), mutant("no tests", "else")]
    result = score(
        "m.py", 9, found, [Judgement("m.f", "a", "same", "why"), Judgement("m.f", "a", "b", "killed anyway")]
    )
    assert (result.run, result.killed, result.timeouts, result.equivalent) == (4, 2, 1, 1)
    assert result.survivors == (found[3],)
    assert round(result.percent, 1) == 66.7
    assert "66.7 %" in table([result])


def test_judgements_name_their_reason(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    file.write_text(
        '[[equivalent]]\nplace = "m.f"\nwhy = "no difference"\nchanges = [{before = "a", after = "b"}]\n',
        encoding="utf-8",
    )
    assert read_judgements(file) == [Judgement("m.f", "a", "b", "no difference")]


def test_the_committed_judgements_can_be_read() -> None:
    file = Path(__file__).parents[2] / "tools/mutants/equivalent.toml"
    assert all(each.why and each.before != each.after for each in read_judgements(file))


def test_names_of_mutmut_become_places() -> None:
    assert place_of("pkg.mod.xǁOwnerǁ_method__mutmut_12") == "pkg.mod.Owner._method"
    assert place_of("pkg.mod.x__function__mutmut_3") == "pkg.mod._function"


def test_a_sample_is_the_same_every_time() -> None:
    names = [str(number) for number in range(100)]
    assert sampled(names, 10, "seed") == sampled(names, 10, "seed")
    assert len(sampled(names, 10, "seed")) == 10
    assert sampled(names, 100, "seed") == names


def test_a_change_is_what_went_and_what_came() -> None:
    assert change(["a = 1", "b = 2"], ["a = 1", "b = 3"]) == ("b = 2", "b = 3")
