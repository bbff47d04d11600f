"""Stories of the core: executions that go back to an entry of a checkpoint (C5, C6, C12, C14-C17, C28, C29)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip
from tests.world import Played

from dalsegno.workflow.events import ContextUpdated, ForcedEnd
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import Refused, Undone
from dalsegno.workflow.value import Value

INDEXES = ("incomplete", "idle", "waiting", "unrouted", "ends", "unhandled", "cancelled")


def as_it_counts(execution: Execution) -> dict[str, Any]:
    """What everything that follows depends on."""
    counting = {
        number: task for name in execution.by_name.values() for number in name if (task := execution.tasks[number])
    }
    found = {
        "tasks": {
            number: (
                *(
                    task.name,
                    str(task.state),
                    task.route,
                    task.edition,
                    task.entry,
                    task.routed,
                    task.next,
                    task.handled,
                ),
                *(task.ends, task.superseded_by, task.timing.timer, task.progress.retries, task.progress.item_count),
                *(task.arrivals, task.publication, task.former),
                [(one.key, one.accepted) for one in execution.current_attempts(task)],
            )
            for number, task in sorted(counting.items())
        },
        "indexes": {name: list(getattr(execution, name)) for name in INDEXES},
        "routes": (execution.by_route, execution.route_numbers, execution.branch_ends, execution.trimmed),
        "variables": (dict(execution.globals), execution.global_writes, execution.globals_of, execution.input.data),
        "environment": execution.environment.data,
        "errors": (execution.errors, execution.error_keys, execution.error_bytes),
    }
    return deepcopy(found)


LINES = {
    "mistral": """
version: '2.0'
wf:
  input: [{who: ann}]
  output: {said: <% $.said %>}
  tasks:
    a:
      action: std.noop
      publish: {said: <% task().result %>}
      on-success: b
      revert: {action: std.echo, input: {output: <% task().result %>}}
    b:
      action: std.noop
      checkpoint: here
      on-success: c
    c:
      action: std.noop
      publish: {said: <% task().result %>}
      publish-global: {all: <% task().result %>}
      on-success: d
      revert: {action: std.echo, input: {output: <% $.said %>}}
    d: {action: std.noop, on-success: e, revert: std.noop}
    e: {action: std.noop}
""".replace("      publish-global: {all: <% task().result %>}\n", ""),
    "orquesta": """
version: 1.0
name: wf
input: [who: ann]
output: [{said: <% ctx(said) %>}]
tasks:
  a:
    action: std.noop
    revert: {action: std.echo, input: {output: <% result() %>}}
    next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: b}]
  b: {action: std.noop, checkpoint: here, next: [{when: <% succeeded() %>, do: c}]}
  c:
    action: std.noop
    revert: {action: std.echo, input: {output: <% result() %>}}
    next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: d}]
  d: {action: std.noop, revert: std.noop, next: [{when: <% succeeded() %>, do: e}]}
  e: {action: std.noop}
