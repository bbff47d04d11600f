"""What is wrong with a definition: every problem at once, each with its path, its line and a hint."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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
    """One thing that must be mended before the definition is accepted. Line and column count from 1."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    category: str = SYNTAX

    def __str__(self) -> str:
        where = f"line {self.line}, {self.path}" if self.path else f"line {self.line}"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Problems:
    """Collects the problems of one document. Whoever loads the document sets `locate`, which finds a path's place."""

    def __init__(self) -> None:
        self.locate: Callable[[Path], Place] = lambda path: (1, 1)
        self._found: list[tuple[Path, Place | None, str, str, str]] = []
        self._seen: set[tuple[Path, str]] = set()
        self._redirects: dict[Path, Path] = {}
        self._left_off = 0

    def __len__(self) -> int:
        return len(self._found) + self._left_off

    def add(
        self, path: Path, message: str, hint: str = "", category: str = SYNTAX, *, place: Place | None = None
    ) -> None:
        """Notes one problem. `place` is given only by whoever knows better than the path, such as the YAML loader."""
        path = self._redirected(path)
        if (path, message) in self._seen:
            return
        if len(self._found) >= PROBLEMS_MAX:
            self._left_off += 1
            return
        self._seen.add((path, message))
        self._found.append((path, place, message, hint, category))

    def redirect(self, path: Path, to: Path) -> None:
        """Problems at `path`, a value that the document does not hold as such, are shown at `to`."""
        self._redirects[path] = to

    def take(self, others: Problems) -> None:
        """Adds the problems that were collected apart."""
        for path, place, message, hint, category in others._found:
            self.add(path, message, hint, category, place=place)
        self._left_off += others._left_off

    def listed(self) -> tuple[Problem, ...]:
        """All problems in the order of the document."""
        problems = []
        for path, place, message, hint, category in self._found:
            line, column = place or self.locate(path)
            problems.append(Problem(path_text(path), line, column, message, hint, category))
        problems.sort(key=lambda problem: (problem.line, problem.column))
        if self._left_off:
            last = problems[-1]
            problems.append(Problem("", last.line, last.column, f"and {self._left_off} further problems"))
        return tuple(problems)

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
