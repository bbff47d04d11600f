"""Stories of the core: history that an execution does not need any more is discarded (C8, C19-C24, C31, C32)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run

from dalsegno.workflow.events import Verdict
from dalsegno.workflow.refusals import HistoryDiscarded, NoSuchCheckpoint

LOOPS = {
    "mistral": """
version: '2.0'
wf:
  vars: {n: 0}
  output: {n: <% $.n %>, first: <% task(begin).result %>}
  tasks:
    begin:
      action: std.echo output=0
      publish: {n: <% task().result %>}
      on-success: poll
    poll:
      action: std.echo output=<% $.n %>
      publish: {n: <% task().result %>}
      checkpoint: {name: round, keep: KEEP}
      on-success:
        - poll: <% $.n < 9 %>
        - done: <% $.n >= 9 %>
    done: {action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
vars: [{n: 0}]
output: [{n: <% ctx(n) %>}, {first: <% ctx(first) %>}]
tasks:
  begin:
    action: std.echo
    input: {output: 0}
    next: [{when: <% succeeded() %>, publish: [{first: <% result() %>}], do: poll}]
  poll:
    action: std.echo
    input: {output: <% ctx(n) %>}
    checkpoint: {name: round, keep: KEEP}
    next:
      - {when: <% succeeded() and result() < 9 %>, publish: [{n: <% result() %>}], do: poll}
      - {when: <% succeeded() and result() >= 9 %>, publish: [{n: <% result() %>}], do: done}
  done: {action: std.noop}
""",
}
both = pytest.mark.parametrize("language", LOOPS)


def looped(language: str, keep: str, rounds: int = 10) -> Stage:
    """An execution that has polled so often."""
    stage = Stage(LOOPS[language].replace("KEEP", keep))
    stage.end("begin", "first")
    for number in range(rounds):
        stage.end("poll", number)
        stage.check()
    return stage


@both
@pytest.mark.parametrize("keep", ["{count: 1}", "{count: 3}", "{count: 100}", "{age: 1000}", "{count: 2, age: 1}"])
def test_an_execution_ends_as_without_discards(language: str, keep: str) -> None:
    """C19, C22, C32: whatever is kept, the output is the same, and the result of a discarded task is still there."""
    stage = looped(language, keep)
    stage.end("done")
    stage.check()
    assert stage.output() == {"n": 9, "first": "first"}


@both
def test_the_newest_entries_are_kept(language: str) -> None:
    """C20, C22, C24: so many entries of the checkpoint are kept, and what came before is gone."""
    stage = looped(language, "{count: 3}", 8)
    assert stage.entries() == ["round"] * 3
    assert [each.name for each in stage.execution.tasks.values()] == ["begin"] + ["poll"] * 4


FANS = {
    "mistral": """
version: '2.0'
wf:
  vars: {n: 0}
  output: {n: <% $.n %>, seen: <% $.seen %>}
  tasks:
    begin:
      action: std.echo output=0
      publish: {n: 0, seen: {}}
      on-success: [left, right, slow]
    left:
      action: std.noop
      publish: {seen: {left: <% task().result %>}}
      on-success: all
    right:
      action: std.noop
      publish: {seen: {right: <% task().result %>}}
      on-success: all
    slow: {action: std.noop, publish: {seen: {slow: <% task().result %>}}, on-success: loop}
    loop:
      action: std.noop
      publish: {n: <% $.n + 1 %>}
      checkpoint: {name: round, keep: {count: 1}}
      on-success:
        - loop: <% $.n < 4 %>
        - all: <% $.n >= 4 %>
    all: {join: all, action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
vars: [{n: 0}, {seen: {}}]
output: [{n: <% ctx(n) %>}, {seen: <% ctx(seen) %>}]
tasks:
  begin: {action: std.noop, next: [{when: <% succeeded() %>, do: [left, right, slow]}]}
  left: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{seen: {left: <% result() %>}}], do: all}]}
  right: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{seen: {right: <% result() %>}}], do: all}]}
  slow: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{seen: {slow: <% result() %>}}], do: loop}]}
  loop:
    action: std.noop
    checkpoint: {name: round, keep: {count: 1}}
    next:
      - {when: <% succeeded() and ctx(n) < 3 %>, publish: [{n: <% ctx(n) + 1 %>}], do: loop}
      - {when: <% succeeded() and ctx(n) >= 3 %>, publish: [{n: <% ctx(n) + 1 %>}], do: all}
  all: {join: all, action: std.noop}