""",
}
both = pytest.mark.parametrize("language", LINES)


def reverts(stage: Stage) -> list[tuple[str, str, object]]:
    """Every revert that was called, in order: task, action, input."""
    execution = stage.execution
    found = [attempt for attempt in execution.attempts.values() if attempt.reverts]
    return [(execution.tasks[one.key[0]].name, one.action, one.input.data) for one in found]


def revert(stage: Stage, name: str, *, error: str = "", item: int = 0, result: object = None) -> None:
    """End the revert action that runs for a task."""
    execution = stage.execution
    found = [
        attempt
        for (execution_id, key), attempt in stage.world.held.items()
        if execution_id == execution.id
        and (attempt.reverts and attempt.state == "RUNNING")
        and (execution.tasks[key[0]].name, key[1]) == (name, item)
    ]
    assert len(found) == 1, f"{len(found)} reverts of {name}.{item} run"
    stage.world.finish(execution, found[0], Played("failed" if error else "succeeded", result, error))
    stage.world.run(until_s=0)


def ended(language: str) -> tuple[Stage, dict[str, Any]]:
    """An execution that has ended, and what it was at its entry."""
    stage = Stage(LINES[language], stop_at=("here",))
    stage.end("a", "x")
    stage.end("b", "x")
    at_entry = as_it_counts(stage.execution)
    stage.resume()
    for name in "cde":
        stage.end(name, "y")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"said": "y"})
    return stage, at_entry


@both
def test_an_execution_goes_back_to_a_checkpoint(language: str) -> None:
    """C5, C12, C15, C16, C28, decisions 17 to 19: what ended after the entry is reverted, newest end first, with its
    result and context; then the state is as it was."""
    stage, at_entry = ended(language)
    stage.go_to("here")
    assert (stage.execution.state, stage.execution.output) == ("REVERTING", None)
    assert (stage.standing()["d"], stage.standing()["c"]) == ("REVERTING", "SUCCESS")
    assert stage.execution.revert is not None
    revert(stage, "d")
    revert(stage, "c")
    assert reverts(stage) == [("d", "std.noop", {}), ("c", "std.echo", {"output": "y"})]
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
    assert stage.execution.revert is None
    assert as_it_counts(stage.execution) == at_entry
    assert [str(stage.execution.tasks[number].state) for number in (3, 4, 5)] == ["REVERTED"] * 3
    stage.check()
    stage.resume()
    for name in "cde":
        stage.end(name, "z")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"said": "z"})
    assert [task.number for task in stage.execution.tasks.values()] == [1, 2, 3, 4, 5, 6, 7, 8]
    stage.check()


@both
def test_forward_and_back_and_forward_again(language: str) -> None:
    """C6, C17: as often as one likes, with the same output; back to the start too."""
    stage, _ = ended(language)
    for target in ("here", "start", "here", "start", "start"):
        stage.go_to(target, resumes=True)
        while stage.execution.state == "REVERTING":
            (attempt,) = stage.world.held.values()
            revert(stage, stage.execution.tasks[attempt.key[0]].name)
        assert stage.execution.state == "RUNNING"
        for name in "abcde":
            if stage.standing().get(name) == "RUNNING":
                stage.end(name, "y")
        assert (stage.execution.state, stage.output()) == ("SUCCESS", {"said": "y"})
    assert stage.entries() == ["here"]
    stage.check()


@both
def test_back_to_the_start_is_as_if_it_had_never_run(language: str) -> None:
    """C9, decision 19: the entry `start` is made again from the input and the first tasks."""
    fresh = Stage(LINES[language], stop_at=("start",))
    stage, _ = ended(language)
    stage.go_to("start")
    for name in ("d", "c", "a"):
        revert(stage, name)
    assert (stage.execution.state, stage.execution.paused_at) == ("PAUSED", stage.execution.start_sequence)
    assert as_it_counts(stage.execution) == as_it_counts(fresh.execution)
    assert stage.entries() == []
    stage.check()


@both
def test_edits_at_an_entry_belong_to_it(language: str) -> None:
    """Decision 19: they are kept whenever it is gone back to; later ones are undone."""
    stage = Stage(LINES[language], stop_at=("here",))
    stage.end("a", "x")
    stage.end("b", "x")
    stage.tell(ContextUpdated(values={"who": Value(data="bob"), "extra": Value(data=1)}))
    stage.tell(ContextUpdated(task="a", values={"said": Value(data="edited")}))
    stage.resume(environment=Value(data={"at": "entry"}))
    at_entry = as_it_counts(stage.execution)["variables"]
    stage.end("c", "y")
    stage.pause()
    stage.end("d")
    stage.tell(ContextUpdated(values={"who": Value(data="eve"), "late": Value(data=1)}))
    stage.tell(ContextUpdated(task="a", values={"said": Value(data="late")}))
    stage.go_to("here")
    revert(stage, "d")
    revert(stage, "c")
    assert as_it_counts(stage.execution)["variables"] == at_entry
    assert stage.execution.input.data == {"who": "bob"}
    assert stage.task("a").published == {"said": "edited"} or stage.task("a").published["said"].data == "edited"
    assert stage.execution.environment.data == {"at": "entry"}
    stage.check()


TWO = """
version: '2.0'
wf:
  input: [{who: ann}]
  tasks:
    a: {action: std.noop, publish: {x: 1}, checkpoint: one, on-success: b}
    b: {action: std.noop, checkpoint: two, on-success: c}
    c: {action: std.noop}
