"""Stories of the core: executions that are forked at an entry of a checkpoint (decision 21, C6, C8, C31, C32)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.unit.workflow.stories.test_checkpoints import edit
from tests.world import Played

from dalsegno.workflow.changes import ContextEdited, EnvironmentChanged, ExecutionCreated
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import ChildChoice, ContextUpdated
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import HistoryDiscarded, InvalidRequest, NoSuchCheckpoint, Refused, Undone
from dalsegno.workflow.value import Value

LINES = {
    "mistral": """
version: '2.0'
wf:
  input: [who, {more: m}]
  output: {said: <% $.said %>, who: <% $.who %>, more: <% $.more %>, first: <% task(a).result %>}
  tasks:
    a: {action: std.noop, publish: {said: <% task().result %>}, checkpoint: after_a, on-success: b}
    b: {action: std.echo output=<% $.who %>, checkpoint: {name: before_b, when: before},
        publish: {said: "<% $.said %><% task().result %>"}, on-success: here}
    here: {checkpoint: node, on-success: c}
    c: {action: std.echo output=<% env().get(place) %>, publish: {said: "<% $.said %><% task().result %>"}}
""",
    "orquesta": """
version: 1.0
name: wf
input: [who, more: m]
output: [{said: <% ctx(said) %>}, {who: <% ctx(who) %>}, {more: <% ctx(more) %>}]
tasks:
  a:
    action: std.noop
    checkpoint: after_a
    next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: b}]
  b:
    action: std.echo
    input: {output: <% ctx(who) %>}
    checkpoint: {name: before_b, when: before}
    next: [{when: <% succeeded() %>, publish: [{said: "<% ctx(said) %><% result() %>"}], do: here}]
  here: {checkpoint: node, next: [{when: <% succeeded() %>, do: c}]}
  c: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{said: "<% ctx(said) %><% result() %>"}]}]}
