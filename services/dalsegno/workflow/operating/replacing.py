"""What an operation puts in the place of a secret is a secret: nobody has to read the old value to say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

import msgspec

from dalsegno.workflow.events import (
    ContextUpdated,
    Event,
    ForkRequest,
    GoToRequested,
    RerunRequested,
    ResumeRequested,
    StartRequested,
    TaskChoice,
)
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.secrets import Cipher, hide_like, hide_named, hide_value, is_secret
from dalsegno.workflow.value import UnfitValue, Value

AnyEvent = TypeVar("AnyEvent", bound=Event)


def hidden(step: Step, event: AnyEvent) -> AnyEvent:
    """Return the event with the new values of secrets hidden. Raise InvalidRequest for one that is too large."""
    if not (step.execution.holds_secrets or step.workflow.secrets):
        return event
    try:
        return cast(AnyEvent, _hidden_event(step, event))
    except UnfitValue as error:
        raise InvalidRequest.of("secrets", f"a value that replaces a secret is {error}") from None


def _hidden_event(step: Step, event: Event) -> Event:
    if isinstance(event, ResumeRequested | RerunRequested):
        choices = tuple(_choice(step, choice) for choice in event.choices)
        return msgspec.structs.replace(event, choices=choices, environment=_environment(step, event.environment))
    if isinstance(event, ContextUpdated):
        return _edit(step, event)
    if isinstance(event, GoToRequested) and event.edit is not None:
        return msgspec.structs.replace(event, edit=_edit(step, event.edit))
    if isinstance(event, StartRequested) and event.fork is not None:
        return msgspec.structs.replace(event, fork=_fork(step, event.fork))
    return event


def _named(given: Value, names: set[str], cipher: Cipher) -> Value:
    """Return an object with these members hidden; anything else is refused later."""
    if not names or not isinstance(given.data, dict):
        return given
    return Value(data=hide_named(given.data, names, cipher))


def _environment(step: Step, given: Value | None) -> Value | None:
    return None if given is None else hide_like(step.execution.environment.data, given, step.cipher)


def _choice(step: Step, choice: TaskChoice) -> TaskChoice:
    """Return the choice with its inputs hidden where an attempt before had a secret, and the output of a task whose
    results are secrets."""
    spec = step.workflow.tasks.get(choice.task)
    if spec is None:
        return choice
    names = _secret_inputs(step, choice)
    items = {item: None if given is None else _named(given, names, step.cipher) for item, given in choice.items.items()}
    return msgspec.structs.replace(
        choice,
        input=None if choice.input is None else _named(choice.input, names, step.cipher),
        items=items,
        output=hide_value(choice.output, step.cipher) if choice.output is not None and spec.secret else choice.output,
    )


def _secret_inputs(step: Step, choice: TaskChoice) -> set[str]:
    execution = step.execution
    task = execution.tasks.get(choice.number) or execution.latest(choice.task)
    names: set[str] = set()
    for attempt in () if task is None else execution.current_attempts(task):
        if isinstance(attempt.input.data, dict):
            names.update(name for name, member in attempt.input.data.items() if is_secret(member))
    return names


def _edit(step: Step, edit: ContextUpdated) -> ContextUpdated:
    names = {*step.workflow.secrets} | {name for name in edit.values if _is_secret(step, edit, name)}
    values: Mapping[str, Value] = {
        name: hide_value(value, step.cipher) if name in names else value for name, value in edit.values.items()
    }
    return msgspec.structs.replace(edit, values=values)


def _is_secret(step: Step, edit: ContextUpdated, name: str) -> bool:
    """Return whether the variable that an edit replaces is a secret."""
    execution = step.execution
    declared = execution.input.data
    assert isinstance(declared, dict)
    values = [execution.globals.get(name), *(task.published.get(name) for task in execution.tasks.values())]
    return is_secret(declared.get(name)) or any(value is not None and is_secret(value.data) for value in values)


def _fork(step: Step, fork: ForkRequest) -> ForkRequest:
    edit = None if fork.edit is None else _edit(step, fork.edit)
    return msgspec.structs.replace(fork, environment=_environment(step, fork.environment), edit=edit)
