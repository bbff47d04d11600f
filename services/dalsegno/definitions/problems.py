"""What is wrong with a definition: every problem at once, each with its path, its line and a hint."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]
"""The way from the top of a document to a value: keys, and indexes counted from 0."""

Place = tuple[int, int]
"""Line and column, both counted from 1."""

SYNTAX = "syntax"
SEMANTIC = "semantic"
EXPRESSION = "expression"
CONTEXT = "context"
CONTENT = "content"

PROBLEMS_MAX = 500
"""More problems than this are counted, not listed: nobody reads them, and an answer has a size."""

_WORD_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must be mended before the definition is accepted; as a warning, one that had better be. Line and
    column count from 1."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    category: str = SYNTAX
    file: str = ""
    """The file of the document, when several are read."""

    def __str__(self) -> str:
        where = f"line {self.line}, {self.path}" if self.path else f"line {self.line}"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class _Note:
    """A problem or a warning before its place is looked up."""

    path: Path
    message: str
    hint: str
    category: str
    place: Place | None


class _Notes:
    """Notes in the order in which they were made, each once, and how many were left off."""

    def __init__(self) -> None:
        self.notes: dict[tuple[Path, str], _Note] = {}
        self.left_off = 0

    def add(self, note: _Note) -> None:
        key = (note.path, note.message)
        if key not in self.notes and len(self.notes) >= PROBLEMS_MAX:
            self.left_off += 1
        else:
            self.notes.setdefault(key, note)

    def listed(self, locate: Callable[[Path], Place], what: str) -> tuple[Problem, ...]:
        """All of them in the order of the document."""
        problems = []
        for note in self.notes.values():
            line, column = note.place or locate(note.path)
            problems.append(Problem(path_text(note.path), line, column, note.message, note.hint, note.category))
        problems.sort(key=lambda problem: (problem.line, problem.column))
        if self.left_off:
            last = problems[-1]
            problems.append(Problem("", last.line, last.column, f"and {self.left_off} further {what}"))
        return tuple(problems)


class Problems:
    """Collects the problems of one document, and what is worth a warning. Whoever loads the document sets `locate`,
    which finds a path's place."""

    def __init__(self) -> None:
        self.locate: Callable[[Path], Place] = lambda path: (1, 1)
        self._problems = _Notes()
        self._warnings = _Notes()
        self._redirects: dict[Path, Path] = {}

    def __len__(self) -> int:
        """How many problems there are; warnings are none."""
        return len(self._problems.notes) + self._problems.left_off

    def add(
        self, path: Path, message: str, hint: str = "", category: str = SYNTAX, *, place: Place | None = None
    ) -> None:
        """Notes one problem. `place` is given only by whoever knows better than the path, such as the YAML loader."""
        self._problems.add(_Note(self._redirected(path), message, hint, category, place))

    def warn(self, path: Path, message: str, hint: str = "", category: str = SYNTAX) -> None:
        """Notes something that keeps no definition from being accepted, and is hardly what its author meant."""
        self._warnings.add(_Note(self._redirected(path), message, hint, category, None))

    @property
    def left_off(self) -> tuple[int, int]:
        """How many problems and how many warnings are counted and not listed."""
        return self._problems.left_off, self._warnings.left_off

    def redirect(self, path: Path, to: Path) -> None:
        """Problems at `path`, a value that the document does not hold as such, are shown at `to`."""
        self._redirects[path] = to

    def take(self, others: Problems) -> None:
        """Adds the problems that were collected apart."""
        for note in others._problems.notes.values():
            self._problems.add(replace(note, path=self._redirected(note.path)))
        self._problems.left_off += others._problems.left_off

    def listed(self) -> tuple[Problem, ...]:
        """All problems in the order of the document."""
        return self._problems.listed(self.locate, "problems")

    def warnings(self) -> tuple[Problem, ...]:
        """All warnings in the order of the document."""
        return self._warnings.listed(self.locate, "warnings")

    def _redirected(self, path: Path) -> Path:
        if self._redirects:
            for length in range(len(path), 0, -1):
                to = self._redirects.get(path[:length])
                if to is not None:
                    return to
        return path


def path_text(path: Path) -> str:
    """The path as people write it: `wf.tasks.t1.on-success[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Guess:
    """Finds the word that somebody may have meant, for one document: comparing words is slow, so it ends some time."""

    def __init__(self) -> None:
        self._comparisons_left = 20_000

    def hint(self, word: str, known: Iterable[str]) -> str:
        """A hint that names the nearest known word, "" when none is near."""
        if len(word) > _WORD_LENGTH_MAX or self._comparisons_left <= 0:
            return ""
        words = list(itertools.islice(known, self._comparisons_left))
        self._comparisons_left -= len(words)
        near = difflib.get_close_matches(word, words, n=1)
        return f"did you mean `{near[0]}`?" if near else ""


def shown(value: object) -> str:
    """A value within a message, shortened."""
    text = repr(value) if not isinstance(value, bool | None) else {True: "true", False: "false", None: "null"}[value]
    return text if len(text) <= 80 else f"{text[:77]}..."
