"""Stories of the core: checkpoints that an execution reaches, stops at and goes to (C1-C4, C7, C14-C17, C27, C31)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip

from dalsegno.workflow.events import ContextUpdated, Verdict
from dalsegno.workflow.refusals import InvalidRequest, NoSuchCheckpoint, Refused, Unreachable
from dalsegno.workflow.value import Value

LINES = {
    "mistral": """
version: '2.0'
wf:
  input: [who]
  output: {said: <% $.said %>}
  tasks:
    a:
      action: std.noop
      publish: {said: <% task().result %>}
      checkpoint: {name: after_a, data: {seen: <% task().result %>, who: <% $.who %>}}
      on-success: b
    b:
      action: std.echo output=<% $.said %>
      checkpoint: {name: before_b, when: before, data: {said: <% $.said %>}}
      on-success: here
    here: {checkpoint: node, on-success: c}
    c: {action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
input: [who]
output: [{said: <% ctx(said) %>}]
tasks:
  a:
    action: std.noop
    checkpoint: {name: after_a, data: {seen: <% result() %>, who: <% ctx(who) %>}}
    next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: b}]
  b:
    action: std.echo
    input: {output: <% ctx(said) %>}
    checkpoint: {name: before_b, when: before, data: {said: <% ctx(said) %>}}
    next: [{when: <% succeeded() %>, do: here}]
  here: {checkpoint: node, next: [{when: <% succeeded() %>, do: c}]}
  c: {action: std.noop}
""",
}
both = pytest.mark.parametrize("language", LINES)


def edit(**values: object) -> ContextUpdated:
    """An edit of the variables of the whole execution."""
    return ContextUpdated(values={name: Value(data=value) for name, value in values.items()})


def reached(stage: Stage) -> list[tuple[str, Any]]:
    """The entries with their data, as the journal has them."""
    entries = stage.execution.entries.values()
    return [(entry.name, None if entry.data is None else entry.data.data) for entry in entries]


def to_the_end(stage: Stage, *names: str) -> None:
    """End these running tasks in turn."""
    for name in names:
        stage.end(name, "x")


@both
def test_a_flow_reaches_its_checkpoints(language: str) -> None:
    """C1, C2, C3, C7, C27: before and after a task and as a node, each with its data and a sequence of its own."""
    stage = Stage(LINES[language], {"who": "ann"})
    stage.end("a", "x")
    stage.end("b", "x")
    if language == "mistral":
        stage.end("here")
    stage.end("c")
    assert stage.execution.state == "SUCCESS"
    assert reached(stage) == [("after_a", {"seen": "x", "who": "ann"}), ("before_b", {"said": "x"}), ("node", None)]
    sequences = list(stage.execution.entries)
    assert sequences == sorted(set(sequences))
    assert 0 < stage.execution.start_sequence < sequences[0]
    stage.check()


@both
@pytest.mark.parametrize("name", ["after_a", "before_b", "node"])
def test_an_execution_stops_at_a_checkpoint(name: str, language: str) -> None:
    """C4, decision 16: it is PAUSED there, what follows is not decided, and it goes on without reaching it again."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=(name,))
    stage.end("a", "x")
    if name == "node":
        stage.end("b", "x")
        if language == "mistral":
            stage.end("here")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", name)
    assert stage.execution.info == f"stopped at checkpoint '{name}'"
    following = {"after_a": None, "before_b": "IDLE", "node": None}[name]
    assert stage.standing().get({"after_a": "b", "before_b": "b", "node": "c"}[name]) == following
    stage.resume()
    assert (stage.execution.paused_at, stage.execution.stop_at) == (0, ())
    if name != "node":
        stage.end("b", "x")
        if language == "mistral":
            stage.end("here")
    stage.end("c")
    assert (stage.execution.state, stage.entries()) == ("SUCCESS", ["after_a", "before_b", "node"])
    assert stage.execution.not_reached == ""
    stage.check()


