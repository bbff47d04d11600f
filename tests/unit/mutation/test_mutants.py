"""The mistakes that scripts/mutate makes, and the tests that it chooses to notice them."""

from __future__ import annotations

import ast
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.mutation import given
from tests.mutation.checkout import Checkout, run_pytest
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.recording import FIRST, FIRST_FILES, SLOWEST_S, Record, Recording
from tests.mutation.run import Trial, Verdicts, choose

SOURCE = '''"""A page."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import os
LOUD: "bool" = True
def f(a: int = 1, b: bool = False) -> int:
    """Say what it does."""
    assert a is not None
    if a > 1 and not b:
        a += 1
    print(f"{a == 1}")
    return a if b else -a
class C:
    flag = False
    def g(self, names: list[str]) -> list[str]:
        return [each for each in names if each in ("ä", "b")]
'''


def found(tmp_path: Path, source: str) -> dict[tuple[int, str], str]:
    """By line and kind, what the first such mutant of the source makes of it."""
    path = tmp_path / "page.py"
    path.write_text(source, encoding="utf-8")
    changed: dict[tuple[int, str], str] = {}
    for mutant in find_mutants(tmp_path, tmp_path):
        text = mutant.apply(path.read_bytes()).decode()
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(source)), mutant
        changed.setdefault((mutant.line, mutant.kind), text.splitlines()[mutant.line - 1].strip())
    return changed


def test_each_kind_of_mistake_is_made(tmp_path: Path) -> None:
    """A condition, a comparison, and/or, a statement of a function or a boolean is changed where it stands."""
    assert found(tmp_path, SOURCE) == {
        (5, "boolean flipped"): 'LOUD: "bool" = False',
        (6, "boolean flipped"): "def f(a: int = 1, b: bool = True) -> int:",
        (9, "and/or swapped"): "if (a > 1 or not b):",
        (9, "comparison swapped"): "if (a >= 1) and not b:",
        (9, "condition negated"): "if (not (a > 1 and not b)):",
        (10, "statement dropped"): "pass",
        (11, "statement dropped"): "pass",
        (12, "condition negated"): "return a if (not (b)) else -a",
        (12, "statement dropped"): "pass",
        (14, "boolean flipped"): "flag = True",
        (16, "comparison swapped"): "return [each for each in names if (each not in ('ä', 'b'))]",
        (16, "statement dropped"): "pass",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a == b", "a != b"),
        ("a < b", "a <= b"),
        ("a >= b", "a > b"),
        ("a is b", "a is not b"),
        ("a in b", "a not in b"),
    ],
)
def test_a_comparison_becomes_its_neighbour(before: str, after: str, tmp_path: Path) -> None:
    """Equality and membership become their opposites, an order takes in or leaves out its bound; and back."""
    for one, other in ((before, after), (after, before)):
        assert found(tmp_path, f"x = {one}\n") == {(1, "comparison swapped"): f"x = ({other})"}


def test_each_link_of_a_chain_is_compared_otherwise(tmp_path: Path) -> None:
    """A chained comparison has a mutant for each of its operators."""
    (tmp_path / "page.py").write_text("x = 1 < a < 3\n", encoding="utf-8")
    assert {each.after for each in find_mutants(tmp_path, tmp_path / "page.py")} == {"(1 <= a < 3)", "(1 < a <= 3)"}


def test_what_makes_no_difference_is_not_dropped(tmp_path: Path) -> None:
    """A function that ends with `return None` gives null without it too; an earlier one is dropped."""
    source = "def f(a):\n    if a:\n        return None\n    g()\n    return None\n"
    assert [line for line, kind in found(tmp_path, source) if kind == "statement dropped"] == [3, 4]


def test_what_a_class_declares_of_itself_is_left(tmp_path: Path) -> None:
    """That values are frozen says nothing about what a program does; other words of a decorator do."""
    assert found(tmp_path, "@dataclass(frozen=True, order=True)\nclass C:\n    pass\n") == {
        (1, "boolean flipped"): "@dataclass(frozen=True, order=False)"
    }


