"""The score excludes equivalent mutants, and a judgement covers one change of one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.mutants.python_code import called_at_import, change, is_in, place_of, run_at_import, sampled
from tools.mutants.result import Judgement, Mutant, outdated, read_judgements, read_results, score, table, write_results


def mutant(status: str, after: str = "b") -> Mutant:
    return Mutant(module="m.py", place="m.f", before="a", after=after, status=status)


def test_equivalent_mutants_do_not_count_and_survivors_do() -> None:
    found = [mutant("killed"), mutant("timeout"), mutant("survived", "same"), mutant("no tests", "else")]
    result = score(
        "m.py", 9, found, [Judgement("m.f", "a", "same", "why"), Judgement("m.f", "a", "b", "killed anyway")]
    )
    assert (result.run, result.killed, result.timeouts, result.equivalent) == (4, 2, (found[1],), 1)
    assert result.survivors == (found[3],)
    assert round(result.percent, 1) == 66.7
    assert "66.7 %" in table([result])


def test_a_judgement_on_a_line_that_was_edited_is_outdated() -> None:
    judged = [Judgement("pkg.mod.f", "a", after, "why") for after in ("b", "c")] + [
        Judgement("pkg.mode.f", "a", "b", "why")
    ]
    found = {("pkg.mod.f", "a", "b")}
    assert outdated(judged, lambda place: is_in(place, "src/pkg/mod.py"), found) == [judged[1]]


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
    assert set(sampled(names, 10, "seed")) < set(sampled(names, 20, "seed"))


def test_a_change_is_what_went_and_what_came() -> None:
    assert change(["a = 1", "b = 2"], ["a = 1", "b = 3"]) == ("b = 2", "b = 3")


def test_results_are_kept_for_a_later_run(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert read_results(file) == {}
    found = {"m.f__mutmut_1": mutant("killed"), "m.f__mutmut_2": mutant("survived", "c")}
    write_results(file, found)
    assert read_results(file) == found


class TestWhatRunsWhenAModuleIsImported:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plugins take most of the time of a test that does nothing."""
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def work(self, folder: Path, expected: str) -> Path:
        """As mutmut lays it out: a copy of sources and tests with all mutants in it."""
        (folder / "mutants" / "src" / "at_import").mkdir(parents=True)
        (folder / "mutants" / "pyproject.toml").touch()
        (folder / "mutants" / "src" / "at_import" / "__init__.py").write_text(
            "import os\nCONSTANT = os.environ['MUTANT_UNDER_TEST']\nif CONSTANT == 'broken':\n    raise TypeError\n"
        )
        (folder / "mutants" / "test_it.py").write_text(
            f"import at_import\ndef test_it():\n    assert at_import.CONSTANT in {expected}\n"
        )
        return folder

    def test_is_what_the_module_calls_itself_and_what_that_calls(self) -> None:
        source = """
def later(): return used()
def used(): return 1
def within(): return 2
def listed(): return within()
def decorated(): return 3
def default(): return 4
TABLE = {"a": listed()}
class Kind:
    field = default()
    def method(self): return later()
LATER = lambda: later()
VALUE: int = decorated()
"""
        assert called_at_import(source) == {"listed", "within", "default", "decorated"}

    def test_is_mutated_in_a_python_of_its_own(self, tmp_path: Path) -> None:
        names = ["seen", "broken", "unseen"]
        assert run_at_import(self.work(tmp_path, "('', 'unseen')"), names, ["test_it.py"], 2) == {
            "seen": "killed",
            "broken": "killed",
            "unseen": "survived",
        }

    def test_tests_that_fail_without_a_mutant_say_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="without a mutant"):
            run_at_import(self.work(tmp_path, "('unseen',)"), ["unseen"], ["test_it.py"], 1)