@both
def test_what_is_edited_at_an_entry_is_seen_by_what_follows(language: str) -> None:
    """Decision 16: the transitions after it, and the input of the task before which it stands, are evaluated when the
    execution goes on."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("before_b",))
    stage.end("a", "x")
    stage.tell(ContextUpdated(task="a", values={"said": Value(data="y")}))
    stage.resume()
    assert stage.attempts("b")[0].input.data == {"output": "y"}


@both
def test_start_is_an_entry_too(language: str) -> None:
    """Decision 16: an execution can stop behind the creation of its first tasks."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("start",))
    assert (stage.execution.state, stage.standing()) == ("PAUSED", {"a": "IDLE"})
    assert stage.execution.paused_at == stage.execution.start_sequence
    stage.resume(stop_at=("after_a",))
    stage.end("a", "x")
    assert stage.stands_at() == "after_a"


@both
def test_an_execution_that_ends_first_says_what_it_did_not_reach(language: str) -> None:
    """Decision 20: it ends as it does, and keeps the name."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("node",))
    stage.end("a", error="broken")
    assert (stage.execution.state, stage.execution.not_reached) == ("ERROR", "node")
    stage.rerun()
    assert (stage.execution.not_reached, stage.execution.stop_at) == ("", ())
    stage.check()


@both
def test_an_unknown_name_to_stop_at_is_refused(language: str) -> None:
    """C31: at the start and at a resume, with the names that there are."""
    with pytest.raises(InvalidRequest, match="no checkpoint 'nowhere': it has after_a, before_b, node"):
        Stage(LINES[language], {"who": "ann"}, stop_at=("nowhere",))
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("after_a",))
    stage.end("a", "x")
    with pytest.raises(InvalidRequest, match=r"stop_at\[1\]"):
        stage.resume(stop_at=("node", "start"))
    assert stage.stands_at() == "after_a"


@both
def test_a_program_drives_the_phases_of_a_flow(language: str) -> None:
    """C14, C15, C16, C17, C18: it orders the execution to each checkpoint in turn; there it is interrupted."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("start",))
    stage.go_to("after_a")
    assert stage.execution.state == "RUNNING"
    stage.end("a", "x")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "after_a")
    stage.go_to("node")
    stage.end("b", "x")
    if language == "mistral":
        stage.end("here")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "node")
    stage.resume()
    stage.end("c")
    assert stage.execution.state == "SUCCESS"
    stage.check()


@both
def test_a_go_to_edits_on_arrival(language: str) -> None:
    """Decision 20: in the same step, before what follows is decided."""
    stage = Stage(LINES[language], {"who": "ann"})
    given = ContextUpdated(task="a", values={"said": Value(data="z")})
    stage.go_to("before_b", edit=given, resumes=True)
    stage.end("a", "x")
    assert (stage.execution.state, stage.execution.stop_at) == ("RUNNING", ())
    assert stage.attempts("b")[0].input.data == {"output": "z"}
    stage.check()


@both
def test_a_go_to_where_it_stands_already(language: str) -> None:
    """Decision 20: it is answered; only the edit is made, and it goes on if it should."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("after_a",))
    stage.end("a", "x")
    assert stage.go_to("after_a").verdict is Verdict.DUPLICATE
    sequence = stage.execution.paused_at
    stage.go_to(sequence=sequence, edit=edit(who="bob"))
    assert stage.stands_at() == "after_a"
    stage.go_to("after_a", resumes=True, edit=ContextUpdated(task="a", values={"said": Value(data="y")}))
    if language == "mistral":
        assert stage.attempts("b")[0].input.data == {"output": "y"}
    assert stage.execution.input.data == {"who": "bob"}


@both
def test_what_cannot_be_reached_is_refused(language: str) -> None:
    """C31: an unknown name, an unknown sequence, an unclear target; nothing changes."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("before_b",))
    stage.end("a", "x")
    with pytest.raises(NoSuchCheckpoint, match="it has after_a, before_b, node"):
        stage.go_to("nowhere")
    with pytest.raises(NoSuchCheckpoint, match="no entry with sequence 4711"):
        stage.go_to(sequence=4711)
    for wrong in ({}, {"name": "node", "sequence": 3}, {"sequence": 3, "next": True}):
        with pytest.raises(InvalidRequest):
            stage.go_to(**wrong)
    assert stage.stands_at() == "before_b"


