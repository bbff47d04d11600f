"""The problems of a definition, each with its path, its line and a hint."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]
"""The path from the top of a document to a value: keys, and indexes from 0."""

Place = tuple[int, int]
"""Line and column, both counted from 1."""

SYNTAX = "syntax"
SEMANTIC = "semantic"
EXPRESSION = "expression"
CONTEXT = "context"
CONTENT = "content"

PROBLEMS_MAX = 500
"""Further problems are counted, not listed, because the size of an answer is limited."""

_WORD_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One error that must be corrected before the definition is accepted, or a warning. Line and column begin at 1."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    category: str = SYNTAX
    file: str = ""
    """The file of the document, if several are read."""

    def __str__(self) -> str:
        where = f"line {self.line}, {self.path}" if self.path else f"line {self.line}"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class _Note:
    """A problem or a warning without its place."""

    path: Path
    message: str
    hint: str
    category: str
    place: Place | None


class _Notes:
    """Notes in the order of their creation, each once, and the number of omitted ones."""

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
        """Return all notes in the order of the document."""
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
    """Collects the problems and warnings of one document. The loader of the document sets `locate`, which finds the
    place of a path."""

    def __init__(self) -> None:
        self.locate: Callable[[Path], Place] = lambda path: (1, 1)
        self._problems = _Notes()
        self._warnings = _Notes()
        self._redirects: dict[Path, Path] = {}

    def __len__(self) -> int:
        """Return the number of problems, without warnings."""
        return len(self._problems.notes) + self._problems.left_off

    def add(
        self, path: Path, message: str, hint: str = "", category: str = SYNTAX, *, place: Place | None = None
    ) -> None:
        """Add one problem. `place` is for callers with a better place than that of the path (the YAML loader)."""
        self._problems.add(_Note(self._redirected(path), message, hint, category, place))

    def warn(self, path: Path, message: str, hint: str = "", category: str = SYNTAX) -> None:
        """Add a warning: a probable mistake in a definition that can be accepted."""
        self._warnings.add(_Note(self._redirected(path), message, hint, category, None))

    @property
    def left_off(self) -> tuple[int, int]:
        """Return the numbers of problems and warnings that are not listed."""
        return self._problems.left_off, self._warnings.left_off

    def redirect(self, path: Path, to: Path) -> None:
        """Show problems at `path`, a value that the document does not contain, at `to`."""
        self._redirects[path] = to

    def take(self, others: Problems) -> None:
        """Add the problems of another collection."""
        for note in others._problems.notes.values():
            self._problems.add(replace(note, path=self._redirected(note.path)))
        self._problems.left_off += others._problems.left_off

    def listed(self) -> tuple[Problem, ...]:
        """Return all problems in the order of the document."""
        return self._problems.listed(self.locate, "problems")

    def warnings(self) -> tuple[Problem, ...]:
        """Return all warnings in the order of the document."""
        return self._warnings.listed(self.locate, "warnings")

    def _redirected(self, path: Path) -> Path:
        if self._redirects:
            for length in range(len(path), 0, -1):
                to = self._redirects.get(path[:length])
                if to is not None:
                    return to
        return path


def path_text(path: Path) -> str:
    """Return the path as text: `wf.tasks.t1.on-success[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Guess:
    """Finds the word that an author may have meant; a limited number of times for one document, because it is slow."""

    def __init__(self) -> None:
        self._comparisons_left = 20_000

    def hint(self, word: str, known: Iterable[str]) -> str:
        """Return a hint with the most similar known word; "" if none is similar."""
        if len(word) > _WORD_LENGTH_MAX or self._comparisons_left <= 0:
            return ""
        words = list(itertools.islice(known, self._comparisons_left))
        self._comparisons_left -= len(words)
        near = difflib.get_close_matches(word, words, n=1)
        return f"did you mean `{near[0]}`?" if near else ""


def shown(value: object) -> str:
    """Return a shortened value for a message."""
    text = repr(value) if not isinstance(value, bool | None) else {True: "true", False: "false", None: "null"}[value]
    return text if len(text) <= 80 else f"{text[:77]}..."
