"""Functions of both languages about their own execution, and for conversions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from uuid import UUID

import yaml

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.values import CONTAINER_COST, DEPTH, MEMBER_COST, describe, finish, show, weigh
from dalsegno.workflow.scope import CALLBACK_URL, EvaluationError, Scope
from dalsegno.workflow.states import ExecutionState, TaskState

PARSED_LENGTH = 4 * 1024 * 1024
"""Characters of a text that `json_parse` reads."""
PARSED_YAML_LENGTH = 256 * 1024
"""Characters of a text that `yaml_parse` reads: the parser needs about a second for a megabyte."""


JSON_COST = 10
"""Steps of reading or writing any JSON."""
JSON_READ = 4
"""Characters of JSON that are read in the time of one step."""
JSON_WRITTEN = 4
"""Steps of writing one value within a value as JSON."""
YAML_READ = 4
"""Steps of reading one character of YAML."""
YAML_LENGTH_HERE = 4_096
YAML_LEVELS_HERE = 100
"""Characters and opening brackets of a YAML text that is read in the engine: time grows with their product."""
MERGED = "<<"
"""The key that merges other mappings into one: a short text may say so ten billion times."""
YAML_WRITTEN = 20
"""Steps of writing one value within a value as YAML, or CHARACTERS_PER_STEP characters of a text."""
ASK_COST = 20
"""Steps of asking for one record."""
LIST_COST = 10_000
"""Steps of asking for a list of records: it may have a thousand of them."""


def draw(scope: Scope, budget: Budget) -> Random:
    """Derive the values of `uuid()` and `random()`: from the scope's seed, the expression's place, and a counter.

    The same event stepped again gives the same, and two expressions of one event differ.
    """
    budget.asked += 1
    budget.step(ASK_COST)
    return Random(f"{scope.seed}\0{budget.place}\0{budget.asked}")


TASK_WORDS = {TaskState.RUNNING_DELAYED.value: "DELAYED"}
"""Mistral's names of task states, if they differ from ours."""
EXECUTION_WORDS = {ExecutionState.PAUSING.value: "PAUSED", ExecutionState.CANCELLING.value: "CANCELLED"}
"""Mistral's names of execution states, if they differ from ours: it has none for PAUSING and CANCELLING."""


def _in_words(record: dict[str, object], words: Mapping[str, str]) -> dict[str, object]:
    """Return the record with Mistral's name of its state."""
    word = words.get(str(record.get("state")))
    return record if word is None else record | {"state": word}


def task(scope: Scope, budget: Budget, name: object = None) -> object:
    """`task()` and `task(name)`."""
    if name is not None and not isinstance(name, str):
        raise EvaluationError(f"task() needs the name of a task, not {describe(name)}")
    budget.step(ASK_COST)
    found = scope.task(name)
    return None if found is None else _in_words(found, TASK_WORDS)


def tasks(
    scope: Scope,
    budget: Budget,
    workflow_execution_id: object = None,
    recursive: object = False,
    state: object = None,
    flat: object = False,
) -> object:
    """`tasks(execution id, recursive, state, flat)`."""
    budget.step(LIST_COST)
    asked, word = _optional_text(workflow_execution_id, "tasks()"), _optional_text(state, "tasks()")
    own = {word: ours for ours, word in TASK_WORDS.items()}
    found = scope.tasks(asked, bool(recursive), own.get(word, word) if word else word, bool(flat))
    return [_in_words(record, TASK_WORDS) for record in found]


def execution(scope: Scope, budget: Budget) -> object:
    budget.step(ASK_COST)
    return scope.execution()


CRITERIA = ("id", "root_execution_id", "state", "from_time", "to_time")
CAMEL = {
    "rootExecutionId": "root_execution_id",
    "fromTime": "from_time",
    "toTime": "to_time",
    "workflowExecutionId": "workflow_execution_id",
}
"""The library spells parameters in camel case; both spellings are accepted."""


def executions(scope: Scope, budget: Budget, *values: object, **named: object) -> object:
    """`executions(id, root_execution_id, state, from_time, to_time)`, by place or by name."""
    if len(values) > len(CRITERIA):
        raise EvaluationError(f"executions() takes at most {len(CRITERIA)} arguments")
    criteria = dict(zip(CRITERIA, values, strict=False))
    for name, value in named.items():
        known = CAMEL.get(name, name)
        if known not in CRITERIA or known in criteria:
            raise EvaluationError(f"executions() does not take {name!r}")
        criteria[known] = value
    budget.step(LIST_COST)
    asked = {name: value for name, value in criteria.items() if value is not None}
    found = scope.executions(**asked)
    for ours, word in EXECUTION_WORDS.items():
        if asked.get("state") == word:
            found = [*found, *scope.executions(**{**asked, "state": ours})]
    return [_in_words(record, EXECUTION_WORDS) for record in found]