def test_a_checkpoint_to_which_nothing_leads_is_unreachable() -> None:
    """C31: a reverse workflow does not run what its target does not need."""
    stage = Stage(
        """
version: '2.0'
wf:
  type: reverse
  tasks:
    base: {action: std.noop}
    a: {action: std.noop, requires: [base], checkpoint: a}
    b: {action: std.noop, requires: [base], checkpoint: b}
""",
        params={"task_name": "a"},
    )
    with pytest.raises(Unreachable, match="checkpoint b: cannot be reached"):
        stage.go_to("b")
    stage.go_to("a")
    stage.end("base")
    stage.end("a")
    assert stage.stands_at() == "a"


def test_a_go_to_past_failed_tasks_is_refused() -> None:
    """R3: what has failed is chosen for first."""
    stage = Stage(
        """
version: '2.0'
wf:
  on-failure: pause
  tasks:
    a: {action: std.noop}
    b: {action: std.noop, on-success: c}
    c: {action: std.noop, checkpoint: c}
"""
    )
    stage.end("a", error="broken")
    stage.end("b")
    with pytest.raises(Refused, match="task a: has failed"):
        stage.go_to("c")
    stage.resume(run("a"), stop_at=("c",))
    stage.end("c")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSING", "c")


BRANCHES = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: [left, right]}
    left: {action: std.noop, on-success: meet, checkpoint: left}
    right: {action: std.noop, on-success: [meet, beside]}
    beside: {action: std.noop}
    meet: {join: all, action: std.noop, checkpoint: {name: meet, when: before}}
"""


def test_the_other_branches_come_to_rest() -> None:
    """Decision 20: forward ends as by a pause: what runs comes to its end, and nothing new starts."""
    stage = Stage(BRANCHES, stop_at=("left",))
    stage.end("a")
    stage.end("left")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSING", "left")
    stage.end("right")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "left")
    assert stage.standing() == {
        "a": "SUCCESS",
        "left": "SUCCESS",
        "right": "SUCCESS",
        "meet": "WAITING",
        "beside": "IDLE",
    }
    stage.go_to("meet")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "meet")
    assert stage.standing()["meet"] == "IDLE", "its join is filled"
    stage.resume()
    stage.end("beside")
    stage.end("meet")
    assert (stage.execution.state, stage.entries()) == ("SUCCESS", ["left", "meet"])
    stage.check()


def test_a_pause_in_between_is_taken_back_by_a_go_to() -> None:
    """Decision 23: a PAUSED and a PAUSING execution go on to the checkpoint."""
    stage = Stage(BRANCHES)
    stage.pause()
    stage.go_to("left")
    assert stage.execution.state == "RUNNING"
    stage.end("a")
    stage.pause()
    stage.end("left")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSING", "left"), "a stop counts while it is PAUSING too"
    stage.end("right")
    stage.resume()
    assert stage.standing()["meet"] == "RUNNING"


LOOP = """
version: '2.0'
wf:
  tasks:
    first: {action: std.noop, on-success: a}
    a: {action: std.noop, on-success: b, checkpoint: again}
    b: {action: std.noop, on-success: [a: <% task().result = more %>]}
