"""Puts small mistakes into a package, one at a time, and shows those that no test notices (scripts/mutate)."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from tests.mutation.checkout import Checkout, run_pytest
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.recording import KEPT, Recording, record

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services/dalsegno"
CORE = ("tests/conformance", "tests/simulation")
LEFT_OUT = {"tests/unit/expressions/test_hostile.py", "tests/conformance/test_services.py"}
"""They take minutes, and the second watches other processes."""
TESTS = {
    "workflow": ("tests/unit/workflow", *CORE),
    "expressions": ("tests/unit/expressions", "tests/unit/definitions", *CORE),
    "definitions": ("tests/unit/definitions", "tests/unit/api", *CORE),
    "engine": ("tests/unit/engine", "tests/integration", *CORE),
    "store": ("tests/unit/store", "tests/store", "tests/unit/engine", "tests/unit/api", "tests/integration", *CORE),
}
NICE = 10
TEST_LIMIT_S = 30
RUN_LIMIT_S = 60.0


class Chosen:
    """A plugin of pytest: only the chosen tests, in that order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: place for place, test in enumerate(tests)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and order them."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid]
        )

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
    chosen = sorted(random.Random(options.seed).sample(mutants, min(options.count, len(mutants))))
    survivors_file = ROOT / KEPT / f"{options.folder.replace('/', '-')}-survivors"
    if options.again:
        known = survivors_file.read_text().splitlines() if survivors_file.exists() else []
        chosen = [mutant for mutant in chosen if mutant.describe() in known]
    with tempfile.TemporaryDirectory(prefix="mutate-") as temporary:
        checkout = Checkout(ROOT, Path(temporary))
        names = options.tests or TESTS.get(package, ("tests/unit", *CORE))
        recording = record(checkout, SERVICES / package, names, LEFT_OUT)
        checkout.run(lambda: run_pytest(["--collect-only", *names], Chosen([])), checkout.copy.parent / "log")
        print(f"{len(mutants)} mutants in {options.folder}, {len(chosen)} tried with {len(recording.seconds)} tests")
        survivors = [mutant for mutant in chosen if not _is_noticed(checkout, recording, mutant, options.verbose)]
    survivors_file.write_text("".join(f"{mutant.describe()}\n" for mutant in survivors))
    noticed = len(chosen) - len(survivors)
    print(f"{noticed} of {len(chosen)} noticed ({noticed / max(len(chosen), 1):.1%})")
    return 0


def _is_noticed(checkout: Checkout, recording: Recording, mutant: Mutant, verbose: bool) -> bool:
    """Run what can notice it, until something does. What does not end is noticed as well."""
    tests = recording.tests_of(mutant)
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    limit_s = RUN_LIMIT_S + 5 * sum(recording.seconds[test] for test in tests)
    log = checkout.copy.parent / "log"
    with checkout.mutated(mutant):
        arguments = ["-x", "--timeout", str(TEST_LIMIT_S), *files]
        code = checkout.run(lambda: run_pytest(arguments, Chosen(tests)), log, limit_s) if tests else 0
    noticed = code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    if verbose or not noticed:
        print(f"{mutant.describe()} ({len(tests)} tests)" if not noticed else f"  noticed: {mutant.describe()}")
    if verbose and noticed:
        print("   ", code, *[line for line in log.read_text(errors="replace").splitlines() if "noticed by " in line])
    sys.stdout.flush()
    return noticed


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/mutate", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", default="workflow", help="a folder or file of services/dalsegno (workflow)"
    )
    parser.add_argument("--count", type=int, default=200, help="so many mutants, chosen at random (200)")
    parser.add_argument("--seed", type=int, default=1, help="another seed chooses others (1)")
    parser.add_argument("--tests", action="append", help="these tests instead of the folder's own")
    parser.add_argument("--again", action="store_true", help="only those that survived the last time")
    parser.add_argument("--verbose", action="store_true", help="name what is noticed, and by which test")
    options = parser.parse_args(arguments)
    if not find_mutants(ROOT, SERVICES / options.folder):
        parser.error(f"there is nothing to mutate in services/dalsegno/{options.folder}")
    return options


if __name__ == "__main__":
    sys.exit(main())