""",
}
both = pytest.mark.parametrize("language", LINES)
NAMES = ("after_a", "before_b", "node")


def fork(stage: Stage, name: str = "", *, of: Execution | None = None, **fields: Any) -> Stage:
    """A stage for a fork of the execution; `input` is plain data."""
    world = stage.world
    made = world.fork(of or stage.execution, name, **fields)
    world.run(until_s=0)
    other = Stage.__new__(Stage)
    other.world, other.execution = world, made
    return other


def play(stage: Stage) -> Stage:
    """End each running task of the lines with its name, until nothing runs."""
    while running := [task.name for task in stage.execution.tasks.values() if str(task.state) == "RUNNING"]:
        for name in running:
            stage.end(name, name)
    return stage


def at_the_end(language: str) -> Stage:
    """A stage with an execution that has ended."""
    stage = play(Stage(LINES[language], {"who": "ann"}))
    assert (stage.execution.state, stage.entries()) == ("SUCCESS", [*NAMES])
    return stage


@both
@pytest.mark.parametrize("name", NAMES)
def test_a_fork_goes_on_from_an_entry_to_the_same_end(name: str, language: str) -> None:
    """Decision 21, C32: only what comes behind the entry runs, what came before it is still seen, and the output is the
    same. The other execution is as it was."""
    stage = at_the_end(language)
    journal = list(stage.world.journals[stage.execution.id])
    entry = next(each for each in stage.execution.entries.values() if each.name == name)
    other = play(fork(stage, name))
    assert other.execution.state == "SUCCESS", other.execution.info
    assert other.output() == stage.output()
    ran = {other.execution.tasks[key[0]].name for key, one in other.execution.attempts.items() if not one.copied}
    behind = {"after_a": {"b", "here", "c"}, "before_b": {"b", "here", "c"}, "node": {"c"}}[name]
    assert ran == (behind if language == "mistral" else behind - {"here"})
    created = other.execution.created
    assert created.forked_from is not None
    assert (created.forked_from.execution_id, created.forked_from.sequence) == (stage.execution.id, entry.sequence)
    assert (created.forked_from.checkpoint, created.sequence) == (name, entry.sequence - 1)
    assert other.execution.first_sequence == entry.sequence - 1
    assert next(iter(other.execution.entries.values())).sequence == entry.sequence
    assert stage.world.journals[stage.execution.id] == journal
    stage.check()


@both
def test_a_fork_may_have_other_input_and_another_environment(language: str) -> None:
    """Decision 21: new inputs and variables of the environment are seen by all that comes behind the entry."""
    stage = at_the_end(language)
    other = fork(stage, "before_b", input={"who": "bob"}, environment={"place": "here"})
    running = other.execution.latest("b")
    assert running is not None
    attempt = other.execution.current(running)
    assert attempt is not None
    assert attempt.input.data == {"output": "bob"}
    assert other.execution.created.input.data == {"who": "bob", "more": "m"}
    assert other.execution.environment.data == {"place": "here"}
    assert play(other).output()["who"] == "bob"
    assert stage.output()["who"] == "ann"
    stage.check()


@both
def test_a_fork_edits_what_a_task_had_published(language: str) -> None:
    """Decision 21: an edit of the request is made before anything goes on."""
    stage = at_the_end(language)
    before = fork(stage, "before_b", edit=ContextUpdated(task="a", values={"said": Value(data="!")}))
    assert play(before).output()["said"].startswith("!b")
    plain = fork(stage, "before_b", edit=edit(more="most"))
    assert play(plain).output()["more"] == "most"
    stage.check()


@both
def test_an_edit_at_the_entry_belongs_to_it(language: str) -> None:
    """Decisions 19 and 21: what was edited while the other execution stood at the entry is seen by the fork; later
    edits are not."""
    stage = Stage(LINES[language], {"who": "ann"}, stop_at=("before_b",))
    stage.end("a", "a")
    assert stage.stands_at() == "before_b"
    stage.tell(edit(more="at the entry"))
    stage.tell(ContextUpdated(task="a", values={"said": Value(data="x")}))
    stage.resume(environment=Value(data={"place": "there"}))
    stage.pause()
    stage.end("b", "b")
    stage.tell(edit(more="later"))
    other = fork(stage, "before_b")
    assert other.execution.environment.data == {"place": "there"}
    play(other)
    assert (other.output()["more"], other.output()["said"][:2]) == ("at the entry", "xb")
    stage.check()


@both
def test_a_fork_may_stand_at_its_beginning(language: str) -> None:
    """Decision 21, C17: with `stay` it is PAUSED at the entry until it is resumed, and does not reach it again."""
    stage = at_the_end(language)
    other = fork(stage, "before_b", stay=True)
    assert (other.execution.state, other.stands_at()) == ("PAUSED", "before_b")
    assert other.execution.info == "forked at checkpoint 'before_b'"
    other.tell(edit(who="eve"))
    other.resume()
    play(other)
    assert (other.execution.state, other.entries()) == ("SUCCESS", ["before_b", "node"])
    assert other.output()["who"] == "eve"
    stage.check()


@both
def test_a_fork_goes_back_to_its_beginning_and_not_behind_it(language: str) -> None:
    """Decision 21, C31: it reverts to the entry at which it begins, as often as it is told to; everything before is
    HISTORY_DISCARDED."""
    stage = at_the_end(language)
    other = play(fork(stage, "before_b"))
    first = other.execution.first_sequence
    for _ in range(2):
        other.go_to("before_b", resumes=True)
        assert play(other).output() == stage.output()
    for name in ("start", "after_a"):
        with pytest.raises(HistoryDiscarded):
            other.go_to(name)
    with pytest.raises(HistoryDiscarded):
        other.go_to(sequence=first - 1)
    with pytest.raises(HistoryDiscarded):
        fork(other, "after_a")
    stage.check()


@both
def test_a_fork_of_a_fork(language: str) -> None:
    """Decision 21: it may be forked again, at its beginning and behind it."""
    stage = at_the_end(language)
    other = play(fork(stage, "after_a"))
    for name in NAMES:
        assert play(fork(other, name)).output() == stage.output()
    stage.check()


@both
def test_what_an_execution_cannot_be_forked_from(language: str) -> None:
    """C31: an unknown checkpoint or entry, one that is undone, and the beginning, from which it is rerun."""
    stage = at_the_end(language)
    undone = list(stage.execution.entries)[-1]
    stage.go_to("before_b", resumes=False)
    before = len(stage.world.executions)
    with pytest.raises(NoSuchCheckpoint, match="before_b"):
        fork(stage, "elsewhere")
    with pytest.raises(NoSuchCheckpoint):
        fork(stage, "node")
    with pytest.raises(NoSuchCheckpoint):
        fork(stage, sequence=2)
    with pytest.raises(Undone):
        fork(stage, sequence=undone)
    for target in ({"name": "start"}, {"sequence": stage.execution.start_sequence}):
        with pytest.raises(InvalidRequest, match="BEGINNING"):
            fork(stage, **target)
    with pytest.raises(InvalidRequest, match="no variable"):
        fork(stage, "before_b", edit=ContextUpdated(removed=("nothing",)))
    if language == "mistral":
        with pytest.raises(InvalidRequest, match="is not an input"):
            fork(stage, "before_b", input={"other": 1})
    assert len(stage.world.executions) == before


@both
def test_the_newest_definition_needs_what_is_open(language: str) -> None:
    """Decision 21, LATEST: a fork runs the newest version; it is refused with the name of each task that is open at the
    entry and not there any more, and when the language is another one."""
    stage = at_the_end(language)
    text = LINES[language]
    stage.world.define(
        text.replace("output=<% $.who %>", "output='new'").replace("{output: <% ctx(who) %>}", "{output: new}")
    )
    other = fork(stage, "before_b", is_latest=True)
    attempt = other.attempts("b")[0]
    assert attempt.input.data == {"output": "new"}
    assert fork(stage, "before_b").attempts("b")[0].input.data == {"output": "ann"}
    renamed = text.replace("b:", "z:", 1).replace("on-success: b}", "on-success: z}").replace("do: b}", "do: z}")
    stage.world.define(renamed)
    with pytest.raises(Refused, match="task b: is open at the entry") as caught:
        fork(stage, "before_b", is_latest=True)
    assert [str(each.kind) for each in caught.value.violations] == ["TASK_UNKNOWN"]
    other_language = next(each for each in LINES if each != language)
    stage.world.define(LINES[other_language])
    with pytest.raises(Refused, match=f"language {other_language}"):
        fork(stage, "before_b", is_latest=True)
    stage.check()


BRANCHES = {
    "mistral": """