"""


def test_an_edit_at_a_later_entry_is_undone_by_going_back_to_an_earlier_one() -> None:
    """Decision 19: it belongs to the later entry, and to no other."""
    stage = Stage(TWO, stop_at=("one",))
    stage.end("a")
    at_entry = as_it_counts(stage.execution)
    stage.resume(stop_at=("two",))
    stage.end("b")
    stage.tell(ContextUpdated(values={"who": Value(data="bob"), "new": Value(data=1)}))
    stage.tell(ContextUpdated(task="a", values={"x": Value(data=2)}))
    stage.go_to("one")
    assert as_it_counts(stage.execution) == at_entry
    stage.check()


@both
def test_a_revert_that_fails_is_a_state_of_its_own(language: str) -> None:
    """C29, decision 23: run again, with another input, or skipped; nothing else begins meanwhile."""
    for way in ("again", "choice", "skip"):
        stage, at_entry = ended(language)
        stage.go_to("here")
        revert(stage, "d", error="stuck")
        assert (stage.execution.state, stage.standing()["d"]) == ("REVERT_ERROR", "REVERT_ERROR")
        assert "d: stuck" in stage.execution.info
        for refused in (stage.rerun, stage.pause, stage.cancel):
            with pytest.raises(Refused):
                refused()
        with pytest.raises(Refused):
            stage.tell(ContextUpdated(values={"who": Value(data=1)}))
        with pytest.raises(Refused, match="task c: has no revert that has failed"):
            stage.resume(run("c"))
        if way == "again":
            stage.resume()
            revert(stage, "d")
        elif way == "choice":
            stage.resume(run("d", input={}))
            revert(stage, "d")
        else:
            stage.resume(skip("d", None), comment="by hand")
        revert(stage, "c")
        assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
        assert as_it_counts(stage.execution) == at_entry
        stage.check()


@both
def test_a_revert_is_paused_and_resumed(language: str) -> None:
    """Decision 23: what runs comes to its end, the rest waits; resume goes on with it."""
    stage, at_entry = ended(language)
    stage.go_to("here")
    stage.pause()
    assert stage.execution.state == "PAUSING"
    revert(stage, "d")
    assert (stage.execution.state, len(reverts(stage))) == ("PAUSED", 1)
    assert stage.execution.revert is not None
    stage.resume()
    revert(stage, "c")
    assert (stage.execution.state, as_it_counts(stage.execution)) == ("PAUSED", at_entry)


@both
def test_a_revert_is_cancelled(language: str) -> None:
    """Decision 23: what runs comes to its end, then it is REVERT_ERROR with what is left; an older entry may be gone
    to."""
    stage, _ = ended(language)
    stage.go_to("here")
    stage.cancel()
    assert stage.execution.state == "CANCELLING"
    revert(stage, "d")
    assert stage.execution.state == "REVERT_ERROR"
    stage.go_to("start")
    for name in ("c", "a"):
        revert(stage, name)
    assert (stage.execution.state, stage.execution.paused_at) == ("PAUSED", stage.execution.start_sequence)


@both
def test_another_target_while_a_revert_is_under_way(language: str) -> None:
    """Decision 23: an older entry becomes the target; what is undone already is none."""
    stage, _ = ended(language)
    stage.go_to("start")
    for name in ("d", "c", "a")[:2]:
        revert(stage, name)
    with pytest.raises(Undone, match="'here' does not stand"):
        stage.go_to("here")
    revert(stage, "a")
    sequence = next(iter(stage.execution.entries))
    with pytest.raises(Undone):
        stage.go_to(sequence=sequence)
    assert stage.execution.paused_at == stage.execution.start_sequence


@both
def test_back_and_then_forward(language: str) -> None:
    """C15, decision 20: when nothing open leads there, it goes back to where something does, then forward."""
    stage, _ = ended(language)
    stage.go_to("here", next=True)
    for name in ("d", "c", "a"):
        revert(stage, name)
    assert stage.execution.state == "RUNNING"
    stage.end("a", "x")
    stage.end("b", "x")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")


@both
def test_what_runs_comes_to_its_end_first(language: str) -> None:
    """Decision 19: first rest; what ended meanwhile is reverted too; what was not handed out is taken back."""
    stage = Stage(LINES[language])
    stage.end("a", "x")
    stage.end("b", "x")
    stage.go_to("here")
    assert (stage.execution.state, stage.standing()["c"]) == ("REVERTING", "RUNNING")
    stage.end("c", "y")
    assert [name for name, _, _ in reverts(stage)] == ["c"], "nothing follows it"
    revert(stage, "c")
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
    stage.check()


@both
def test_the_reverts_of_a_terminated_execution_are_not_lost(language: str) -> None:
    """Decision 23: terminate ends at once in the state asked for; only a go-to goes on from there."""
    stage, _ = ended(language)
    stage.go_to("here")
    stage.cancel(terminate=ForcedEnd.ERROR)
    assert stage.execution.state == "ERROR"
    for refused in (stage.rerun, stage.resume):
        with pytest.raises(Refused):
            refused()
    stage.go_to("here")
    for name in ("d", "c"):
        revert(stage, name)
    assert stage.execution.state == "PAUSED"
    stage.check()
