"""The forms that both languages share: texts, lists of texts, mappings, known keys.

Nothing here raises: what does not fit becomes a problem, and the caller continues with the rest, so that one reading of
a document finds all problems.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from dalsegno.definitions.calls import Call, Callee, Spot
from dalsegno.definitions.load import Source
from dalsegno.definitions.problems import EXPRESSION, SEMANTIC, SYNTAX, Guess, Path, Problems, path_text, shown
from dalsegno.expressions.inspection import find_unknown, known_names
from dalsegno.expressions.language import Language
from dalsegno.expressions.unknown import Unknown
from dalsegno.workflow.targets import UnfitTarget, parse_target

NAME_LENGTH_MAX = 255

_Meaning = TypeVar("_Meaning")

_UUID = re.compile(r"[0-9a-fA-F]{32}")


class Forms:
    """Reads the parts of one document and adds the problems."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._guess = Guess()
        self._hints: dict[Unknown, str] = {}
        self._calls: list[tuple[str, Callee, Path, Mapping[str, Path] | None, Path]] = []

    @property
    def is_faultless(self) -> bool:
        """Return whether no problem has been found so far."""
        return len(self._problems) == 0

    def fault(self, path: Path, message: str, hint: str = "", category: str = SYNTAX) -> None:
        """Add a problem."""
        self._problems.add(path, message, hint, category)

    def warn(self, path: Path, message: str, hint: str = "", category: str = SYNTAX) -> None:
        """Add a warning."""
        self._problems.warn(path, message, hint, category)

    def warn_of_unparsed(self, unparsed: str, path: Path) -> None:
        """Add a warning about the part of a text that is neither a name nor a parameter (unparsed.py)."""
        if unparsed:
            self.warn(path, f"{shown(unparsed)} is not read as part of a parameter", "put the whole value in quotes")

    def warn_of_unknown(self, value: object, path: Path, language: Language) -> None:
        """Add a warning for every unknown function, method, filter and test that the expressions in a value (not in its
        keys) call: such an expression can be parsed, but fails when it is evaluated."""
        if isinstance(value, str):
            for unknown in find_unknown(value, language):
                if unknown not in self._hints:
                    self._hints[unknown] = self._hint(unknown, language)
                self.warn(path, str(unknown), self._hints[unknown], EXPRESSION)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.warn_of_unknown(item, (*path, key), language)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.warn_of_unknown(item, (*path, index), language)

    def _hint(self, unknown: Unknown, language: Language) -> str:
        """Return a hint: the same name of another kind, or the most similar name of this kind."""
        known = known_names(language, unknown.notation)
        for kind, names in known.items():
            if unknown.name in names:
                return f"there is a {kind} of this name"
        return self.guess(unknown.name, sorted(known[unknown.kind]))

    def guess(self, word: str, known: Iterable[str]) -> str:
        """Return a hint with the most similar known word, or ""."""
        return self._guess.hint(word, known)

    def note_call(
        self, name: str, callee: Callee, path: Path, given: Mapping[str, Path] | None, input_path: Path
    ) -> None:
        """Record a call by its name, with the places of the name, of each input and of the whole input."""
        self._calls.append((name, callee, path, given, input_path))

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return all recorded calls."""
        return tuple(
            Call(
                name,
                callee,
                self._spot(path),
                self._spot(input_path),
                None if given is None else {each: self._spot(place) for each, place in given.items()},
            )
            for name, callee, path, given, input_path in self._calls
        )

    def check_reverts(self, workflows: frozenset[str], book: str) -> None:
        """Add a problem for every revert that names one of these workflows; `book` is the workbook that contains it."""
        for name, callee, path, _, _ in self._calls:
            if callee is Callee.REVERT and not workflows.isdisjoint((name, f"{book}.{name}")):
                hint = "name an action; the tasks of that workflow have reverts of their own"
                self.fault(path, f"a revert runs an action, and `{name[:255]}` is a workflow", hint, SEMANTIC)

    def _spot(self, path: Path) -> Spot:
        return Spot(path_text(path), *self._source.locate(path))

    def redirect(self, path: Path, to: Path) -> None:
        """Show problems at `path` at `to` instead."""
        self._problems.redirect(path, to)

    def known_keys(self, mapping: Mapping[str, Any], known: Collection[str], path: Path, what: str) -> None:
        """Add a problem for every key that a `what` does not have."""
        for key in mapping:
            if key not in known:
                hint = self.guess(key, known)
                self.fault((*path, key), f"a {what} has no key `{key}`", hint or f"it may have: {', '.join(known)}")

    def workflow_name(self, name: str, path: Path) -> None:
        """Check the name of a workflow: it fits into the store and does not look like an id."""
        plain = name.removeprefix("urn:").removeprefix("uuid:").strip("{}").replace("-", "")
        if not name or len(name) > NAME_LENGTH_MAX:
            self.fault(path, f"a name has 1 to {NAME_LENGTH_MAX} characters", category=SEMANTIC)
        elif _UUID.fullmatch(plain):
            self.fault(path, "the name of a workflow must not look like a UUID", category=SEMANTIC)

    def text(self, value: object, path: Path) -> str | None:
        """Return a text that is not empty."""
        if isinstance(value, str) and value:
            return value
        self.fault(path, "must not be empty" if value == "" else f"must be text, not {shown(value)}")
        return None

    def target(self, value: object, path: Path) -> str | None:
        """Return the target of a task, checked unless an expression gives it."""
        text = self.text(value, path)
        if text is not None and "<%" not in text and "{{" not in text:
            try:
                parse_target(text)
            except UnfitTarget as error:
                self.fault(path, str(error), "target: zone=north")
        return text

    def word(self, value: object, words: Mapping[str, _Meaning], path: Path) -> _Meaning | None:
        """Return the meaning of one of these words."""
        if isinstance(value, str) and value in words:
            return words[value]
        *others, last = words
        self.fault(path, f"must be {', '.join(others)} or {last}, not {shown(value)}")
        return None

    def texts(self, value: object, path: Path) -> tuple[str, ...]:
        """Return a list of texts, at least one, none twice."""
        if not isinstance(value, list) or not value:
            self.fault(path, f"must be a list of texts that is not empty, not {shown(value)}")
            return ()
        read: dict[str, None] = {}
        for index, item in enumerate(value):
            text = self.text(item, (*path, index))
            if text is not None and text in read:
                self.fault((*path, index), f"`{text}` is twice in the list")
            elif text is not None:
                read[text] = None
        return tuple(read)

    def text_or_texts(self, value: object, path: Path) -> tuple[str, ...]:
        """Return one text, or a list of them."""
        if isinstance(value, str):
            text = self.text(value, path)
            return () if text is None else (text,)
        return self.texts(value, path)

    def mapping(self, value: object, path: Path) -> dict[str, Any] | None:
        """Return a mapping that is not empty and whose keys are texts."""
        if not isinstance(value, dict) or not value:
            self.fault(path, f"must be a mapping that is not empty, not {shown(value)}")
            return None
        for key in self._source.odd_keys.get(id(value), ()):
            self.fault((*path, key), f"the key is read by YAML as {key}, not as text", "put it in quotes")
        return value
