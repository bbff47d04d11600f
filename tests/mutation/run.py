"""Puts small mistakes into a package, one at a time, and shows those that no test notices (scripts/mutate)."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from tests.mutation.checkout import Checkout, run_pytest
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.recording import KEPT, Recording, record
from tests.mutation.suites import CORE, FURTHER, FURTHER_LIMIT_S, FURTHER_TEST_LIMIT_S, LEFT_OUT, TESTS

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services/dalsegno"
NICE = 10
TEST_LIMIT_S = 10.0
RUN_LIMIT_S = 60.0
SLOWER = 5
"""A test is stopped when it takes so many times as long as it usually does, and the limit."""
TOO_LONG = "took too long"
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
            took = f" ({TOO_LONG})" if "pytest-timeout" in report.longreprtext else ""
            print(f"\nnoticed by {report.nodeid}{took}", flush=True)
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


class Trial:
    """Runs the tests on mutants. What does not end is noticed as well."""

    def __init__(self, checkout: Checkout, recording: Recording, further: Sequence[str], verbose: bool) -> None:
        self._checkout = checkout
        self._recording = recording
        self._further = further
        self._verbose = verbose
        self._log = checkout.copy.parent / "log"
        self._further_pass = False
        """Whether they were seen to pass without a mutation."""

    def notices(self, mutant: Mutant) -> bool:
        """Run what runs its lines until a test fails, then the further test files; print what survives."""
        stages = self._recording.stages_of(mutant)
        with self._checkout.mutated(mutant):
            code = next((code for stage in stages if (code := self._run_stage(stage)) not in PASSED), 0)
        if code in PASSED and self._further:
            self._check_further()
            with self._checkout.mutated(mutant):
                code = self._run_further()
        noticed = code not in PASSED
        if self._verbose and noticed:
            lines = self._log.read_text(errors="replace").splitlines()
            print(f"  noticed: {mutant.describe()}\n    ", code, *[line for line in lines if "noticed by " in line])
        elif not noticed:
            print(f"{mutant.describe()} ({sum(map(len, stages))} tests)")
        sys.stdout.flush()
        return noticed

    def _run_stage(self, tests: Sequence[str]) -> int:
        seconds = [self._recording.seconds[test] for test in tests]
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        arguments = ["-x", "--timeout", str(TEST_LIMIT_S + SLOWER * max(seconds)), *files]
        return self._run(arguments, tests, RUN_LIMIT_S + SLOWER * sum(seconds))

    def _run_further(self) -> int:
        return self._run(["-x", "--timeout", str(FURTHER_TEST_LIMIT_S), *self._further], None, FURTHER_LIMIT_S)

    def _run(self, arguments: Sequence[str], tests: Sequence[str] | None, limit_s: float) -> int:
        """Run the tests; what takes too long runs once more, because the machine may have been busy."""
        code = self._run_once(arguments, tests, limit_s)
        if code == -signal.SIGKILL or f"({TOO_LONG})" in self._log.read_text(errors="replace"):
            code = self._run_once(arguments, tests, limit_s)
        return code

    def _run_once(self, arguments: Sequence[str], tests: Sequence[str] | None, limit_s: float) -> int:
        return self._checkout.run(lambda: run_pytest(arguments, Chosen(tests)), self._log, limit_s)

    def _check_further(self) -> None:
        if not self._further_pass and self._run_further() not in PASSED:
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