version: '2.0'
wf:
  output: {met: <% $.get(met) %>, many: <% $.get(many) %>}
  tasks:
    begin: {action: std.noop, on-success: [mark, slow, many, ask, call, wait]}
    mark: {action: std.noop, checkpoint: marked, publish: {m: 1}, on-success: meet}
    slow: {action: std.noop, publish: {s: 2}, on-success: meet}
    many: {with-items: "n in <% [1, 2, 3] %>", action: std.echo output=<% $.n %>, publish: {many: <% task().result %>},
           on-success: meet}
    ask: {action: std.async_noop, on-success: meet}
    call: {workflow: sub, on-success: meet}
    wait: {action: std.noop, wait-before: 100, on-success: meet}
    meet: {join: all, action: std.noop, publish: {met: "<% $.m + $.s %>"}}
""",
    "orquesta": """
version: 1.0
name: wf
output: [{met: <% ctx().get(met) %>}, {many: <% ctx().get(many) %>}]
tasks:
  begin: {action: std.noop, next: [{when: <% succeeded() %>, do: [mark, slow, many, ask, call, wait]}]}
  mark: {action: std.noop, checkpoint: marked, next: [{when: <% succeeded() %>, publish: [{m: 1}], do: meet}]}
  slow: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{s: 2}], do: meet}]}
  many:
    with: n in <% [1, 2, 3] %>
    action: std.echo
    input: {output: <% item(n) %>}
    next: [{when: <% succeeded() %>, publish: [{many: <% result() %>}], do: meet}]
  ask: {action: std.async_noop, next: [{when: <% succeeded() %>, do: meet}]}
  call: {action: sub, next: [{when: <% succeeded() %>, do: meet}]}
  wait: {action: std.noop, delay: 100, next: [{when: <% succeeded() %>, do: meet}]}
  meet: {join: all, action: std.noop, next: [{when: <% succeeded() %>, publish: [{met: <% ctx(m) + ctx(s) %>}]}]}