def test_a_mutant_is_told_on_one_line(tmp_path: Path) -> None:
    """Who reads of a survivor sees the file, the line and what was changed."""
    (tmp_path / "page.py").write_text(
        "def f(a):\n    g(\n        a,\n    )\n    return a or\\\n  1\n", encoding="utf-8"
    )
    assert [each.describe() for each in find_mutants(tmp_path, tmp_path)] == [
        "page.py:2: statement dropped: `g( a, )`",
        "page.py:5: statement dropped: `return a or\\ 1`",
        "page.py:5: and/or swapped: `a or\\ 1` became `(a and 1)`",
    ]


def test_near_and_quick_tests_come_first() -> None:
    """Of the tests that run the line, those beside its file come first, slow tests last and very slow ones never; where
    none does it may be noticed by those that run anything of the file, and what runs at import by all. Of those that
    come together the ones of the fullest test file come before the others."""
    seconds = {
        "unit/yaql/a.py::quick": 0.01,
        "unit/yaql/a.py::slow": 2.0,
        "unit/yaql/a.py::never": SLOWEST_S + 1,
        "unit/yaql/b.py::second": 0.02,
        "unit/yaql/b.py::third": 0.02,
        "unit/c.py::quick": 0.01,
        "unit/d.py::other": 0.01,
    }
    lines = {
        1: ["unit/yaql/a.py::slow", "unit/yaql/b.py::second", "unit/yaql/a.py::never", "unit/c.py::quick"],
        2: ["unit/yaql/a.py::quick", "unit/yaql/b.py::second", "unit/yaql/b.py::third"],
        3: [],
    }
    recording = Recording([Record(seconds, {"src/yaql/page.py": lines})])

    def chosen(line: int, path: str = "src/yaql/page.py", in_function: bool = True) -> list[list[str]]:
        stages = recording.stages_of(Mutant(path, line, line, 0, 0, "", "", "", in_function))
        return [[test.removeprefix("unit/") for test in stage] for stage in stages]

    fullest, other = ["yaql/b.py::second", "yaql/b.py::third"], ["yaql/a.py::quick"]
    assert chosen(1) == [["yaql/b.py::second"], ["c.py::quick"], ["yaql/a.py::slow"]]
    assert chosen(2) == [fullest, other]
    assert chosen(3) == [[*other, *fullest], ["c.py::quick"], ["yaql/a.py::slow"]]
    assert chosen(2, in_function=False) == [[*other, *fullest], ["c.py::quick"], ["d.py::other"], ["yaql/a.py::slow"]]
    quick = ["c.py::quick", "d.py::other"]
    assert chosen(1, "src/other.py") == [[*other, *fullest], quick, ["yaql/a.py::slow"]]


def test_of_many_tests_the_most_special_ones_come_first() -> None:
    """Those of which the largest part of what they run is in the file, quick ones of few test files; all others come
    after them."""
    special = [f"unit/special.py::{number:02}" for number in range(FIRST)]
    others = [f"unit/{number}.py::general" for number in range(FIRST_FILES)]
    seconds = dict.fromkeys([*special, *others], 0.01) | {"unit/special.py::slow": 2.0}
    lines = {"src/page.py": {1: [*seconds]}, "src/other.py": {line: others for line in range(9)}}
    recording = Recording([Record(seconds, lines)])
    first, *rest = recording.stages_of(Mutant("src/page.py", 1, 1, 0, 0, "", "", "", True))
    assert first == special
    assert sorted(test for stage in rest for test in stage) == sorted([*others, "unit/special.py::slow"])
    first, *_ = recording.stages_of(Mutant("src/other.py", 1, 1, 0, 0, "", "", "", False))
    assert first[:FIRST_FILES] == others, "no tests of further files"
    assert len(first) == FIRST_FILES