""",
}


@both
def test_branches_that_meet_behind_a_discard_see_what_each_has_written(language: str) -> None:
    """C20, C32: the history of writes is kept as far as branches that are open can still meet."""
    ends = []
    for text in (FANS[language], FANS[language].replace(", keep: {count: 1}", "")):
        stage = Stage(text)
        stage.end("begin")
        stage.end("left", "l")
        stage.end("slow", "s")
        for _ in range(4):
            stage.end("loop")
            stage.check()
        stage.end("right", "r")
        stage.end("all")
        stage.check()
        ends.append((str(stage.execution.state), stage.output()))
    assert ends[0] == ends[1]
    assert ends[0][0] == "SUCCESS"


@both
def test_an_execution_goes_back_to_a_kept_entry_as_without_discards(language: str) -> None:
    """C19, C24: what is kept can be gone back to, and goes on from there as before."""
    stage = looped(language, "{count: 3}", 6)
    sequence = min(stage.execution.entries)
    stage.go_to(sequence=sequence)
    stage.end("poll", 6)
    stage.check()
    assert (str(stage.execution.state), stage.execution.paused_at) == ("PAUSED", sequence)
    stage.resume()
    stage.check()
    for number in range(4, 10):
        stage.end("poll", number)
        stage.check()
    stage.end("done")
    assert stage.output() == {"n": 9, "first": "first"}


@both
def test_what_is_discarded_is_refused(language: str) -> None:
    """C31: a go-to to a discarded entry, and a rerun of a task of which only the result is kept."""
    stage = looped(language, "{count: 1}", 4)
    for target in ({"name": "start"}, {"sequence": 5}):
        with pytest.raises(HistoryDiscarded, match="is discarded: the history begins with sequence"):
            stage.go_to(**target)
    for number in range(4, 10):
        stage.end("poll", number)
    stage.end("done")
    with pytest.raises(HistoryDiscarded, match="task begin: ended before the history that is kept"):
        stage.rerun(run("begin"))
    with pytest.raises(HistoryDiscarded, match="task execution 2"):
        stage.rerun(run("poll", number=2))
    stage.rerun(run("done"))
    stage.end("done")
    stage.check()
    assert stage.output() == {"n": 9, "first": "first"}


TWICE = """
version: '2.0'
wf:
  tasks:
    begin: {action: std.noop, on-success: work}
    work:
      action: std.noop
      on-success:
        - prove: <% $.get(proved) = null %>
        - last: <% $.get(proved) = 1 %>
    prove: {action: std.noop, publish: {proved: 1}, on-success: work}
    last: {action: std.noop, checkpoint: here}
"""


def test_what_an_operation_has_made_the_newest_again_is_kept() -> None:
    """C32: the newest `work` at the entry is taken back by a rerun, so the one before it counts, also behind a
    discard."""
    stage = Stage(TWICE)
    for name in ("begin", "work", "prove", "work", "last"):
        stage.end(name, name)
    stage.rerun(run("prove"))
    before = stage.execution.latest("work")
    stage.discard(name="here")
    stage.check()
    assert before is not None
    assert before is stage.execution.latest("work")
    assert before.number == 2


SUBFLOW = """
version: '2.0'
wf:
  on-failure: {revert: start}
  tasks:
    call: {workflow: sub, checkpoint: {name: flow, retry: 2}, on-success: after}
    after: {action: std.noop}
sub:
  tasks:
    first: {action: std.noop, checkpoint: {name: inner, keep: {count: 1}}, on-success: second}
    second: {action: std.noop}
"""


def test_a_strategy_that_needs_a_discarded_sub_workflow_names_it() -> None:
    """C31: neither a retry of the sub-flow nor a strategy reverts a sub-workflow that has discarded its beginning.

    Nothing is undone, and the reason names the sub-workflow.
    """
    stage = Stage(SUBFLOW)
    child = stage.child()
    stage.end("first", on=child)
    stage.end("second", error="broken", on=child)
    stage.check()
    assert (str(stage.execution.state), str(child.state)) == ("ERROR", "ERROR")
    assert f"cannot go back: sub-workflow {child.id} has discarded its history" in stage.execution.info
    assert stage.child() is child


def test_a_strategy_whose_beginning_an_operator_has_discarded_names_it() -> None:
    """C31: the execution fails with the reason, and nothing is undone."""
    text = SUBFLOW.replace(", checkpoint: {name: flow, retry: 2}", "").replace(", keep: {count: 1}", "")
    stage = Stage(
        text.replace(
            "after: {action: std.noop}",
            "after: {action: std.noop, checkpoint: here, on-success: z}\n    z: {action: std.noop}",
        )
    )
    for name in ("first", "second"):
        stage.end(name, on=stage.child())
    stage.end("after")
    stage.discard(name="here")
    stage.end("z", error="broken")
    stage.check()
    assert str(stage.execution.state) == "ERROR"
    assert "cannot go back to checkpoint 'start': its history is discarded" in stage.execution.info


WIDE = """
version: '2.0'
wf:
  tasks:
    many:
      with-items: i in <% range(0, 1200) %>
      action: std.noop
      on-success: poll
    poll: {action: std.noop, checkpoint: {name: round, keep: {count: 1}}, on-success: poll}
"""


def test_a_large_execution_discards_when_that_saves_as_much_as_it_costs() -> None:
    """C24: it keeps 1,202 records, so it discards again when there are twice as many: 601 rounds of two later."""
    stage = Stage(WIDE)
    for item in range(1200):
        stage.end("many", item=item)
    kept = []
    for _ in range(610):
        stage.end("poll")
        kept.append(len(stage.execution.entries))
    stage.check()
    assert [number for number, count in enumerate(kept) if count == 1] == [0, 601]


@both
def test_an_operator_discards_what_came_before_an_entry(language: str) -> None:
    """C8: while it runs, while it is paused and when it has ended."""
    stage = looped(language, "{count: 100}", 6)
    entries = [*stage.execution.entries]
    assert stage.discard(sequence=entries[2]).discarded is not None
    stage.check()
    assert [*stage.execution.entries] == entries[2:]
    stage.pause()
    stage.end("poll", 6)
    stage.discard(sequence=entries[4])
    stage.check()
    stage.resume()
    for number in range(7, 10):
        stage.end("poll", number)
    stage.end("done")
    stage.discard(name="round")
    stage.check()
    assert (stage.entries(), stage.output()) == (["round"], {"n": 9, "first": "first"})
    assert stage.discard(name="round").verdict is Verdict.DUPLICATE
    with pytest.raises(HistoryDiscarded, match="entry 12: is discarded"):
        stage.discard(sequence=12)
    with pytest.raises(NoSuchCheckpoint, match="has no entry with sequence 100000"):
        stage.discard(sequence=100_000)
