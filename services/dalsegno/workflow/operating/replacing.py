"""What an operation puts in the place of a secret is a secret: nobody has to read the old value to say so."""

from __future__ import annotations

from collections.abc import Iterable
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
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.secrets import carries_secret, hide_like, hide_named, hide_value
from dalsegno.workflow.value import UnfitValue, Value

AnyEvent = TypeVar("AnyEvent", bound=Event)


def hide(step: Step, event: AnyEvent) -> AnyEvent:
    """Return the event, which is that of the step from now on, with the new values of secrets encrypted. Raise
    InvalidRequest for one that is too large."""
    workflow = step.workflow
    if not (step.execution.holds_secrets or workflow.secrets or any(task.secret for task in workflow.tasks.values())):
        return event
    try:
        step.event = hidden = cast(AnyEvent, _hidden_event(step, event))
    except UnfitValue as error:
        raise InvalidRequest.of("secrets", f"a value that replaces a secret is {error}") from None
    return hidden


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


def _environment(step: Step, given: Value | None) -> Value | None:
    return None if given is None else hide_like(step.execution.environment.data, given, step.cipher)


def _choice(step: Step, choice: TaskChoice) -> TaskChoice:
    """Return the choice with its inputs hidden where an attempt before had a secret, and the output of a task whose
    results are secrets."""
    spec = step.workflow.tasks.get(choice.task)
    if spec is None:
        return choice
    before = _secret_inputs(step, choice)
    items = {
        item: None if given is None else _input(step, given, [before[item]] if item in before else before.values())
        for item, given in choice.items.items()
    }
    return msgspec.structs.replace(
        choice,
        input=None if choice.input is None else _input(step, choice.input, before.values()),
        items=items,
        output=hide_value(choice.output, step.cipher) if choice.output is not None and spec.secret else choice.output,
    )


def _secret_inputs(step: Step, choice: TaskChoice) -> dict[int, Attempt]:
    """Return the present attempts of the task that were given secrets, by their items."""
    execution = step.execution
    task = execution.tasks.get(choice.number) or execution.latest(choice.task)
    attempts = () if task is None else execution.current_attempts(task)
    return {attempt.key[1]: attempt for attempt in attempts if carries_secret(attempt.input)}


def _input(step: Step, given: Value, before: Iterable[Attempt]) -> Value:
    """Return the new input with what replaces secrets of these attempts hidden. That of an ad-hoc action has other
    names than what its base was given, so all of it is."""
    for attempt in before:
        if attempt.adhoc and isinstance(given.data, dict):
            return Value(data=hide_named(given.data, given.data.keys(), step.cipher))
        given = hide_like(attempt.input.data, given, step.cipher)
    return given


def _edit(step: Step, edit: ContextUpdated) -> ContextUpdated:
    values = {name: _variable(step, name, value) for name, value in edit.values.items()}
    return msgspec.structs.replace(edit, values=values)


def _variable(step: Step, name: str, given: Value) -> Value:
    """Return the new value of a variable, with what replaces a secret hidden."""
    if name in step.workflow.secrets:
        return hide_value(given, step.cipher)
    execution = step.execution
    declared = execution.input.data
    assert isinstance(declared, dict)
    given = hide_like(declared.get(name), given, step.cipher)
    for before in (execution.globals.get(name), *(task.published.get(name) for task in execution.tasks.values())):
        if before is not None and carries_secret(before):
            given = hide_like(before.data, given, step.cipher)
    return given


def _fork(step: Step, fork: ForkRequest) -> ForkRequest:
    edit = None if fork.edit is None else _edit(step, fork.edit)
    return msgspec.structs.replace(fork, environment=_environment(step, fork.environment), edit=edit)