def test_a_sample_stays_when_the_code_changes(tmp_path: Path) -> None:
    """The same seed chooses the same mistakes, another seed others; a line before them moves them and changes none, and
    of fewer they are the first."""
    path = tmp_path / "page.py"

    def chosen(source: str, seed: int = 1, count: int = 20) -> list[str]:
        path.write_text(source, encoding="utf-8")
        return [mutant.key() for mutant in choose(find_mutants(tmp_path, path), count, seed)]

    source = "".join(f"x{place} = {place} == 1\n" * 2 for place in range(40))
    assert len(set(chosen(source))) == 20
    assert chosen(f"import os\n\n{source}") == chosen(source)
    assert chosen(source, count=5) == chosen(source)[:5]
    assert set(chosen(source, seed=2)) != set(chosen(source))
    assert len(set(chosen(f"y = 1 < 2\n{source}")) - set(chosen(source))) <= 1


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """A run tries first what no run before it has tried, then what survived, and never again what was noticed."""
    (tmp_path / "page.py").write_text("x = 1 < 2\ny = 3 == 4\nz = 5 in six\n", encoding="utf-8")
    first, second, third = mutants = find_mutants(tmp_path, tmp_path)
    Verdicts(tmp_path / "verdicts").add(first, False)
    Verdicts(tmp_path / "verdicts").add(second, True)
    again = Verdicts(tmp_path / "verdicts")
    assert again.left(mutants) == [third, first]
    assert [again.is_noticed(each) for each in mutants] == [False, True, False]
    again.forget()
    assert again.left(mutants) == Verdicts(tmp_path / "verdicts").left(mutants) == mutants


