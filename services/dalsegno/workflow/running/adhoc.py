"""From the name and input in a task to the action that executors know: ad-hoc chains, checks and defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from dalsegno.workflow.contexts.context import EMPTY_CONTEXT
from dalsegno.workflow.model import ActionDescription, AdHocAction, Parameter
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View
from dalsegno.workflow.scope import Constant, EvaluationError
from dalsegno.workflow.secrets import members

CHAIN_MAX = 32
"""The longest chain of ad-hoc actions; a longer one is taken for a cycle."""


class Unresolved(Exception):
    """The action cannot be resolved; the task's handlers may catch that."""


class Resolved(msgspec.Struct, frozen=True):
    """An action that is ready to run."""

    description: ActionDescription
    input: dict[str, object]
    adhoc: str


_NOBODY = "no executor has described it, and no ad-hoc action has this name"
"""The expected provider of an action that is not known."""


def candidates(workbook: str | None, name: str) -> tuple[str, ...]:
    """Return the names to look up, in order: a member of the same workbook comes first."""
    return (name,) if workbook is None else (f"{workbook}.{name}", name)


def _find(step: Step, workbook: str | None, name: str) -> tuple[str, ActionDescription | AdHocAction | None]:
    for candidate in candidates(workbook, name):
        found = step.surroundings.find_action(candidate, step.execution.created.namespace)
        if found is not None:
            return candidate, found
    return name, None


def resolve(step: Step, name: str, given: Mapping[str, object], scope: Callable[[], View]) -> Resolved:
    """Follow the chain of ad-hoc actions to the one that executors run. `scope` makes the scope of their bases, which
    most actions do not need.

    Raise HardFailure for an unknown action and for missing or unexpected parameters of the first action. Raise
    Unresolved for every error further down the chain: it is endless or ends nowhere, a base or base-input cannot be
    evaluated, a base lacks parameters or does not take them.
    """
    full_name, found = _find(step, step.workflow.workbook, name)
    outer, inputs, length = full_name, given, 0
    while isinstance(found, AdHocAction):
        length += 1
        if length > CHAIN_MAX:
            raise Unresolved(f"ad-hoc action '{outer}' never comes to an action that executors run")
        inputs = _of_chain(step, found.name, found.input, inputs, is_first=length == 1)
        base, inputs = _base(step, found, inputs, scope())
        full_name, found = _find(step, found.workbook, base)
    if found is None:
        if length:
            raise Unresolved(f"ad-hoc action '{outer}' is based on '{full_name}', which is not known: {_NOBODY}")
        raise HardFailure(f"action '{name}' is not known: {_NOBODY}")
    if found.others:
        found = found.fitting(inputs, environment_defaults(step, step.execution.environment.data, found.name))
    # People see their whole input; executors complete the input of all other actions.
    asks = bool(found.answer_key or found.answer_schema)
    completed = _of_chain(
        step, found.name, found.parameters, inputs, accepts_any=found.accepts_any, defaults=asks, is_first=not length
    )
    return Resolved(found, completed, outer if length else "")


def _of_chain(
    step: Step,
    name: str,
    parameters: tuple[Parameter, ...],
    given: Mapping[str, object],
    *,
    is_first: bool,
    accepts_any: bool = False,
    defaults: bool = True,
) -> dict[str, object]:
    """Return the completed input of an action of the chain. Raise HardFailure for the first one, Unresolved for
    others."""
    try:
        return _complete(step, name, parameters, given, accepts_any=accepts_any, defaults=defaults)
    except HardFailure as failure:
        if is_first:
            raise
        raise Unresolved(str(failure)) from None


def _base(step: Step, action: AdHocAction, inputs: Mapping[str, object], scope: View) -> tuple[str, dict[str, object]]:
    """Return the name of the action that this one is based on, and its input. Raise Unresolved."""
    inner = View(step, scope._task, scope._context, scope._extra, first=inputs)
    try:
        base = str(action.base.evaluate(scope))
        base_input = {} if action.base_input is None else action.base_input.evaluate(inner)
    except EvaluationError as error:
        raise Unresolved(f"cannot evaluate the base or the base-input of action '{action.name}': {error}") from None
    base_input = members(base_input, step.cipher)
    if not isinstance(base_input, dict):
        raise Unresolved(f"base-input of action '{action.name}' must be a dict, not {base_input!r:.100}")
    return base, base_input


