"""Answers are checked by the schema that they are to fit, in a process that is killed when it takes too long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dalsegno.expressions.answers import UnfitSchema, check_schema, find_problems
from dalsegno.expressions.pool.jobs import SchemaCheck
from dalsegno.expressions.pool.limits import Limits
from dalsegno.expressions.pool.pool import Pool
from dalsegno.workflow.scope import EvaluationError

APPROVAL = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "description": "Go on?", "required": True},
        "count": {"type": "integer", "minimum": 1, "default": 3},
        "comment": {"type": "string"},
        "hosts": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string", "required": True}}},
        },
    },
    "additionalProperties": False,
}


@pytest.fixture
def pool() -> Iterator[Pool]:
    """One process with little time."""
    made = Pool(1, limits=Limits(processor_s=0.5))
    yield made
    made.close()


@pytest.mark.parametrize(
    "answer",
    [
        {"approved": True},
        {"approved": False, "count": 7, "comment": "fine", "hosts": [{"name": "web-1"}]},
        {"approved": True, "count": None, "comment": None, "hosts": None},
    ],
)
def test_what_fits(answer: object) -> None:
    """A default stands in, and null for what need not be there is as if it was not there (as in StackStorm)."""
    assert find_problems(APPROVAL, answer) == []


@pytest.mark.parametrize(
    ("answer", "problems"),
    [
        ({}, [(".approved", "is missing")]),
        ({"approved": None}, [(".approved", "None is not of type 'boolean'")]),
        (None, [("", "None is not of type 'object'")]),
        (
            {"approved": "yes", "count": 0, "hosts": [{"name": "web-1"}, {}], "more": 1, "other": 2},
            [
                (".approved", "'yes' is not of type 'boolean'"),
                (".count", "0 is less than the minimum of 1"),
                (".hosts[1].name", "is missing"),
                (".more", "is not asked for"),
                (".other", "is not asked for"),
            ],
        ),
    ],
)
def test_every_wrong_field_is_named_once(answer: object, problems: list[tuple[str, str]]) -> None:
    """With its place; all at once."""
    assert sorted(find_problems(APPROVAL, answer)) == problems


@pytest.mark.parametrize("schema", [{"type": "array"}, {"items": True}, {"items": [{"type": "object"}, True]}])
def test_what_no_schema_describes_is_taken_as_it_is(schema: object) -> None:
    """The items of a list that the schema says nothing of, or all the same, may be anything."""
    assert find_problems(schema, [{"a": None}, 7]) == []


def test_both_ways_to_say_what_is_required() -> None:
    """JSON Schema's list of names, and a word of the property itself."""
    schema = {"required": ["a"], "properties": {"a": {}, "b": {"required": True}, "c": {"required": False}}}

    assert find_problems(schema, {}) == [(".a", "is missing"), (".b", "is missing")]


def test_a_schema_may_name_its_draft() -> None:
    """Without that it is draft 7; an older one is read as it was meant."""
    schema = {"minimum": 3, "exclusiveMinimum": True}
    with pytest.raises(UnfitSchema, match="exclusiveMinimum"):
        check_schema(schema)

    schema["$schema"] = "http://json-schema.org/draft-04/schema#"  # type: ignore[assignment]
    assert [told for _, told in find_problems(schema, 3)] == ["3 is less than or equal to the minimum of 3"]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("object", "not an object but 'object'"),
        ({"type": "objekt"}, r"\.type: 'objekt'"),
        ({"properties": {"a": {"pattern": "("}}}, r"\.properties\.a\.pattern"),
    ],
)
def test_what_is_no_schema_is_told(schema: object, told: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(UnfitSchema, match=told):
        check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "which is not in it"),
        ({"$ref": "#"}, "refers to itself without end"),
    ],
)
def test_references_lead_nowhere_else(schema: object, told: str) -> None:
    """A schema cannot make the engine read addresses, nor go round for ever."""
    with pytest.raises(UnfitSchema, match=told):
        find_problems(schema, 1)


def test_a_slow_schema_is_stopped(pool: Pool) -> None:
    """A pattern that takes years ends after the limit, and the next check is well."""
    with pytest.raises(EvaluationError, match=r"the schema of the answer: it takes more than 0\.5 s of processor time"):
        pool.evaluate(SchemaCheck({"pattern": "(a+)+$"}, "a" * 50 + "b"))

    assert pool.evaluate(SchemaCheck(APPROVAL, {"approved": 1})) == [[".approved", "1 is not of type 'boolean'"]]


def test_an_unfit_schema_is_told_from_apart(pool: Pool) -> None:
    """As a message."""
    with pytest.raises(EvaluationError, match=r"the schema of the answer is unfit: \.type"):
        pool.evaluate(SchemaCheck({"type": "objekt"}, 1))


def test_what_cannot_be_sent_is_told(pool: Pool) -> None:
    """Data that no message can carry cannot be checked, and other checks continue."""
    with pytest.raises(EvaluationError, match=r"it cannot be checked: .* holds a lone surrogate"):
        pool.evaluate(SchemaCheck({}, "\ud800"))
    assert pool.evaluate(SchemaCheck({}, "a")) == []
