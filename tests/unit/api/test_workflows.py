"""ValidateDefinitions finds problems of a text, and those that need the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from dalsegno.api.reads import Reads
from dalsegno.api.workflows import Workflows
from dalsegno.definitions.reading import MODULE as READING
from dalsegno.expressions.pool.pool import Pool
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import SessionRow, StoredDocument, StoredMember
from dalsegno.v1 import definition_pb2, failure_pb2, workflow_service_pb2

pytestmark = pytest.mark.xdist_group("api-workflows")

CONTENT = failure_pb2.PROBLEM_CATEGORY_CONTENT
NOTHING = cast(Any, None)
POOL = Pool(0, calls=1, modules=(READING,))
"""Starts with the first long text."""

DESCRIBED = {"name": "pack.greet", "parameters": [{"name": "who", "required": True}], "accepts_any": False}
STORED = [
    StoredMember("d1", "workflow", "pack.mistral", input=json.dumps([{"name": "a", "required": True}])),
    StoredMember("d2", "action", "adhoc", input=json.dumps([{"name": "b", "required": False, "default": 1}])),
]
ORQUESTA = StoredMember("d3", "workflow", "pack.orquesta", input=json.dumps([{"name": "a", "required": False}]))


@pytest.fixture(scope="module", autouse=True)
def _pool() -> Iterator[None]:
    """End the processes of the pool with the module."""
    yield
    POOL.close()


@pytest.fixture
def reads() -> Iterator[Reads]:
    """Provide a store with two workflows, an ad-hoc action and the actions of an executor."""
    store = MemoryStore()
    with store.write() as transaction:
        transaction.save_actions({"pack.greet": json.dumps(DESCRIBED)})
        transaction.save_document(StoredDocument("one", "mistral", "city", 1), STORED)
        transaction.save_document(StoredDocument("two", "orquesta", "", 1), [ORQUESTA])
    reads = Reads(store, 1)
    yield reads
    reads.close()
    store.close()


async def validate(
    text: str, reads: Reads, name: str = "", *, strict: bool = False
) -> workflow_service_pb2.ValidateDefinitionsResponse:
    request = workflow_service_pb2.ValidateDefinitionsRequest(text=text, namespace="city", name=name, strict=strict)
    return await Workflows(reads, NOTHING, POOL).ValidateDefinitions(request, NOTHING)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("<% 1 %>", []),
        ("<% ctx(nowhere) %>", [(failure_pb2.PROBLEM_CATEGORY_CONTEXT, "tasks.greet.action", 4)]),
        ("<% 1 + %>", [(failure_pb2.PROBLEM_CATEGORY_EXPRESSION, "tasks.greet.action", 4)]),
    ],
)
async def test_orquesta(message: str, found: list[tuple[int, str, int]], reads: Reads) -> None:
    """An Orquesta definition has its problems; a missing name is none as long as it is not stored."""
    answer = await validate(f"version: 1.0\ntasks:\n  greet:\n    action: pack.greet who={message}\n", reads)
    assert answer.language == definition_pb2.LANGUAGE_ORQUESTA
    assert [(problem.category, problem.path, problem.line) for problem in answer.problems] == found
    assert not answer.workflows


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("{action: pack.greet who=1}", ""),
        ("{action: pack.mistral a=1}", ""),
        ("{action: pack.orquesta more=1}", ""),
        ("{action: adhoc}", ""),
        ("{action: std.echo output=1}", ""),
        ("{action: pack.greet}", "needs the input `who`"),
        ("{action: pack.mistral}", "needs the input `a`"),
        ("{action: pack.mistral a=1 more=1}", "has no input `more`"),
        ("{action: adhoc c=1}", "has no input `c`"),
        ("{action: std.echo utput=1 output=1}", "has no input `utput`"),
        ("{action: pack.orqesta}", "no action `pack.orqesta` is known now"),
        ("{action: hocad}", "no reference to an action"),
    ],
)
async def test_actions_and_workflows_that_are_called(task: str, said: str, reads: Reads) -> None:
    """Called names are compared with built-in, described and stored ones; another document may define them, so these
    are warnings."""
    answer = await validate(f"tasks: {{t: {task}}}", reads, name="pack.w")
    assert list(answer.workflows) == ["pack.w"]
    assert not answer.problems
    assert [warning.category for warning in answer.warnings] == ([CONTENT] if said else [])
    assert all(said in warning.message for warning in answer.warnings)


async def test_a_hint_names_what_is_stored(reads: Reads) -> None:
    """A misspelled name has a hint with the stored one."""
    (warning,) = (await validate("tasks: {t: {action: pack.orqesta}}", reads)).warnings
    assert warning.hint == "did you mean `pack.orquesta`?"


async def test_mistral(reads: Reads) -> None:
    """The answer for a Mistral definition names its workflows."""
    answer = await validate("version: '2.0'\nw: {tasks: {t: {action: std.noop}}}", reads)
    assert answer.language == definition_pb2.LANGUAGE_MISTRAL
    assert (list(answer.workflows), list(answer.problems)) == (["w"], [])


WARNED = "version: '2.0'\nw:\n  output: {o: <% nosuch() %>}\n  tasks: {t: {action: std.echo output=<% 1 %>/x}}\n"


async def test_warnings_stand_beside_problems(reads: Reads) -> None:
    """Warnings have a field of their own, with places; `strict` makes them problems, in the order of the lines with
    the others."""
    answer = await validate(WARNED, reads)
    assert not answer.problems
    assert [(each.path, each.line, each.column, each.category) for each in answer.warnings] == [
        ("w.output.o", 3, 12, failure_pb2.PROBLEM_CATEGORY_EXPRESSION),
        ("w.tasks.t.action", 4, 15, failure_pb2.PROBLEM_CATEGORY_SYNTAX),
    ]
    strict = await validate(WARNED.replace("{action", "{actoin: 1, action"), reads, strict=True)
    assert not strict.warnings
    assert [each.line for each in strict.problems] == [3, 4, 4]
    assert list((await validate(WARNED, reads, strict=True)).problems) == list(answer.warnings)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"version": "2.0",\n"\\ud800": {"tasks": {"t": {"action": "std.noop"}}}}', (2, 1)),
        ('{"version": "2.0",\n"\\u0000missing": {"tasks": {"t": {"action": "std.noop"}}}}', (2, 1)),
        ('version: "2.0"\nname: book\nworkflows:\n  "\\udc00": {tasks: {t: {action: std.noop}}}', (4, 3)),
        ('version: "2.0"\nname: book\nactions:\n  "a\\0": {base: std.noop}', (4, 3)),
        ('version: 1.0\nname: "\\ud800"\ntasks: {t: {action: core.noop}}', (2, 7)),
        ('tasks:\n  "\\ud800": {action: core.noop}', (2, 3)),
    ],
)
async def test_a_name_that_cannot_be_stored(text: str, place: tuple[int, int], reads: Reads) -> None:
    """NUL or half of a surrogate pair in a name, escaped, is a problem with its place, never a fault of the server."""
    answer = await validate(text, reads)
    assert place in [(problem.line, problem.column) for problem in answer.problems]


async def test_json_is_a_definition(reads: Reads) -> None:
    """JSON is YAML, and an emoji that JSON escapes is read."""
    text = json.dumps({"version": "2.0", "w": {"tasks": {"t": {"action": "std.echo output='\N{CAT}'"}}}})
    assert "\\ud83d" in text
    answer = await validate(text, reads)
    assert (list(answer.workflows), list(answer.problems)) == (["w"], [])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.long("hundreds of problems")
async def test_problems_beyond_five_hundred_are_counted(strict: bool, reads: Reads) -> None:
    """The answer has 500 problems and counts the others."""
    tasks = "".join(f"  t{n}:\n    action: pack.greet who=<% ctx(v{n}) %>\n" for n in range(700))
    answer = await validate(f"version: 1.0\ntasks:\n{tasks}", reads, strict=strict)
    assert (len(answer.problems), answer.further_problems) == (500, 200)
    assert all("referenced before" in problem.message for problem in answer.problems)


async def test_an_action_that_an_executor_serves_now_is_not_off() -> None:
    """Without an executor the warning says how to turn the action on; its inputs are compared in both cases."""
    store = MemoryStore()
    reads = Reads(store, 1)
    text = "version: '2.0'\nw: {tasks: {t: {action: std.js script=1}}}"
    (off,) = (await validate(text, reads)).warnings
    assert "is off" in off.message
    assert "--allow std.javascript" in off.hint
    with store.write() as transaction:
        transaction.save_session(SessionRow("s", "executor-1", "e", 1e12, actions={"std.js": "digest"}))
    assert not (await validate(text, reads)).warnings
    reads.close()
    store.close()
