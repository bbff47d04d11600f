"""The calls of a definition: the actions and workflows that its tasks name, and whether they are known now.

The reader of a definition collects the calls; `check` compares them with the known actions and workflows. What is
unknown now may be known when the task begins, so the result is a warning, never a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dalsegno.definitions.problems import CONTENT, Guess, Problem


class Callee(Enum):
    """What a name can refer to."""

    ACTION = "action"
    WORKFLOW = "workflow"
    EITHER = "action or workflow"
    REVERT = "action of a revert"


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a document: its path as text, line and column."""

    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call. A name from an expression is not collected, because it is known only at run time."""

    name: str
    callee: Callee
    spot: Spot
    """The place of the name."""
    input_spot: Spot
    given: Mapping[str, Spot] | None = None
    """The place of each input; None if one expression gives all of them."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The input that an action or a workflow takes."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    is_open: bool = False
    """Whether it accepts any other input, too."""
    off: str = ""
    """Why no executor runs it now; empty if one does."""
    hint: str = ""
    """How to change that."""


@dataclass(slots=True)
class KnownCallees:
    """The actions and workflows that a lookup has found."""

    actions: Mapping[str, Signature]
    workflows: Mapping[str, Signature] = field(default_factory=dict)
    names: Iterable[str] = ()
    """More names, for hints."""
    _guess: Guess = field(default_factory=Guess)

    def find(self, call: Call, book: str) -> Signature | None:
        """Return the signature of a name; in a workbook, first of its own parts."""
        for name in (f"{book}.{call.name}", call.name) if book else (call.name,):
            action = self.actions.get(name) if call.callee is not Callee.WORKFLOW else None
            workflow = self.workflows.get(name) if call.callee in (Callee.WORKFLOW, Callee.EITHER) else None
            if action is not None or workflow is not None:
                return action or workflow
        return None

    def hint(self, name: str) -> str:
        """Return a hint with the most similar known name, or ""."""
        return self.near(name, (*self.actions, *self.workflows, *self.names))

    def near(self, word: str, words: Iterable[str]) -> str:
        """Return a hint with the most similar word, or ""."""
        return self._guess.hint(word, words)


def check(calls: Sequence[Call], known: KnownCallees, book: str = "") -> list[Problem]:
    """Return the warnings about the calls of one document; `book` is the workbook that contains them."""
    found: list[Problem] = []
    for call in calls:
        signature = known.find(call, book)
        if signature is None:
            found.append(_unknown(call, known))
            continue
        if signature.off:
            message = f"the action `{call.name}` is off: {signature.off}"
            found.append(_problem(call.spot, message, signature.hint))
        found += _misfits(call, signature, known)
    return found


def _unknown(call: Call, known: KnownCallees) -> Problem:
    name = call.name[:255]
    if call.callee is Callee.REVERT and call.name in known.workflows:
        hint = "name an action; the tasks of that workflow have reverts of their own"
        return _problem(call.spot, f"a revert runs an action, and `{name}` is a workflow", hint)
    kind = "workflow" if call.callee is Callee.WORKFLOW else "action"
    if call.callee is Callee.EITHER and not _has_pack(call.name):
        hint = known.hint(call.name) or "it has the form pack.name: core.echo"
        return _problem(call.spot, f"`{name}` is no reference to an action", hint)
    later = (
        "store it before the task begins"
        if kind == "workflow"
        else "an executor that has it describes it when it connects, else store it as an ad-hoc action"
    )
    return _problem(call.spot, f"no {kind} `{name}` is known now", known.hint(call.name) or later)


def _has_pack(text: str) -> bool:
    pack, dot, name = text.partition(".")
    return bool(pack and dot and name)


def _misfits(call: Call, signature: Signature, known: KnownCallees) -> list[Problem]:
    """Return problems for missing inputs, and for inputs that do not exist."""
    if call.given is None:
        return []
    callee = f"the {'workflow' if call.callee is Callee.WORKFLOW else 'action'} `{call.name}`"
    found = [
        _problem(call.input_spot, f"{callee} needs the input `{name}`")
        for name in sorted(signature.required - call.given.keys())
    ]
    if signature.is_open:
        return found
    taken = signature.required | signature.optional
    for name, spot in call.given.items():
        if name not in taken:
            hint = known.near(name, sorted(taken)) or _list_of(taken)
            found.append(_problem(spot, f"{callee} has no input `{name}`", hint))
    return found


def _list_of(taken: Iterable[str]) -> str:
    names = ", ".join(sorted(taken))
    return f"it takes {names}" if names else "it takes no input"


def _problem(spot: Spot, message: str, hint: str = "") -> Problem:
    return Problem(spot.path, spot.line, spot.column, message, hint, CONTENT)
