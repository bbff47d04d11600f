"""The functions about workflows, as YAQL calls them."""

from __future__ import annotations

from dalsegno.expressions import functions
from dalsegno.expressions.functions import CAMEL
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import builtin
from dalsegno.workflow.scope import EvaluationError


@builtin("task", least=0, most=1, function=True)
def task(frame: Frame, name: object = None) -> object:
    return functions.task(frame.scope, frame.budget, name)


@builtin("tasks", least=0, most=4, function=True)
def tasks(frame: Frame, *values: object, **named: object) -> object:
    try:
        return functions.tasks(
            frame.scope, frame.budget, *values, **{CAMEL.get(name, name): named[name] for name in named}
        )
    except TypeError:
        raise EvaluationError("tasks() takes workflow_execution_id, recursive, state and flat") from None


@builtin("execution", least=0, function=True)
def execution(frame: Frame) -> object:
    return functions.execution(frame.scope, frame.budget)


@builtin("executions", least=0, most=5, function=True)
def executions(frame: Frame, *values: object, **named: object) -> object:
    return functions.executions(frame.scope, frame.budget, *values, **named)


@builtin("env", least=0, function=True)
def env(frame: Frame) -> object:
    return functions.env(frame.scope, frame.budget)


@builtin("global", least=1, function=True)
def global_variable(frame: Frame, name: object) -> object:
    return functions.global_(frame.scope, frame.budget, name)


@builtin("uuid", least=0, function=True)
def uuid(frame: Frame) -> object:
    return functions.uuid(frame.scope, frame.budget)


@builtin("json_dump", function=True)
def json_dump(frame: Frame, value: object) -> object:
    return functions.json_dump(frame.budget, value)


@builtin("json_parse", function=True)
def json_parse(frame: Frame, text: object) -> object:
    return functions.json_parse(frame.budget, text)


@builtin("yaml_dump", function=True)
def yaml_dump(frame: Frame, value: object) -> object:
    return functions.yaml_dump(frame.budget, value)


@builtin("yaml_parse", function=True)
def yaml_parse(frame: Frame, text: object) -> object:
    return functions.yaml_parse(frame.budget, text)
