"""Stories of the core: history that an execution does not need any more is discarded (C8, C19-C24, C31, C32)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.workflow.stories.operating import Stage

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


def told(stage: Stage) -> Any:
    return stage.output()


@both
@pytest.mark.parametrize("keep", ["{count: 1}", "{count: 3}", "{count: 100}", "{age: 1000}", "{count: 2, age: 1}"])
def test_an_execution_ends_as_without_discards(language: str, keep: str) -> None:
    """C19, C22, C32: whatever is kept, the output is the same, and the result of a discarded task is still there."""
    stage = looped(language, keep)
    stage.end("done")
    stage.check()
    assert stage.output() == {"n": 9, "first": "first"}, told(stage)


@both
def test_the_newest_entries_are_kept(language: str) -> None:
    """C20, C22, C24: so many entries of the checkpoint are kept, and what came before is gone."""
    stage = looped(language, "{count: 3}", 8)
    assert stage.entries() == ["round"] * 3
    assert [each.name for each in stage.execution.tasks.values()] == ["begin"] + ["poll"] * 4
