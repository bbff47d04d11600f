"""The keys of checkpoints: what both languages make of them, and each mistake with its line."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest
import yaml
from tests.conformance.recorded import FILES, absence, load
from tests.unit.definitions.mistral_texts import compile_tasks, find_problems
from tests.unit.definitions.orquesta.texts import find_problems as find_orquesta_problems

from dalsegno.definitions.document import DocumentKind, MemberKind, read
from dalsegno.expressions.language import Language
from dalsegno.workflow.model import Checkpoint, CheckpointPlace, Keep, Task, Workflow
from dalsegno.workflow.scope import Constant, Template

AFTER, BEFORE = CheckpointPlace.AFTER, CheckpointPlace.BEFORE


def of_mistral(body: str) -> Task:
    """The compiled task `t` of Mistral with this body, before a task `u`."""
    return compile_tasks(f"t: {body}\nu: {{action: std.noop}}").tasks["t"]


def of_orquesta(body: str) -> Task:
    """The compiled task `t` of Orquesta with this body, before a task `u`, beside an input `x`."""
    document = read(f"version: 1.0\ninput: [x]\ntasks:\n  t: {body}\n  u: {{action: core.noop}}\n", name="w")
    assert document.problems == ()
    workflow = document.members[0].workflow
    assert workflow is not None
    return workflow.tasks["t"]


def place_of(task: Task) -> CheckpointPlace | None:
    assert task.checkpoint is not None
    return task.checkpoint.place


def test_a_name_is_a_checkpoint_after_its_task() -> None:
    """C1, C2, C3: with only a name the checkpoint stands after the task, and holds no data; in Orquesta, where the
    action may be a workflow, that is found out when the task begins."""
    assert of_mistral("{action: std.noop, checkpoint: ready}").checkpoint == Checkpoint("ready", AFTER)
    assert of_orquesta("{action: core.noop, checkpoint: ready}").checkpoint == Checkpoint("ready", None)
    assert of_orquesta("{action: <% ctx(x) %>, checkpoint: {name: ready}}").checkpoint == Checkpoint("ready", None)
    for of in (of_mistral, of_orquesta):
        assert of("{checkpoint: ready}").checkpoint == Checkpoint("ready", AFTER)


@pytest.mark.parametrize("of", [of_mistral, of_orquesta])
@pytest.mark.parametrize(("word", "place"), [("before", BEFORE), ("after", AFTER)])
def test_when_says_where_a_checkpoint_stands(of: Any, word: str, place: CheckpointPlace) -> None:
    """C2: before or after the task, also where it runs a sub-workflow."""
    assert place_of(of(f"{{action: core.noop, checkpoint: {{name: ready, when: {word}}}}}")) is place
    assert place_of(of_mistral(f"{{workflow: w, checkpoint: {{name: ready, when: {word}}}}}")) is place


@pytest.mark.parametrize("checkpoint", ["ready", "{name: ready}"])
def test_the_checkpoint_of_a_sub_flow_stands_before_it(checkpoint: str) -> None:
    """Decision 16: on a task that runs a sub-workflow `before` is the default, whatever gives the workflow's name."""
    assert place_of(of_mistral(f"{{workflow: w, checkpoint: {checkpoint}}}")) is BEFORE
    assert place_of(of_mistral(f"{{workflow: <% $.x %>, checkpoint: {checkpoint}}}")) is BEFORE


@pytest.mark.parametrize("of", [of_mistral, of_orquesta])
def test_a_node_has_nothing_but_a_checkpoint(of: Any) -> None:
    """C27: a task may have the checkpoint alone, with the same keys; it runs nothing."""
    node = of("{checkpoint: {name: ready, when: before, data: {a: 1}}}")
    assert node.checkpoint == Checkpoint("ready", BEFORE, (("a", Constant(1)),))
    assert (node.action, node.workflow, node.items) == (None, None, ())


def test_data_are_named_values() -> None:
    """C7: constants and expressions in both languages, in the order in which they are written."""
    for task in (
        of_mistral("{checkpoint: {name: ready, data: {b: 1, a: <% $.x %>, c: [{d: '{{ _.x }}'}]}}}"),
        of_orquesta("{checkpoint: {name: ready, data: {b: 1, a: <% ctx(x) %>, c: [{d: '{{ ctx().x }}'}]}}}"),
    ):
        assert task.checkpoint is not None
        names = [name for name, _ in task.checkpoint.data]
        values: list[Template] = [value for _, value in task.checkpoint.data]
        assert names == ["b", "a", "c"]
        assert [isinstance(value, Constant) for value in values] == [True, False, False]
        assert values[0] == Constant(1)


def test_a_task_of_a_reverse_workflow_may_have_a_checkpoint() -> None:
    """Reverse workflows of Mistral have the same key."""
    tasks = compile_tasks("t: {action: std.noop, checkpoint: ready}", type="reverse").tasks
    assert tasks["t"].checkpoint == Checkpoint("ready", AFTER)