def _complete(
    step: Step,
    name: str,
    parameters: tuple[Parameter, ...],
    given: Mapping[str, object],
    *,
    accepts_any: bool,
    defaults: bool,
) -> dict[str, object]:
    """Return the input with the values of the environment (`__actions`) and the declared defaults."""
    inputs, missing = dict(given), []
    from_environment = environment_defaults(step, step.execution.environment.data, name)
    for parameter in parameters:
        if parameter.name in inputs:
            continue
        if parameter.name in from_environment:
            inputs[parameter.name] = from_environment[parameter.name]
        elif defaults and isinstance(parameter.default, Constant):
            inputs[parameter.name] = parameter.default.value
        elif parameter.required:
            missing.append(parameter.name)
    if not step.workflow.rules.calls.checks_input:  # the action itself reports it
        return inputs
    known = () if accepts_any else {parameter.name for parameter in parameters}
    unexpected = [] if accepts_any else [key for key in given if key not in known]
    if unexpected or missing:
        problems = [f"unexpected {', '.join(unexpected)}"] if unexpected else []
        problems += [f"missing {', '.join(missing)}"] if missing else []
        raise HardFailure(f"action '{name}' has the wrong input: {'; '.join(problems)}")
    return inputs


def faults(
    step: Step, name: str, given: Mapping[str, object], environment: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Return the parameters that an input lacks, and what it has beyond them; nothing for an unknown action."""
    full_name, found = _find(step, step.workflow.workbook, name)
    if found is None:
        return
    from_environment = environment_defaults(step, environment, found.name)
    if isinstance(found, ActionDescription):
        found = found.fitting(given, from_environment)
    parameters = found.input if isinstance(found, AdHocAction) else found.parameters
    accepts_any = isinstance(found, ActionDescription) and found.accepts_any
    known = {parameter.name for parameter in parameters}
    for parameter in parameters:
        if parameter.required and parameter.name not in given and parameter.name not in from_environment:
            yield parameter.name, f"is missing: action '{full_name}' needs it"
    for key in given:
        if key not in known and not accepts_any:
            yield key, f"is not a parameter of action '{full_name}'"


def environment_defaults(step: Step, environment: object, name: str) -> Mapping[str, object]:
    """Return what an environment gives to each call of an action. Of secrets, each default is one."""
    if isinstance(environment, dict):
        actions = environment.get("__actions")
        actions = members(actions, step.cipher)
        if isinstance(actions, dict):
            defaults = members(actions.get(name), step.cipher)
            if isinstance(defaults, dict):
                return defaults
    return {}


def output(step: Step, name: str, result: object) -> object:
    """Return the result of the inner action after the output template of each action of the chain."""
    chain: list[AdHocAction] = []
    found = step.surroundings.find_action(name, step.execution.created.namespace)
    while isinstance(found, AdHocAction) and len(chain) <= CHAIN_MAX:
        chain.append(found)
        base = found.base.evaluate(View(step, None, EMPTY_CONTEXT))
        _, found = _find(step, found.workbook, str(base))
    for action in reversed(chain):
        if action.output is not None:
            result = action.output.evaluate(ResultView(step, members(result, step.cipher)))
    return result


class ResultView(View):
    """The scope of the output of an ad-hoc action: `$` is the result itself."""

    __slots__ = ("_given",)

    def __init__(self, step: Step, result: object) -> None:
        super().__init__(step, None, EMPTY_CONTEXT)
        self._given = result

    def variable(self, name: str) -> object:
        """Return a key of the result. Raise EvaluationError when the result has no keys."""
        if not isinstance(self._given, dict):
            raise EvaluationError(f"the result has no '{name}': it is {self._given!r:.100}")
        return self._given[name]

    def variables(self) -> dict[str, object]:
        """Return the result. (What `$` gives need not be a dict here.)"""
        return self._given  # type: ignore[return-value]