def test_only_the_copy_is_changed(tmp_path: Path) -> None:
    """The mistake stands in the copy while the tests run, and never in the checkout."""
    page = tmp_path / "here/services/dalsegno/page.py"
    page.parent.mkdir(parents=True)
    page.write_text("LOUD = True\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "here", check=True)
    checkout = Checkout(tmp_path / "here", tmp_path / "there")
    [mutant] = find_mutants(checkout.root, checkout.root)

    def read() -> int:
        return 5 if Path("services/dalsegno/page.py").read_text(encoding="utf-8") == "LOUD = False\n" else 6

    with checkout.mutated(mutant):
        assert checkout.run(read, tmp_path / "log") == 5
        assert page.read_text(encoding="utf-8") == "LOUD = True\n"
    assert checkout.run(read, tmp_path / "log") == 6


def test_what_does_not_end_is_ended(tmp_path: Path) -> None:
    """A run that is over its time limit is killed, and so is what it began; one that takes all memory, or fails
    otherwise, says why."""
    (tmp_path / "here").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "here", check=True)
    checkout = Checkout(tmp_path / "here", tmp_path / "there")

    def loop() -> int:
        subprocess.run(["sleep", "600"], check=True)
        return 0

    assert checkout.run(loop, tmp_path / "log", limit_s=0.3) == -signal.SIGKILL
    assert checkout.run(lambda: 1 // 0, tmp_path / "log") != 0
    assert "ZeroDivisionError" in (tmp_path / "log").read_text(encoding="utf-8")
    assert checkout.run(lambda: len(bytes(7 * 2**30)), tmp_path / "log") != 0
    assert "MemoryError" in (tmp_path / "log").read_text(encoding="utf-8")


class Runs(Checkout):
    """A checkout whose runs have these exit codes; it notes whether each was of a mutant."""

    def __init__(self, folder: Path, *codes: int) -> None:
        self.copy = folder / "copy"
        self.codes = list(codes)
        self.mutated_runs: list[bool] = []
        self._is_mutated = False

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        self._is_mutated = True
        yield
        self._is_mutated = False

    def run(self, work: Callable[[], int], log: Path, limit_s: float | None = None) -> int:
        self.mutated_runs.append(self._is_mutated)
        log.write_text("", encoding="utf-8")
        return self.codes.pop(0)


def test_what_no_recorded_test_notices_the_further_ones_may(tmp_path: Path) -> None:
    """The further tests run for survivors only, and pass once without a mutation before they count."""
    recording = Recording([Record({"a.py::quick": 0.1}, {"page.py": {1: ["a.py::quick"]}})])
    mutant = Mutant("page.py", 1, 1, 0, 0, "", "", "", True)
    checkout = Runs(tmp_path, 1, 0, 0, 1, 0, 0)
    trial = Trial(checkout, recording, ["b.py"], verbose=False)
    assert [trial.notices(mutant) for _ in range(3)] == [True, True, False]
    assert checkout.mutated_runs == [True, True, False, True, True, True]


class Failures(Runs):
    """A checkout whose runs fail with these tests, or pass where it is empty; it notes the tests that are chosen."""

    def __init__(self, folder: Path, *failures: str) -> None:
        super().__init__(folder, *(1 if failed else 0 for failed in failures))
        self._failures = list(failures)

    def run(self, work: Callable[[], int], log: Path, limit_s: float | None = None) -> int:
        code = super().run(work, log)
        failed = self._failures.pop(0)
        log.write_text(f"\nnoticed by {failed}\n" if failed else "", encoding="utf-8")
        return code


@pytest.mark.parametrize(
    ("failures", "noticed", "mutated"),
    [
        (["a.py::one", "", "a.py::one"], True, [True, False, True]),
        (["a.py::one", "", "", "a.py::two", "", "a.py::two"], True, [True, False, True, True, False, True]),
        (["a.py::one", "", "", ""], False, [True, False, True, True]),
        (["a.py::one", "a.py::one", ""], False, [True, False, True]),
        (["a.py::two", "a.py::two"], False, [True, False]),
    ],
)
def test_a_failure_counts_when_it_has_to_do_with_the_mutant(
    tmp_path: Path, failures: list[str], noticed: bool, mutated: list[bool]
) -> None:
    """A test passes without the mutant and fails with it once more; otherwise those behind it are asked."""
    recording = Recording(
        [Record({"a.py::one": 0.01, "a.py::two": 0.02}, {"page.py": {1: ["a.py::one", "a.py::two"]}})]
    )
    checkout = Failures(tmp_path, *failures)
    trial = Trial(checkout, recording, [], verbose=False)
    assert trial.notices(Mutant("page.py", 1, 1, 0, 0, "", "", "", True)) == noticed
    assert checkout.mutated_runs == mutated
    assert checkout.codes == []


def test_a_test_that_fails_anyway_is_left_out_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named once, and no further mutant is tried with it."""
    recording = Recording([Record({"a.py::one": 0.01}, {"page.py": {1: ["a.py::one"]}})])
    checkout = Failures(tmp_path, "a.py::one", "a.py::one")
    trial = Trial(checkout, recording, [], verbose=False)
    assert [trial.notices(Mutant("page.py", 1, 1, 0, 0, "", "", "", True)) for _ in range(2)] == [False, False]
    assert capsys.readouterr().out.count("left out, because it fails without a mutation: a.py::one") == 1


def test_time_that_the_machine_does_not_give_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a time in which everything stands still nor one in which the process waits for a processor."""
    clock, waited = iter([0.0, 0.5, 100.5, 101.5]), iter([10.0, 10.0, 10.0, 10.75])
    monkeypatch.setattr(given, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(given, "_read_waited_s", lambda *_: next(waited))
    measured = given.GivenTime(1)
    assert [measured.measure_s() for _ in range(3)] == [0.5, 0.5 + given.LONGEST_TICK_S, 1.75]


def test_a_test_that_does_not_end_is_ended_and_named(tmp_path: Path) -> None:
    """It is over its limit of given time; what comes before it is measured."""
    (tmp_path / "here").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "here", check=True)
    (tmp_path / "here/test_it.py").write_text(
        "import time\ndef test_quick(): pass\ndef test_endless(): time.sleep(600)\n", encoding="utf-8"
    )
    checkout = Checkout(tmp_path / "here", tmp_path / "there")
    code = checkout.run(lambda: run_pytest(["test_it.py"], given.TestLimit(0.3)), tmp_path / "log")
    assert code == given.TOO_LONG_CODE
    assert "\nnoticed by test_it.py::test_endless (took too long)\n" in (tmp_path / "log").read_text(encoding="utf-8")


def test_further_tests_that_fail_anyway_notice_nothing(tmp_path: Path) -> None:
    """When they fail without a mutation, mutate ends and says so."""
    trial = Trial(Runs(tmp_path, 1), Recording([]), ["b.py"], verbose=False)
    with pytest.raises(SystemExit, match=r"b\.py: fail without a mutation"):
        trial.notices(Mutant("page.py", 1, 1, 0, 0, "", "", "", True))