@pytest.mark.parametrize("of", [of_mistral, of_orquesta])
@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("{count: 5}", Keep(5)),
        ("{count: 1000, age: 3d}", Keep(1_000, 259_200.0)),
        ("{age: 3d}", Keep(0, 259_200.0)),
        ("{age: 1w1d12h30m5s}", Keep(0, 736_205.0)),
        ("{age: 90}", Keep(0, 90.0)),
        ("{age: 0.5}", Keep(0, 0.5)),
        ("{age: 36500d}", Keep(0, 3_153_600_000.0)),
    ],
)
def test_a_checkpoint_says_what_history_is_kept(of: Any, keep: str, kept: Keep) -> None:
    """C21, C22, C23: by count, by age, or what either keeps; the same in both languages, also at a node."""
    for body in (
        f"{{action: core.noop, checkpoint: {{name: a, keep: {keep}}}}}",
        f"{{checkpoint: {{name: a, keep: {keep}}}}}",
    ):
        assert of(body).checkpoint.keep == kept
    assert of("{action: core.noop, checkpoint: a}").checkpoint.keep is None


NAME_TAKEN = "the task `t` has a checkpoint `ready` too"
KEEP = "must be a mapping with `count`, `age` or both, not "
COUNT = "must be a whole number from 1 to 1,000, not "
AGE = "must be an age of more than 0 and at most 36,500 days, not "
FIXED = "the name of a checkpoint is fixed: it has no expressions and no control characters"
MISTAKES = [
    ("start", "", "`start` is reserved: it means the beginning of an execution"),
    ("{name: last}", ".name", "`last` is reserved: it means the newest checkpoint that was reached"),
    ("ready", "", NAME_TAKEN),
    ("{name: ready, when: before}", ".name", NAME_TAKEN),
    ("<% a %>", "", FIXED),
    ("'{{ a }}'", "", FIXED),
    ("'at {% if a %}'", "", FIXED),
    ('"a\\tb"', "", FIXED),
    ("n" * 256, "", "a name has 1 to 255 characters"),
    ("''", "", "must not be empty"),
    ("12", "", "must be a name or a mapping with a name, not 12"),
    ("yes", "", "must be a name or a mapping with a name, not true"),
    ("[a]", "", "must be a name or a mapping with a name, not ['a']"),
    ("{}", "", "must be a name or a mapping with a name, not {}"),
    ("{when: after}", "", "`name` is missing"),
    ("{name: [a]}", ".name", "must be text, not ['a']"),
    ("{name: a, when: later}", ".when", "must be before or after, not 'later'"),
    ("{name: a, when: [after]}", ".when", "must be before or after, not ['after']"),
    ("{name: a, data: 3}", ".data", "must be a mapping that is not empty, not 3"),
    ("{name: a, data: {}}", ".data", "must be a mapping that is not empty, not {}"),
    ("{name: a, data: {1: 2}}", ".data.1", "the key is read by YAML as 1, not as text"),
    ("{name: a, data: {b: <% * %>}}", ".data.b", "<% * %>: unexpected '*' at position 0"),
    ("{name: a, kept: {count: 3}}", ".kept", "a checkpoint has no key `kept`"),
    ("{name: a, keep: 5}", ".keep", KEEP + "5"),
    ("{name: a, keep: {}}", ".keep", KEEP + "{}"),
    ("{name: a, keep: null}", ".keep", KEEP + "null"),
    ("{name: a, keep: {counts: 5}}", ".keep.counts", "a keep has no key `counts`"),
    ("{name: a, keep: {count: 0}}", ".keep.count", COUNT + "0"),
    ("{name: a, keep: {count: 1001}}", ".keep.count", COUNT + "1001"),
    ("{name: a, keep: {count: true}}", ".keep.count", COUNT + "true"),
    ("{name: a, keep: {count: <% 5 %>}}", ".keep.count", COUNT + "'<% 5 %>'"),
    ("{name: a, keep: {age: 0}}", ".keep.age", AGE + "0"),
    ("{name: a, keep: {age: -3}}", ".keep.age", AGE + "-3"),
    ("{name: a, keep: {age: yes}}", ".keep.age", AGE + "true"),
    ("{name: a, keep: {age: 36501d}}", ".keep.age", AGE + "'36501d'"),
    ("{name: a, keep: {age: 0d}}", ".keep.age", AGE + "'0d'"),
    ("{name: a, keep: {age: 3 days}}", ".keep.age", AGE + "'3 days'"),
    ("{name: a, keep: {age: <% 5 %>}}", ".keep.age", AGE + "'<% 5 %>'"),
]


@pytest.mark.parametrize(("checkpoint", "path", "message"), MISTAKES)
def test_a_mistake_has_its_line(checkpoint: str, path: str, message: str) -> None:
    """Each mistake of a checkpoint is one problem at its place, the same in both languages."""
    tasks = f"t: {{checkpoint: ready}}\nu:\n  checkpoint: {checkpoint}\n"
    assert find_problems(tasks) == [(f"wf.tasks.u.checkpoint{path}", 6, message)]
    assert [(each.path, each.line, each.message) for each in find_orquesta_problems(tasks)] == [
        (f"tasks.u.checkpoint{path}", 5, message)
    ]


