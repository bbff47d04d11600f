"""The functions of Mistral's expressions."""

from __future__ import annotations

from dalsegno.expressions import functions
from dalsegno.expressions.functions import CAMEL
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import Builtin, builtin
from dalsegno.workflow.scope import EvaluationError

FUNCTIONS: dict[str, Builtin] = {}
"""By name."""


@builtin("task", least=0, most=1, function=True, table=FUNCTIONS)
def task(frame: Frame, name: object = None) -> object:
    return functions.task(frame.scope, frame.budget, name)


@builtin("tasks", least=0, most=4, function=True, table=FUNCTIONS, named=True)
def tasks(frame: Frame, *values: object, **named: object) -> object:
    try:
        return functions.tasks(
            frame.scope, frame.budget, *values, **{CAMEL.get(name, name): named[name] for name in named}
        )
    except TypeError:
        raise EvaluationError("tasks() takes workflow_execution_id, recursive, state and flat") from None


@builtin("execution", least=0, function=True, table=FUNCTIONS)
def execution(frame: Frame) -> object:
    return functions.execution(frame.scope, frame.budget)


@builtin("executions", least=0, most=5, function=True, table=FUNCTIONS, named=True)
def executions(frame: Frame, *values: object, **named: object) -> object:
    return functions.executions(frame.scope, frame.budget, *values, **named)


@builtin("env", least=0, function=True, table=FUNCTIONS)
def env(frame: Frame) -> object:
    return functions.env(frame.scope, frame.budget)


@builtin("global", least=1, function=True, table=FUNCTIONS)
def global_variable(frame: Frame, name: object) -> object:
    return functions.global_(frame.scope, frame.budget, name)


@builtin("callback_url", least=0, function=True, table=FUNCTIONS)
def callback_url(frame: Frame) -> str:
    return functions.callback_url(frame.budget)


@builtin("uuid", least=0, function=True, table=FUNCTIONS)
def uuid(frame: Frame) -> object:
    return functions.uuid(frame.scope, frame.budget)


@builtin("json_dump", function=True, table=FUNCTIONS)
def json_dump(frame: Frame, value: object) -> object:
    return functions.json_dump(frame.budget, value)


@builtin("json_parse", function=True, table=FUNCTIONS)
def json_parse(frame: Frame, text: object) -> object:
    return functions.json_parse(frame.budget, text)


@builtin("yaml_dump", function=True, table=FUNCTIONS)
def yaml_dump(frame: Frame, value: object) -> object:
    return functions.yaml_dump(frame.budget, value)


@builtin("yaml_parse", function=True, table=FUNCTIONS)
def yaml_parse(frame: Frame, text: object) -> object:
    return functions.yaml_parse(frame.budget, text)