""",
}
SUB = "version: '2.0'\nsub:\n  tasks:\n    inner: {action: std.noop}\n"


def in_the_middle(language: str) -> Stage:
    """A stage on which the checkpoint is reached while everything else is open: an action, items of which one has
    ended, a delegate, a sub-workflow, and a delay that has 70 s left; then all of it comes to its end."""
    stage = Stage(BRANCHES[language], others=(SUB,))
    stage.end("begin")
    stage.end("ask", outcome="delegated")
    stage.end("many", 10, item=1)
    stage.world.run(until_s=0)
    stage.world.now_s += 30
    stage.end("mark")
    assert stage.entries() == ["marked"]
    return stage


def to_its_end(stage: Stage) -> Stage:
    """End everything that is open, but for items that have ended."""
    stage.end("slow")
    for item in range(3):
        task = stage.execution.latest("many")
        assert task is not None
        attempt = stage.execution.current(task, item)
        assert attempt is not None
        if str(attempt.state) == "RUNNING":
            stage.end("many", 20 + item, item=item)
    stage.end("ask")
    stage.end("inner", on=stage.child())
    stage.world.run(until_s=1000)
    stage.end("wait")
    stage.end("meet")
    assert stage.execution.state == "SUCCESS", stage.execution.info
    return stage


@both
@pytest.mark.parametrize("is_ended", [False, True])
def test_what_was_active_at_the_entry_begins_again(is_ended: bool, language: str) -> None:
    """Decision 21: in a fork, actions run with their next attempt, of items only those that had not ended; delegates
    and sub-workflows begin afresh; a delay has the time that it had left; the join still knows who had arrived."""
    stage = in_the_middle(language)
    if is_ended:
        to_its_end(stage)
    stage.world.now_s += 1000
    began_s = stage.world.now_s
    other = fork(stage, "marked")
    keys = {(other.execution.tasks[key[0]].name, *key[1:]): one for key, one in other.execution.attempts.items()}
    fresh = {place for place, one in keys.items() if not one.copied}
    assert fresh == {("slow", 0, 2), ("many", 0, 2), ("many", 2, 2), ("ask", 0, 2), ("call", 0, 2)}
    copies = {place: one for place, one in keys.items() if one.copied}
    assert copies["slow", 0, 1].error.startswith("it had not ended at the checkpoint")
    assert {(one.executor_id, one.child_id, one.session_id) for one in copies.values()} == {("", "", "")}
    assert {str(one.state) for one in copies.values()} == {"SUCCESS", "CANCELLED"}
    assert other.child().id != stage.child().id
    wait = other.execution.latest("wait")
    assert wait is not None
    assert wait.timing.due_s == began_s + 70
    if not is_ended:
        to_its_end(stage)
    to_its_end(other)
    assert other.output() == {"met": 3, "many": [20, 10, 22]}
    assert other.world.now_s >= began_s + 70
    stage.check()


@both
def test_a_fork_needs_nothing_of_the_other_execution(language: str) -> None:
    """Decision 21: it goes on when the other one and its children are deleted."""
    stage = in_the_middle(language)
    other = fork(stage, "marked")
    stage.world.delete(stage.execution)
    to_its_end(other)
    other.check()


@both
def test_a_fork_of_what_was_going_on_goes_back_to_its_beginning(language: str) -> None:
    """Decisions 19 and 21: what was open at the entry begins anew each time that the fork comes back."""
    stage = in_the_middle(language)
    other = to_its_end(fork(stage, "marked"))
    for attempt in (3, 4):
        other.go_to("marked", resumes=True)
        items = [len(other.attempts("many", item=item)) for item in range(3)]
        assert ([len(other.attempts("slow")), *items]) == [attempt, attempt, 1, attempt]
        to_its_end(other)
        assert other.output() == {"met": 3, "many": [20, 10, 22]}
    stage.check()


@both
def test_a_delegate_of_a_fork_is_completed_by_itself(language: str) -> None:
    """Decision 21: the aliases of the other execution stay with it, and a late outcome for a copy has no effect."""
    stage = in_the_middle(language)
    other = fork(stage, "marked")
    copy = other.attempts("ask")[0]
    assert (copy.alias, copy.delegated, str(copy.state)) == ("", False, "CANCELLED")
    before = other.execution.revision
    stage.world.finish(other.execution, copy, Played(result="late"))
    assert other.execution.revision == before
    stage.check()


def test_a_fork_begins_with_two_changes() -> None:
    """Decision 21: its journal is ExecutionCreated and Consolidated, and then what it does itself."""
    stage = at_the_end("mistral")
    other = fork(stage, "node", input={"who": "bob"}, environment={"place": "x"}, stay=True)
    kinds = [type(change) for change in stage.world.journal(other.execution.id)]
    assert kinds[:4] == [ExecutionCreated, Consolidated, EnvironmentChanged, ContextEdited]
    assert kinds[4:] != []
    stage.check()


def test_copies_are_told_apart_in_the_journal() -> None:
    """Decision 21: what a fork holds of the other execution's attempts says so after it is read back, too."""
    stage = at_the_end("mistral")
    other = fork(stage, "node")
    texts = [row for row in stage.world.journals[other.execution.id] if '"copied":true' in row]
    assert len(texts) == 1
    stage.check()