def test_each_workflow_has_its_own_names() -> None:
    """A name is unique in its workflow, not in its document; in a workflow each further use is a problem."""
    one = "\n  tasks:\n    t: {checkpoint: ready}"
    assert read(f"version: '2.0'\na:{one}\nb:{one}\n").problems == ()
    twice = find_problems("t: {checkpoint: ready}\nu: {checkpoint: ready}\nv: {checkpoint: {name: ready}}")
    assert twice == [
        ("wf.tasks.u.checkpoint", 5, NAME_TAKEN),
        ("wf.tasks.v.checkpoint.name", 6, NAME_TAKEN),
    ]


def test_data_of_orquesta_name_assigned_variables() -> None:
    """Data see what the task sees: what it publishes itself is published by its transitions, after the entry."""
    problems = find_orquesta_problems(
        """
        t: {action: core.noop, checkpoint: {name: a, data: {b: <% ctx(x) %>}}, next: [{publish: x=1, do: u}]}
        u: {checkpoint: {name: b, data: {b: <% ctx(x) %>, c: <% result() %>}}}
        """
    )
    assert [(each.path, each.line, each.message) for each in problems] == [
        ("tasks.t.checkpoint.data.b", 3, "the variable `x` is referenced before it is assigned")
    ]


def test_unknown_functions_in_data_give_warnings() -> None:
    """Data are looked at as every other value of a definition."""
    for text, language in (
        ("version: '2.0'\nwf:\n  tasks:\n    t: {checkpoint: {name: a, data: {b: <% nosuch() %>}}}\n", "wf."),
        ("version: 1.0\ntasks:\n  t: {checkpoint: {name: a, data: {b: <% nosuch() %>}}}\n", ""),
    ):
        assert [(each.path, each.message) for each in read(text, name="w").warnings] == [
            (f"{language}tasks.t.checkpoint.data.b", "there is no function `nosuch` in YAQL")
        ]


def recorded_texts() -> Iterator[str]:
    """The recorded definitions of workflows that have no problems, each once."""
    cases = [case for name in FILES for case in load(name)]
    texts = [text for case in cases for text in (case["definition"], *_extra(case))]
    for text in dict.fromkeys(texts):
        document = read(text, name="demo.w")
        if not document.problems and any(member.kind is MemberKind.WORKFLOW for member in document.members):
            yield text


def _extra(case: Mapping[str, Any]) -> Iterator[str]:
    yield from (extra["definition"] for extra in case.get("extra") or ())


def _with_checkpoints(text: str) -> tuple[str, str]:
    """The text, written anew, without and with a checkpoint at every task."""
    plain = yaml.load(text, yaml.BaseLoader)
    marked = copy.deepcopy(plain)
    kind = read(text, name="demo.w").kind
    holders = [marked] if kind is DocumentKind.ORQUESTA else list((marked.get("workflows") or marked).values())
    for workflow in holders:
        if isinstance(workflow, dict):
            for number, task in enumerate((workflow.get("tasks") or {}).values()):
                task["checkpoint"] = {"name": f"c{number}", "when": "before", "data": {"number": number}}
    return _dumped(plain), _dumped(marked)


def _dumped(data: object) -> str:
    return yaml.dump(data, sort_keys=False, allow_unicode=True)


def _workflows(text: str) -> list[Workflow]:
    document = read(text, name="demo.w")
    return [member.workflow for member in document.members if member.workflow is not None]


OF_CHECKPOINTS = {"spec", "checkpoint", "shape"}


def _shape(value: object) -> object:
    """What a compiled value is made of, to be compared; `spec` is the text itself."""
    if value is None or callable(value) or isinstance(value, str | int | float | Enum | Language):
        return value
    if isinstance(value, Mapping):
        return {key: _shape(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_shape(part) for part in value]
    made = value.__reduce_ex__(4)
    assert isinstance(made, tuple)
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name not in OF_CHECKPOINTS]
        return [type(value), *(_shape(getattr(value, name)) for name in names)]
    return [type(value), *(_shape(part) for part in made[1:3])]


@pytest.mark.long("all recorded definitions, each several times")
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_the_keys_change_nothing_else() -> None:
    """C3: every recorded definition compiles to the same without and with a checkpoint at every task, but for the
    checkpoints themselves; without the key there are none."""
    count = 0
    for text in recorded_texts():
        plain, marked = (_workflows(each) for each in _with_checkpoints(text))
        assert _shape(plain) == _shape(marked)
        for workflow in plain:
            assert all(task.checkpoint is None for task in workflow.tasks.values())
        for workflow in marked:
            names = [task.checkpoint and task.checkpoint.name for task in workflow.tasks.values()]
            assert names == [f"c{number}" for number in range(len(names))]
            count += len(names)
    assert count > (200 if absence() else 1_500)
