"""Stories of the core at the corners of Orquesta's language: what is seldom done, and then counted on (ORQUESTA.md)."""

from __future__ import annotations

from collections.abc import Mapping

from tests.world import STANDARD, Played, World, described, states

from dalsegno.workflow.execution import Attempt, Execution

FAILED = Played("failed", {"why": "no"}, "it broke")


def run(text: str, played: Mapping[str, Played] | None = None, given: object = None) -> Execution:
    """Run the workflow to its end. `core.echo` gives its message, everything else null, but for what is `played`."""

    def player(execution: Execution, attempt: Attempt) -> Played:
        sent = attempt.input.data
        assert isinstance(sent, dict)
        found = (played or {}).get(execution.tasks[attempt.key[0]].name)
        return found or Played(result=sent.get("message"))

    actions = {name: described(name, accepts_any=True) for name in ("core.noop", "core.echo")}
    here = World(player=player, actions={**STANDARD, **actions})
    here.define(text, name="demo.wf")
    execution = here.start("demo.wf", given)
    here.run()
    here.check_journals()
    return execution


def output(execution: Execution) -> object:
    """What the execution gave."""
    return None if execution.output is None else execution.output.data


def messages(execution: Execution, name: str) -> list[object]:
    """The messages that the runs of a task were given, in their order."""
    given = [one.input.data for key, one in execution.attempts.items() if execution.tasks[key[0]].name == name]
    return [one.get("message") for one in given if isinstance(one, dict)]


def ran(execution: Execution) -> list[str]:
    """The tasks that ran something."""
    return sorted({execution.tasks[key[0]].name for key in execution.attempts})


def error_names(execution: Execution) -> list[str]:
    """The tasks that the errors name."""
    return sorted(error.name for error in execution.errors)


def test_an_item_that_is_a_dict_has_its_own_names() -> None:
    """`a, b in list` takes lists apart by place; a dict is asked for its own keys, and any other item is itself."""
    text = """
version: 1.0
input: [people]
tasks:
  each:
    with: name, age in <% ctx(people) %>
    action: core.echo
    input: {message: <% item() %>}
"""
    people = [{"age": 1, "name": "Ann"}, ["Ben", 2, 3], ["Cid"], 4]
    execution = run(text, given={"people": people})
    assert messages(execution, "each") == [{"age": 1, "name": "Ann"}, {"name": "Ben", "age": 2}, {"name": "Cid"}, 4]
    execution = run(text.replace("name, age", "one"), given={"people": [{"age": 1}, 4]})
    assert messages(execution, "each") == [{"one": {"age": 1}}, {"one": 4}]


def test_what_is_not_there_yet() -> None:
    """An input has no result and no item yet, of items neither; the output has no task, so nothing succeeded there."""
    text = """
version: 1.0
output: [{here: <% item() %>}, {told: "<% task_status(once) + task_status(nope) %>"}, {bad: <% succeeded() %>}]
tasks:
  once: {action: core.echo, input: {message: "<% [result(), item()] %>"}}
  each: {with: "<% [1] %>", action: core.echo, input: {message: <% result() %>}}
"""
    execution = run(text)
    assert messages(execution, "once") == [[None, None]]
    assert messages(execution, "each") == [None]
    assert (execution.state, output(execution)) == ("ERROR", {"here": None, "told": "succeedednull"})
    assert states(execution) == {"once": "SUCCESS", "each": "SUCCESS"}