@both
def test_a_task_that_has_ended_need_not_be_in_the_newest_definition(language: str) -> None:
    """Decision 21, LATEST: what had ended and been routed at the entry is no part of what is open; the flow ends as the
    newest definition says, and may keep only so much."""
    stage = at_the_end(language)
    text = (
        LINES[language].replace("task(a).result", "'gone'").replace("    a: {", "    x: {").replace("  a:\n", "  x:\n")
    )
    stage.world.define(text.replace("checkpoint: node", "checkpoint: {name: node, keep: {count: 1}}"))
    other = play(fork(stage, "before_b", is_latest=True))
    assert other.execution.state == "SUCCESS", other.execution.info
    assert other.output()["said"] == stage.output()["said"]
    assert other.entries() == ["node"]
    assert other.execution.first_sequence > other.execution.created.sequence + 1
    stage.check()


FAILS = {
    "mistral": """
version: '2.0'
wf:
  on-failure: STRATEGY
  tasks:
    a: {action: std.noop, on-success: b}
    b: {action: std.noop, checkpoint: here, revert: std.noop, on-success: c}
    c: {action: std.noop, revert: std.noop, on-success: d}
    d: {action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
on-failure: STRATEGY
tasks:
  a: {action: std.noop, next: [{when: <% succeeded() %>, do: b}]}
  b: {action: std.noop, checkpoint: here, revert: std.noop, next: [{when: <% succeeded() %>, do: c}]}
  c: {action: std.noop, revert: std.noop, next: [{when: <% succeeded() %>, do: d}]}
  d: {action: std.noop}
""",
}


@both
def test_a_strategy_does_not_go_behind_the_beginning_of_a_fork(language: str) -> None:
    """Decisions 21 and 22: back to the start there is no way, so the fork fails and says why; back to its beginning
    there is one."""
    for strategy, state, revert in (("revert", "ERROR", []), ("{revert: last, then: stop}", "REVERTED", ["c"])):
        stage = Stage(FAILS[language].replace("STRATEGY", strategy))
        for name in "abcd":
            stage.end(name)
        other = fork(stage, "here")
        other.end("c")
        other.end("d", error="no")
        for name in revert:
            key = next(key for key, one in other.execution.attempts.items() if one.reverts)
            assert other.execution.tasks[key[0]].name == name
            other.world.finish(other.execution, other.execution.attempts[key], Played())
            other.world.run(until_s=0)
        assert str(other.execution.state) == state, other.execution.info
        assert ("its history is discarded" in other.execution.info) == (state == "ERROR")
        stage.check()