"""


def test_a_loop_reaches_a_checkpoint_in_each_round() -> None:
    """Decision 20: `next` means the next time, even where an entry stands; each reaching is an entry."""
    stage = Stage(LOOP)
    stage.end("first")
    stage.end("a")
    stage.pause()
    stage.go_to("again", next=True)
    stage.end("b", "more")
    stage.end("a")
    assert (stage.execution.state, stage.entries()) == ("PAUSED", ["again", "again"])
    assert stage.execution.paused_at == max(stage.execution.entries)


def test_a_task_that_ends_anew_is_a_new_entry() -> None:
    """Decision 16: after a rerun, and for a skip too; not after a failure, nor an attempt that a retry follows."""
    stage = Stage(
        """
version: '2.0'
wf:
  on-failure: pause
  tasks:
    a: {action: std.noop, checkpoint: a, retry: {count: 1, delay: 0}}
"""
    )
    stage.end("a", error="broken")
    stage.end("a", error="broken")
    assert (stage.execution.state, stage.entries()) == ("PAUSED", [])
    stage.resume(skip("a", "x"))
    assert (stage.execution.state, stage.entries()) == ("SUCCESS", ["a"])
    stage.rerun(run("a"))
    stage.end("a")
    assert (stage.execution.state, stage.entries()) == ("SUCCESS", ["a", "a"])


def test_a_sub_flow_has_a_checkpoint_before_it_and_no_stops_of_its_parent() -> None:
    """C2, C25, decision 20: by default it stands before the task; `stop_at` is not handed to children."""
    child = """
version: '2.0'
sub:
  tasks:
    inner: {action: std.noop, checkpoint: inside}
"""
    stage = Stage(
        """
version: '2.0'
wf:
  tasks:
    call: {workflow: sub, checkpoint: flow, on-success: z}
    z: {action: std.noop, checkpoint: inside}
""",
        others=(child,),
        stop_at=("flow", "inside"),
    )
    assert (stage.stands_at(), stage.standing()) == ("flow", {"call": "IDLE"})
    stage.resume(stop_at=("inside",))
    stage.end("inner", on=stage.child())
    assert stage.child().state == "SUCCESS"
    stage.end("z")
    assert stage.stands_at() == "inside"
    stage.check()


def test_an_action_of_orquesta_that_turns_out_to_be_a_workflow() -> None:
    """Decision 16: without `when`, the checkpoint stands before a task that runs a sub-workflow."""
    child = """
version: 1.0
name: sub
tasks:
  inner: {action: std.noop}
"""
    text = """
version: 1.0
name: wf
tasks:
  call: {action: sub, checkpoint: flow, next: [{do: plain}]}
  plain: {action: std.noop, checkpoint: after}
"""
    stage = Stage(text, others=(child,), stop_at=("flow",))
    assert (stage.stands_at(), stage.standing()) == ("flow", {"call": "IDLE"})
    stage.resume(stop_at=("after",))
    stage.end("inner", on=stage.child())
    stage.end("plain")
    assert stage.stands_at() == "after"


def test_a_delegate_that_answers_while_paused_reaches_its_checkpoint() -> None:
    """Decisions 6 and 16: its transitions are evaluated at once, unless the execution is to stop there."""
    for stop_at in ((), ("a",)):
        stage = Stage(
            """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, checkpoint: a, on-success: b}
    b: {action: std.noop}
""",
            stop_at=stop_at,
        )
        stage.end("a", outcome="delegated")
        stage.pause()
        assert stage.execution.state == "PAUSED"
        stage.end("a")
        assert stage.entries() == ["a"]
        assert (stage.stands_at(), stage.standing().get("b")) == (("a", None) if stop_at else ("", "IDLE"))


@both
def test_data_that_cannot_be_evaluated_fails_the_execution(language: str) -> None:
    """Decision 16: as a transition does."""
    text = LINES[language].replace("seen: <% task().result %>", "seen: <% $.nothing %>")
    stage = Stage(text.replace("seen: <% result() %>", "seen: <% 1 / 0 %>"), {"who": "ann"})
    stage.end("a", "x")
    assert stage.execution.state == "ERROR"
    assert "cannot evaluate the data of checkpoint 'after_a'" in stage.execution.info
    assert stage.entries() == []
