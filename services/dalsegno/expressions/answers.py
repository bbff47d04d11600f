"""What is wrong with an answer, by the JSON schema that it must fit. Runs in the pool: schemas may be slow.

A schema is of JSON Schema's draft 7, or of the draft in its `$schema`. In addition, as in StackStorm, a property may
have `required: true`, an optional one may be null, and one with a default may be omitted. References cannot leave the
schema: nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft7Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

PROBLEMS_MAX = 100
_SHOWN_CHARACTERS = 200

Problem = tuple[str, str]
"""The place, such as `.approved` or `.hosts[2]` (empty: the whole answer), and the error."""


class UnfitSchema(ValueError):
    """The schema is not a valid JSON schema; the text has the error."""


def check_schema(schema: object) -> None:
    """Raise UnfitSchema."""
    _validator(schema)


def find_problems(schema: object, answer: object) -> list[Problem]:
    """Return the errors of the answer, one for each wrong field. Raises UnfitSchema."""
    standard, validator = _validator(schema)
    problems: dict[Problem, None] = {}
    try:
        for error in validator.iter_errors(_completed(answer, standard)):
            problems.update(dict.fromkeys(_problems(error)))
            if len(problems) >= PROBLEMS_MAX:
                break
    except Unresolvable as error:
        raise UnfitSchema(f"it refers to {error.ref!r}, which is not in it") from None
    except RecursionError:
        raise UnfitSchema("it refers to itself without end") from None
    return list(problems)[:PROBLEMS_MAX]


def _validator(schema: object) -> tuple[dict[str, Any], Validator]:
    if not isinstance(schema, Mapping):
        raise UnfitSchema(f"it is not an object but {_shown(schema)}")
    try:
        standard = _standard(schema)
        assert isinstance(standard, dict)
        kind = validator_for(standard, default=Draft7Validator)
        kind.check_schema(standard)
    except SchemaError as error:
        raise UnfitSchema(f"{_path(error.absolute_path) or 'it'}: {_cut(error.message)}") from None
    except RecursionError:
        raise UnfitSchema("it is nested too deeply") from None
    return standard, kind(standard, registry=Registry())


def _standard(schema: object) -> object:
    """Return the schema with each `required: true` of a property moved to the list of its object."""
    if not isinstance(schema, Mapping):
        return schema
    standard = {key: _standard_member(key, member) for key, member in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        named = [
            name for name, each in properties.items() if isinstance(each, Mapping) and each.get("required") is True
        ]
        listed = schema.get("required")
        if named:
            standard["required"] = [*(listed if isinstance(listed, list) else ()), *named]
    if isinstance(standard.get("required"), bool):
        del standard["required"]
    return standard


def _standard_member(key: str, member: object) -> object:
    if key in ("properties", "patternProperties", "definitions", "$defs") and isinstance(member, Mapping):
        return {name: _standard(each) for name, each in member.items()}
    if key in ("allOf", "anyOf", "oneOf", "items") and isinstance(member, list):
        return [_standard(each) for each in member]
    if key in ("items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains"):
        return _standard(member)
    return member


def _completed(answer: object, schema: object) -> Any:
    """Return the answer for the check: with defaults, and without nulls of optional fields."""
    if not isinstance(schema, Mapping):
        return answer
    if isinstance(answer, list):
        return [_completed(each, schema.get("items")) for each in answer]
    properties = schema.get("properties")
    if not isinstance(answer, dict) or not isinstance(properties, Mapping):
        return answer
    required = schema.get("required")
    completed = dict(answer)
    for name, each in properties.items():
        if not isinstance(each, Mapping):
            continue
        if completed.get(name) is not None:
            completed[name] = _completed(completed[name], each)
        elif each.get("default") is not None:
            completed[name] = each["default"]
        elif not (isinstance(required, list) and name in required):
            completed.pop(name, None)
    return completed


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield one error for each field; the library reports all missing, or all additional, fields in one error."""
    place = _path(error.absolute_path)
    schema: Any = error.schema
    demand: Any = error.validator_value
    if error.validator == "required" and isinstance(error.instance, dict):
        for name in demand:
            if name not in error.instance:
                yield f"{place}{_step(name)}", "is missing"
    elif error.validator == "additionalProperties" and demand is False and not schema.get("patternProperties"):
        for name in error.instance if isinstance(error.instance, dict) else ():
            if name not in schema.get("properties", {}):
                yield f"{place}{_step(name)}", "is not asked for"
    else:
        yield place, _cut(error.message)


def _path(steps: Iterable[str | int]) -> str:
    return "".join(map(_step, steps))


def _step(step: str | int) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _shown(data: object) -> str:
    return _cut(repr(data) if not isinstance(data, Sequence) or isinstance(data, str) else f"a list of {len(data)}")
