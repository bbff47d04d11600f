"""Which tests run which lines, and how long each test takes: recorded once per test file and kept in `.mutation/`.

A record is made again when the test file or the package that is mutated has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path

import pytest
from tests.mutation.checkout import Checkout, run_pytest
from tests.mutation.given import TestLimit
from tests.mutation.mutants import Mutant

KEPT = ".mutation"
SLOWEST_S = 10.0
"""A test that takes longer is left out."""
STOPPED_S = 4 * SLOWEST_S
"""A test is stopped then while it is recorded, on a machine that is busy."""
FIRST, FIRST_FILES, FIRST_S = 20, 4, 0.5
"""Where more than 20 tests run a line, 20 of them run first: of at most 4 files, each of at most 0.5 s."""
RECORDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Exit codes after which it is known what the tests run."""


class Record:
    """What one test file runs of the folder."""

    def __init__(self, seconds: dict[str, float], lines: dict[str, dict[int, list[str]]]) -> None:
        self.seconds = {test: taken for test, taken in seconds.items() if taken <= SLOWEST_S}
        self.lines = lines
        """File, line, the tests that run it."""


class Recording:
    """Everything that was recorded for one folder."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.seconds = {test: taken for record in records for test, taken in record.seconds.items()}
        self._lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for record in records:
            for path, lines in record.lines.items():
                for line, tests in lines.items():
                    self._lines[path][line].update(tests)
        self._counts = {path: Counter(chain.from_iterable(lines.values())) for path, lines in self._lines.items()}
        """How many lines of each file each test runs."""
        self._all_counts = sum(self._counts.values(), Counter[str]())

    def stages_of(self, mutant: Mutant) -> list[list[str]]:
        """The tests that can notice the mutant: those that run its lines, or where none does, as in another process,
        those that run anything of its file, or where it is run at import, all. Of many tests the most special ones come
        first. Tests of more than a second come last, then those that are far from its file; those of the test file that
        has most of them come first, since a single test file is soon imported."""
        lines = self._lines[mutant.path]
        of_file = set().union(*lines.values())
        tests: set[str] = set()
        if mutant.in_function:
            tests.update(*(lines[line] for line in range(mutant.line, mutant.last_line + 1)))
            tests = tests or of_file
        known = [test for test in tests or self.seconds if test in self.seconds]
        first = self._most_special(known, mutant.path) if len(known) > FIRST else []
        known = [test for test in known if test not in first]
        counts = Counter(map(_file_of, known))

        def stage(test: str) -> tuple[bool, int, bool, bool]:
            seconds, shared = self.seconds[test], set(Path(test).parts) & set(Path(mutant.path).parts)
            is_first = counts[_file_of(test)] == max(counts.values())
            return seconds > 1, -len(shared) - (test in of_file), seconds > 0.1, not is_first

        ordered = sorted(known, key=lambda test: (stage(test), _file_of(test), self.seconds[test], test))
        stages = [list(together) for _, together in groupby(ordered, key=stage)]
        return [first, *stages] if first else stages

    def _most_special(self, tests: Iterable[str], path: str) -> list[str]:
        """Return quick tests that run little beside this file: they are about it, and know most of it."""
        counts = self._counts.get(path, Counter())

        def rank(test: str) -> tuple[float, str]:
            return -counts[test] / max(self._all_counts[test], 1), test

        found: list[str] = []
        files: set[str] = set()
        for test in sorted((test for test in tests if self.seconds[test] <= FIRST_S), key=rank):
            if len(found) < FIRST and (_file_of(test) in files or len(files) < FIRST_FILES):
                files.add(_file_of(test))
                found.append(test)
        return found


def _file_of(test: str) -> str:
    return test.partition("::")[0]


class Recorder:
    """A plugin of pytest: one context of coverage for each test."""

    def __init__(self, coverage: object) -> None:
        self._coverage = coverage
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record the test under its own name."""
        self._coverage.switch_context(item.nodeid)  # type: ignore[attr-defined]
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Note that the test fails without a mutation, so that it cannot show one."""
        if report.failed:
            self.failed.add(report.nodeid)
        yield


def record(checkout: Checkout, folder: Path, names: Iterable[str], left_out: Collection[str]) -> Recording:
    """Record every test file below those names, unless a record of it is there."""
    files = [path for name in names for path in _test_files(checkout.root / name)]
    files = [path for path in files if path.relative_to(checkout.root).as_posix() not in left_out]
    package = _digest(folder.rglob("*.py"))
    return Recording([_record(checkout, folder, path, package) for path in files])


def _record(checkout: Checkout, folder: Path, path: Path, package: str) -> Record:
    name = path.relative_to(checkout.root).as_posix()
    stem = f"{folder.name}-{name.replace('/', '-').removesuffix('.py')}"
    kept = checkout.root / KEPT / f"{stem}-{_digest([path])[:12]}{package[:12]}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        for old in kept.parent.glob(f"{stem}-*.json"):
            old.unlink()
        code = checkout.run(lambda: _measure(checkout, folder, name, kept), kept.with_suffix(".log"))
        if code not in RECORDED:
            raise SystemExit(f"{name} cannot run without a mutation, see {kept.with_suffix('.log')}")
        kept.with_suffix(".log").unlink()
    read = json.loads(kept.read_text())
    for test in read.get("failed", ()):
        print(f"left out, because it fails or takes too long without a mutation: {test}", flush=True)
    lines = {each: {int(line): tests for line, tests in found.items()} for each, found in read["lines"].items()}
    return Record(read["seconds"], lines)


def _measure(checkout: Checkout, folder: Path, name: str, kept: Path) -> int:
    from coverage import Coverage

    inside = checkout.copy / folder.relative_to(checkout.root)
    coverage = Coverage(data_file=None, include=[f"{inside}/*"], config_file=False)
    recorder, measured = Recorder(coverage), TestLimit()
    coverage.start()
    code = run_pytest(["--timeout", str(STOPPED_S), name], recorder, measured)
    coverage.stop()
    data, lines = coverage.get_data(), {}
    for path in data.measured_files():
        contexts = {line: sorted(set(each) - {""}) for line, each in data.contexts_by_lineno(path).items()}
        lines[Path(path).relative_to(checkout.copy).as_posix()] = {
            line: each for line, each in contexts.items() if each
        }
    if code in RECORDED:
        seconds = {test: taken for test, taken in measured.seconds.items() if lines and test not in recorder.failed}
        kept.write_text(json.dumps({"seconds": seconds, "lines": lines, "failed": sorted(recorder.failed)}))
    return code


def _test_files(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()