@both
def test_a_fork_at_an_entry_that_was_reached_while_paused(language: str) -> None:
    """Decision 21: what pauses the other execution had is not counted in the fork: its timers have the time that they
    had left."""
    stage = Stage(
        BRANCHES[language].replace("action: std.async_noop", "action: std.async_noop, timeout: 60", 1)
        if language == "mistral"
        else BRANCHES[language],
        others=(SUB,),
    )
    stage.end("begin")
    stage.end("ask", outcome="delegated")
    stage.pause()
    stage.end("mark")
    assert stage.entries() == ["marked"]
    stage.world.now_s += 500
    other = fork(stage, "marked")
    ask = other.execution.latest("ask")
    assert ask is not None
    if language == "mistral":
        assert ask.timing.timeout_due_s == stage.world.now_s + 60
    to_its_end(other)
    stage.check()


SUB_FAILS = {
    "mistral": """
version: '2.0'
wf:
  on-failure: pause
  tasks:
    call: {workflow: sub}
    mark: {action: std.noop, checkpoint: marked}
""",
    "orquesta": """
version: 1.0
name: wf
on-failure: pause
tasks:
  call: {action: sub}
  mark: {action: std.noop, checkpoint: marked}
""",
}


@both
def test_a_sub_workflow_that_had_failed_is_run_again_as_a_fresh_one(language: str) -> None:
    """Decisions 11 and 21: a fork has no sub-workflow of the other execution: a resume of its task starts one of its
    own, and one that wants the existing child is refused."""
    stage = Stage(SUB_FAILS[language], others=(SUB,))
    stage.end("inner", error="no", on=stage.child())
    stage.end("mark")
    assert (str(stage.execution.state), stage.entries()) == ("PAUSED", ["marked"])
    other = fork(stage, "marked", stay=True)
    assert other.standing()["call"] == "ERROR"
    with pytest.raises(InvalidRequest, match="it was forked"):
        other.resume(run("call", child=ChildChoice.RERUN_FAILED))
    other.resume(run("call"))
    assert other.child().id != stage.child().id
    assert [one.runs_workflow for one in other.attempts("call")] == [True, True]
    other.end("inner", on=other.child())
    assert str(other.execution.state) == "SUCCESS", other.execution.info
    stage.check()


SEES = {
    "mistral": """
version: '2.0'
wf:
  input: [x]
  output: {y: <% $.y %>, z: <% $.z %>, q: <% $.q %>}
  tasks:
    first: {action: std.noop, publish: {q: <% $.x %>}, on-success: [mark, slow]}
    mark: {action: std.noop, checkpoint: marked, on-success: meet}
    slow: {action: std.noop, publish: {y: <% $.x %>}, on-success: meet}
    meet: {join: all, action: std.noop, publish: {z: "<% $.x + $.y %>"}}
""",
    "orquesta": """
version: 1.0
name: wf
input: [x]
output: [{y: <% ctx(y) %>}, {z: <% ctx(z) %>}, {q: <% ctx(q) %>}]
tasks:
  first: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{q: <% ctx(x) %>}], do: [mark, slow]}]}
  mark: {action: std.noop, checkpoint: marked, next: [{when: <% succeeded() %>, do: meet}]}
  slow: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{y: <% ctx(x) %>}], do: meet}]}
  meet: {join: all, action: std.noop, next: [{when: <% succeeded() %>, publish: [{z: <% ctx(x) + ctx(y) %>}]}]}
""",
}


@both
def test_every_branch_sees_the_new_input(language: str) -> None:
    """Decision 21: also a branch that was active at the entry, whose past is not there any more; what was published
    before the entry stays as it was. An edit where the other execution goes back has the same effect."""
    stage = Stage(SEES[language], {"x": 1})
    for name in ("first", "mark", "slow", "meet"):
        stage.end(name)
    assert stage.output() == {"y": 1, "z": 2, "q": 1}
    other = fork(stage, "marked", input={"x": 10})
    stage.go_to("marked", edit=edit(x=10), resumes=True)
    for one in (other, stage):
        for name in ("slow", "meet"):
            one.end(name)
        assert one.output() == {"y": 10, "z": 20, "q": 1}
    stage.check()