def env(scope: Scope, budget: Budget) -> object:
    budget.step(1)
    return scope.environment()


def global_(scope: Scope, budget: Budget, name: object) -> object:
    if not isinstance(name, str):
        raise EvaluationError(f"global() needs the name of a variable, not {describe(name)}")
    budget.step(1)
    return scope.global_variable(name)


def callback_url(budget: Budget) -> str:
    """Return the text in whose place the engine puts the address of the action that has it in its input."""
    budget.step(1)
    return CALLBACK_URL


def uuid(scope: Scope, budget: Budget) -> str:
    """Return a random UUID of the event: stepping the event again gives the same one."""
    return str(UUID(int=draw(scope, budget).getrandbits(128), version=4))


def dump_json(
    budget: Budget,
    value: object,
    indent: int | None = None,
    sort_keys: bool = False,
    separators: tuple[str, str] | None = None,
) -> str:
    """Return the value as JSON. Raises EvaluationError."""
    finished = finish(value, budget)
    budget.step(JSON_COST + weigh(finished, budget) * JSON_WRITTEN)
    encoder = json.JSONEncoder(indent=indent, sort_keys=sort_keys, separators=separators, allow_nan=False)
    parts = []
    try:
        # Indented it may be much longer than the value, so each part is counted before the next is made.
        for part in (encoder.encode(finished),) if indent is None else encoder.iterencode(finished):
            budget.build(len(part))
            parts.append(part)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"it cannot be written as JSON: {error}") from None
    return "".join(parts)


def json_dump(budget: Budget, value: object) -> str:
    return dump_json(budget, value, indent=4)


def parse_json(budget: Budget, text: object, what: str) -> object:
    """Return the value that a JSON text says. Raises EvaluationError."""
    source = _text(text, what, PARSED_LENGTH)
    budget.step(JSON_COST + len(source) // JSON_READ)
    budget.build(len(source))
    budget.unproven = True
    try:
        return json.loads(source, parse_constant=_refuse_constant)
    except ValueError as error:
        raise EvaluationError(f"{what}: {error}") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def json_parse(budget: Budget, text: object) -> object:
    return parse_json(budget, text, "json_parse()")


def dump_yaml(budget: Budget, value: object, indent: int | None = None, allow_unicode: bool = False) -> str:
    """Return the value as YAML in block style. Raises EvaluationError."""
    finished = finish(value, budget)
    budget.step(weigh(finished, budget) * YAML_WRITTEN)
    text: str = yaml.dump(
        finished, Dumper=_DUMPER, default_flow_style=False, indent=indent, allow_unicode=allow_unicode
    )
    budget.build(len(text))
    return text


def yaml_dump(budget: Budget, value: object) -> str:
    return dump_yaml(budget, value)


def parse_yaml(budget: Budget, text: object, what: str) -> object:
    """Return the value that a YAML text says. Raises EvaluationError."""
    source = _text(text, what, PARSED_YAML_LENGTH)
    budget.step(len(source) * YAML_READ)
    if len(source) > YAML_LENGTH_HERE or source.count("[") + source.count("{") > YAML_LEVELS_HERE or MERGED in source:
        budget.leave()
    budget.build(len(source))
    budget.unproven = True
    try:
        return _plain(yaml.load(source, Loader=_LOADER), budget, 0)
    except (yaml.YAMLError, ValueError) as error:
        raise EvaluationError(f"{what}: {' '.join(str(error).split())}") from None


def yaml_parse(budget: Budget, text: object) -> object:
    return parse_yaml(budget, text, "yaml_parse()")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a repeated value again, without an alias."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_DUMPER = _Dumper


def _plain(value: object, budget: Budget, depth: int) -> object:
    """Return YAML data as JSON data. Each use of an alias is counted, so that exponential aliases stop early."""
    if depth > DEPTH:
        raise EvaluationError(f"yaml_parse(): nested deeper than {DEPTH} levels")
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return bounded(budget, value)
    if isinstance(value, dict):
        budget.step(2 * len(value))
        budget.build(MEMBER_COST * len(value) + CONTAINER_COST)
        return {
            key if isinstance(key, str) else show(finish(key, budget), budget): _plain(item, budget, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        budget.step(len(value))
        budget.build(len(value) + CONTAINER_COST)
        return [_plain(item, budget, depth + 1) for item in value]
    if value is None or isinstance(value, float):
        return finish(value, budget)
    return str(value)


def _text(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str):
        raise EvaluationError(f"{what} needs a string, not {describe(value)}")
    if len(value) > limit:
        raise EvaluationError(f"{what} reads at most {limit:,} characters")
    return value


def _optional_text(value: object, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise EvaluationError(f"{what} needs a string, not {describe(value)}")
