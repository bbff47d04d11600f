"""Puts small mistakes into a package, one at a time, and shows those that no test notices (scripts/mutate)."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.mutation.checkout import Checkout, run_pytest
from tests.mutation.given import TOO_LONG, TestLimit
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.recording import KEPT, Recording, record
from tests.mutation.suites import CORE, FURTHER, FURTHER_LIMIT_S, FURTHER_TEST_LIMIT_S, LEFT_OUT, TESTS

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services/dalsegno"
NICE = 10
TEST_LIMIT_S = 10.0
RUN_LIMIT_S = 60.0
SLOWER = 5
"""A test is stopped when it takes so many times as long as it usually does, and the limit, in given time."""
FAILED = re.compile(rf"^noticed by (.+?)(?: \({TOO_LONG}\))?$", re.MULTILINE)
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Verdicts:
    """Whether each mutant was noticed, by its key, kept in a file: a run that was stopped goes on with the others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._noticed = {key: word == "noticed" for word, key in (line.split() for line in lines)}

    def is_noticed(self, mutant: Mutant) -> bool:
        """Whether the mutant was tried and noticed."""
        return self._noticed.get(mutant.key(), False)

    def left(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """Those that are not noticed yet; those that have not been tried come first."""
        left = [mutant for mutant in mutants if not self.is_noticed(mutant)]
        return sorted(left, key=lambda mutant: mutant.key() in self._noticed)

    def add(self, mutant: Mutant, noticed: bool) -> None:
        """Keep one more."""
        self._noticed[mutant.key()] = noticed
        with self._path.open("a") as file:
            file.write(f"{'noticed' if noticed else 'survived'} {mutant.key()}\n")

    def forget(self) -> None:
        """Begin again."""
        self._noticed.clear()
        self._path.unlink(missing_ok=True)


class Chosen:
    """A plugin of pytest: only the chosen tests, in that order; None: all."""

    def __init__(self, tests: Sequence[str] | None) -> None:
        self._order = None if tests is None else {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and order them."""
        order = self._order
        if order is not None:
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Say which test noticed."""
        if report.failed:
            print(f"\nnoticed by {report.nodeid}", flush=True)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants of one folder; the exit code is 0 however many survive."""
    options = _read_options(arguments)
    os.nice(NICE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what runs, removes the copy
    package = Path(options.folder).parts[0]
    mutants = find_mutants(ROOT, SERVICES / options.folder)
    chosen = choose(mutants, options.count, options.seed)
    verdicts = Verdicts(ROOT / KEPT / f"{options.folder.replace('/', '-')}-verdicts")
    if not options.again:
        verdicts.forget()
    with tempfile.TemporaryDirectory(prefix="mutate-") as temporary:
        checkout = Checkout(ROOT, Path(temporary))
        names = options.tests or TESTS.get(package, ("tests/unit", *CORE))
        recording = record(checkout, SERVICES / package, names, LEFT_OUT)
        checkout.run(lambda: run_pytest(["--collect-only", *names], Chosen([])), checkout.copy.parent / "log")
        print(f"{len(mutants)} mutants in {options.folder}, {len(chosen)} chosen, {len(recording.seconds)} tests")
        further = () if options.tests else FURTHER.get(package, ())
        trial = Trial(checkout, recording, further, options.verbose)
        for mutant in verdicts.left(chosen):
            verdicts.add(mutant, trial.notices(mutant))
    count = sum(map(verdicts.is_noticed, chosen))
    print(f"{count} of {len(chosen)} noticed ({count / max(len(chosen), 1):.1%})")
    return 0


def choose(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Choose mutants at random, the same ones in the same order for the same seed: a smaller count chooses the first of
    them, and a change of the code replaces only those that it touches."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.key()}".encode()).digest()

    return sorted(mutants, key=rank)[:count]


@dataclass(frozen=True)
class Notice:
    """What noticed a mutant, in words, and which test that was; empty: the run ended without one."""

    text: str
    test: str


class Trial:
    """Runs the tests on mutants. What does not end is noticed as well.

    A test that fails counts when it fails once more, and passes without the mutation: others depend on the time of day,
    or on what else the machine does.
    """

    def __init__(self, checkout: Checkout, recording: Recording, further: Sequence[str], verbose: bool) -> None:
        self._checkout = checkout
        self._recording = recording
        self._further = further
        self._verbose = verbose
        self._log = checkout.copy.parent / "log"
        self._further_pass = False
        """Whether they were seen to pass without a mutation."""
        self._passing: dict[str, bool] = {}
        """Whether each test that has failed passes without a mutation."""

    def notices(self, mutant: Mutant) -> bool:
        """Run what runs its lines until a test fails, then the further test files; print what survives."""
        stages = self._recording.stages_of(mutant)
        found = next((found for stage in stages if (found := self._try_stage(mutant, stage))), None)
        if found is None and self._further:
            self._check_further()
            with self._checkout.mutated(mutant):
                found = self._run_further()
        if found is None:
            print(f"{mutant.describe()} ({sum(map(len, stages))} tests)")
        elif self._verbose:
            print(f"  noticed: {mutant.describe()}\n     {found.text}")
        sys.stdout.flush()
        return found is not None

    def _try_stage(self, mutant: Mutant, tests: Sequence[str]) -> Notice | None:
        left = [test for test in tests if self._passing.get(test, True)]
        while left:
            with self._checkout.mutated(mutant):
                found = self._run_tests(left)
            if found is None or found.test not in left:
                return found
            if self._passes_alone(found.test):
                with self._checkout.mutated(mutant):
                    if self._run_tests([found.test]) is not None:
                        return found
            left = left[left.index(found.test) + 1 :]
        return None

    def _passes_alone(self, test: str) -> bool:
        """Whether the test passes without a mutation; name it where it does not."""
        if test not in self._passing:
            self._passing[test] = self._run_tests([test]) is None
            if not self._passing[test]:
                print(f"left out, because it fails without a mutation: {test}", flush=True)
        return self._passing[test]

    def _run_tests(self, tests: Sequence[str]) -> Notice | None:
        seconds = [self._recording.seconds[test] for test in tests]
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        return self._run(files, tests, TEST_LIMIT_S + SLOWER * max(seconds), RUN_LIMIT_S + SLOWER * sum(seconds))

    def _run_further(self) -> Notice | None:
        return self._run(self._further, None, FURTHER_TEST_LIMIT_S, FURTHER_LIMIT_S)

    def _run(self, files: Sequence[str], tests: Sequence[str] | None, test_s: float, limit_s: float) -> Notice | None:

        def work() -> int:
            return run_pytest(["-x", "--timeout", "0", *files], Chosen(tests), TestLimit(test_s))

        code = self._checkout.run(work, self._log, limit_s)
        if code in PASSED:
            return None
        failed = FAILED.search(self._log.read_text(errors="replace"))
        return Notice(failed[0], failed[1]) if failed else Notice(f"noticed by exit code {code}", "")

    def _check_further(self) -> None:
        if not self._further_pass and self._run_further() is not None:
            raise SystemExit(f"{', '.join(self._further)}: fail without a mutation\n{self._log.read_text()[-5000:]}")
        self._further_pass = True


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/mutate", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", default="workflow", help="a folder or file of services/dalsegno (workflow)"
    )
    parser.add_argument("--count", type=int, default=200, help="so many mutants, chosen at random (200)")
    parser.add_argument("--seed", type=int, default=1, help="another seed chooses others (1)")
    parser.add_argument("--tests", action="append", help="these tests instead of the folder's own")
    parser.add_argument("--again", action="store_true", help="only those that are not noticed yet")
    parser.add_argument("--verbose", action="store_true", help="name what is noticed, and by which test")
    options = parser.parse_args(arguments)
    if not find_mutants(ROOT, SERVICES / options.folder):
        parser.error(f"there is nothing to mutate in services/dalsegno/{options.folder}")
    return options


if __name__ == "__main__":
    sys.exit(main())
