"""From the choices of a request to those of the core: what they say, and all in which they contradict themselves."""

from __future__ import annotations

import pytest

from dalsegno.engine.desk.choices import rerun_choices, resume_choices
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import operation_pb2
from dalsegno.workflow.events import ChildChoice, Choice, TaskChoice
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.value import Value

Resume = operation_pb2.ResumeTask
Rerun = operation_pb2.RerunTask


@pytest.mark.parametrize(
    ("task", "choice"),
    [
        (Resume(task="a"), TaskChoice(task="a")),
        (Resume(task="a", task_number=3, input='{"n":1}'), TaskChoice(task="a", number=3, input=Value(data={"n": 1}))),
        (
            Resume(task="a", items=[2, 0], item_inputs={0: '{"n":1}'}),
            TaskChoice(task="a", items={2: None, 0: Value(data={"n": 1})}),
        ),
        (Resume(task="a", reset=False), TaskChoice(task="a", reset=False)),
        (
            Resume(task="a", child=operation_pb2.CHILD_RERUN_FAILED),
            TaskChoice(task="a", child=ChildChoice.RERUN_FAILED),
        ),
        (Resume(task="a", child=operation_pb2.CHILD_RERUN_FRESH), TaskChoice(task="a")),
        (Resume(task="a", skip=True, output="null"), TaskChoice(task="a", choice=Choice.SKIP, output=Value(data=None))),
        (Resume(task="a", leave=True), TaskChoice(task="a", choice=Choice.LEAVE)),
    ],
)
def test_what_a_resume_says(task: Resume, choice: TaskChoice) -> None:
    """Run, whole or by item, skip with an output that may be null, leave: each is one choice (R6-R16)."""
    fields = Fields()
    (made,) = resume_choices(fields, [task])
    fields.done()
    assert made == choice


def test_what_a_rerun_says() -> None:
    """A task, whether it is reset, or nothing of that; what is said twice is the core's to leave out (O24-O27)."""
    fields = Fields()
    made = rerun_choices(fields, [Rerun(task="a"), Rerun(task="b", reset=True), Rerun(task="a")])
    fields.done()
    assert made == (TaskChoice(task="a"), TaskChoice(task="b", reset=True), TaskChoice(task="a"))


def test_every_contradiction_is_named() -> None:
    """Of several tasks everything that is wrong is named at once, each by its place (R14, R16)."""
    fields = Fields()
    resume_choices(
        fields,
        [
            Resume(),
            Resume(task="b", output="1"),
            Resume(task="c", skip=True, items=[0], child=operation_pb2.CHILD_RERUN_FAILED),
            Resume(task="d", leave=True, input="{}", reset=True, item_inputs={1: "{}"}),
            Resume(task="e", items=[1, -2, 1], item_inputs={4: "{}", 1: "3"}, input="[]", reset=False),
            Resume(task="f", task_number=-1, skip=True, leave=True, output="{"),
        ],
    )
    with pytest.raises(InvalidRequest) as caught:
        fields.done()
    assert {each.subject for each in caught.value.violations} == {
        "tasks[0].task",
        "tasks[1].skip",
        "tasks[2].output",
        "tasks[2].items",
        "tasks[2].child",
        "tasks[3].input",
        "tasks[3].reset",
        "tasks[3].item_inputs",
        "tasks[4].items[1]",
        "tasks[4].items[2]",
        "tasks[4].item_inputs[1]",
        "tasks[4].item_inputs[4]",
        "tasks[4].input",
        "tasks[4].reset",
        "tasks[5].task_number",
        "tasks[5].leave",
        "tasks[5].output",
    }
