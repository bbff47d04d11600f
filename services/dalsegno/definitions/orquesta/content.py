"""Whether the actions that a definition names exist, and take the input that it gives them.

Only who knows the registry of actions can ask this, so it is asked only when one is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dalsegno.definitions.orquesta.expressions import has_expression
from dalsegno.definitions.orquesta.parts import ReadTask
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import CONTENT


@dataclass(frozen=True, slots=True)
class Signature:
    """The input that an action takes."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    is_open: bool = False
    """Whether it takes any other input too."""


class Actions(Protocol):
    """A registry of actions and of workflows that can be called like actions."""

    def signature(self, reference: str) -> Signature | None:
        """None for what is not registered."""

    def references(self) -> Iterable[str]:
        """All that is registered, for hints."""


def check_content(reader: Reader, tasks: Iterable[ReadTask], actions: Actions, own_name: str = "") -> None:
    """Notes references to what is not registered, all the more where they have not the form pack.name (what Mistral
    has defined need not have it), and input that does not fit. By its own name the workflow calls itself."""
    for task in tasks:
        reference = task.call.action
        if not reference or reference == own_name or has_expression(reference):
            continue
        signature = actions.signature(reference)
        if signature is None and not _is_reference(reference):
            message = f"`{reference[:255]}` is no reference to an action"
            hint = reader.guess(reference, actions.references()) or "it has the form pack.name: core.echo"
            reader.fault(task.call.action_path, message, hint, CONTENT)
        elif signature is None:
            hint = reader.guess(reference, actions.references())
            reader.fault(task.call.action_path, f"there is no action `{reference[:255]}`", hint, CONTENT)
        else:
            _check_input(reader, task, signature)


def _is_reference(text: str) -> bool:
    pack, dot, name = text.partition(".")
    return bool(pack and dot and name)


def _check_input(reader: Reader, task: ReadTask, signature: Signature) -> None:
    call = task.call
    if isinstance(call.input, str):
        return
    given = call.input or {}
    place = call.input_path if given else call.action_path
    for name in sorted(signature.required - given.keys()):
        reader.fault(place, f"the action `{call.action}` needs the input `{name}`", category=CONTENT)
    if signature.is_open:
        return
    known = signature.required | signature.optional
    for name in given:
        if name not in known:
            where = call.action_path if call.is_inline else (*call.input_path, name)
            message = f"the action `{call.action}` has no input `{name}`"
            reader.fault(where, message, reader.guess(name, sorted(known)), CONTENT)
