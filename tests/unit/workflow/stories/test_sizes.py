"""Stories of the core: what an execution makes is never larger than a value may be."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage
from tests.world import HOLD, Played, World, task

from dalsegno.workflow.events import TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.value import VALUE_BYTES_MAX, Value, byte_length

HALF = "\u00e4" * (VALUE_BYTES_MAX // 4)
"""Half as many bytes as a value may have, and a quarter as many characters."""

TOO_LARGE = "too large: a value of "


def give_half(execution: Execution, attempt: Attempt) -> Played:
    """Every action gives as much."""
    return Played(result=HALF)


def run(text: str, name: str = "wf") -> Execution:
    """An execution at its end; what it keeps is what its journal gives, and no value of it is too large."""
    here = World(player=give_half)
    here.define(text, name=name if "version: '2.0'" not in text else "")
    execution = here.start(name)
    here.run()
    here.check_journals()
    for value in (execution.output, execution.reported_errors):
        assert value is None or byte_length(value.text) <= VALUE_BYTES_MAX
    return execution


MISTRAL = "version: '2.0'\nwf:\n  output: {all: '<% [$.a, $.b, $.c] %>'}\n  tasks:\n" + "".join(
    f"    {name}: {{action: std.noop, publish: {{{name}: <% task().result %>}}}}\n" for name in "abc"
)
ORQUESTA = """
version: 1.0
output: [{all: '<% [ctx(a), ctx(b), ctx(c)] %>'}]
tasks:
""" + "".join(f"  {name}: {{action: std.noop, next: [{{publish: [{{{name}: <% result() %>}}]}}]}}\n" for name in "abc")


@pytest.mark.parametrize("text", [MISTRAL, ORQUESTA], ids=["mistral", "orquesta"])
def test_an_output_that_is_too_large_is_an_error(text: str) -> None:
    """It says the size in bytes, not in characters; nobody is given an output that nobody can read."""
    execution = run(text)
    assert execution.state == "ERROR"
    assert TOO_LARGE + "6,000," in execution.info


def test_several_members_of_an_output_are_one_value() -> None:
    """In Orquesta those stay that fit together, the others are errors."""
    members = ", ".join(f"{{{name}: <% ctx({name}) %>}}" for name in "abc")
    execution = run(ORQUESTA.replace("output: [{all: '<% [ctx(a), ctx(b), ctx(c)] %>'}]", f"output: [{members}]"))
    assert execution.state == "ERROR"
    assert TOO_LARGE in execution.info
    assert execution.output is not None
    assert list(execution.output.data) == ["a"]  # type: ignore[call-overload]


def test_what_one_task_publishes_is_one_value() -> None:
    """Each is small enough and all together are not: the execution ends with the size, though nothing else is left."""
    execution = run(
        """
version: '2.0'
wf:
  output: {done: true}
  tasks:
    t:
      action: std.noop
      publish: {a: <% task().result %>, b: <% task().result %>}
"""
    )
    assert execution.state == "ERROR"
    assert TOO_LARGE in execution.info
    assert task(execution, "t").published == {}


def test_what_the_branches_of_a_task_publish_is_one_value() -> None:
    """In Orquesta every way out publishes; the second one is too much."""
    execution = run(
        """
version: 1.0
tasks:
  t:
    action: std.noop
    next:
      - publish: [{a: <% result() %>}]
        do: [u]
      - publish: [{b: <% result() %>}]
        do: [u]
  u: {action: std.noop}
"""
    )
    assert execution.state == "ERROR"
    assert TOO_LARGE in execution.info


@pytest.mark.parametrize(
    "text",
    [
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, on-success: [u], publish: {a: <% task().result %>}}\n"
        "    u: {action: std.echo, input: {output: '<% [$.a, $.a, $.a] %>'}}\n",
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, on-success: [u], publish: {a: <% task().result %>}}\n"
        "    u: {with-items: 'i in <% [$.a, $.a, $.a] %>', action: std.noop}\n",
    ],
    ids=["input", "items"],
)
def test_inputs_and_items_are_values(text: str) -> None:
    """What is made for an action is refused before there is an action."""
    execution = run(text)
    assert execution.state == "ERROR"
    assert TOO_LARGE in execution.info


def test_the_list_of_errors_is_a_value() -> None:
    """Errors are noted while they fit, with what came with them while that fits."""

    def fail(execution: Execution, attempt: Attempt) -> Played:
        return Played("failed", HALF, "x" * 60_000)

    here = World(player=fail)
    tasks = "".join(f"  t{n}: {{action: std.noop}}\n" for n in range(70))
    here.define(f"version: 1.0\ntasks:\n{tasks}", name="wf")
    execution = here.start("wf")
    here.run()
    here.check_journals()
    assert execution.state == "ERROR"
    assert execution.reported_errors is not None
    assert byte_length(execution.reported_errors.text) <= VALUE_BYTES_MAX
    assert 2 <= len(execution.errors) <= 70


def test_an_output_of_an_adhoc_action_that_is_too_large_fails_it() -> None:
    """What its output makes of a result is a value too."""
    here = World(player=lambda execution, attempt: HOLD)
    here.define(
        """
version: '2.0'
workflows:
  wf:
    tasks: {t: {action: triple}}
actions:
  triple: {base: std.noop, output: {a: <% $ %>, b: <% $ %>, c: <% $ %>, d: <% $ %>, e: <% $ %>}}
""".replace("version: '2.0'", "version: '2.0'\nname: book")
    )
    execution = here.start("book.wf")
    here.run()
    ((_, key),) = here.held
    here.tell(
        execution.id, TaskDone(key=key, outcome=TaskOutcome.SUCCEEDED, delivery=1, result=Value(data=HALF[:450_000]))
    )
    assert execution.attempts[key].state == "ERROR"
    assert TOO_LARGE in execution.attempts[key].error


@pytest.mark.parametrize(
    "text",
    [
        "version: '2.0'\nwf:\n  tasks:\n    each:\n      with-items: i in <% range(0, 900) %>\n"
        "      action: std.echo output=<% range(0, 500).select($ * 2).sum() %>\n",
        "version: 1.0\nname: wf\ntasks:\n  each:\n    with: i in <% range(900) %>\n"
        "    action: std.echo output=<% range(500).select($ * 2).sum() %>\n",
    ],
)
def test_a_slice_ends_when_the_event_has_no_steps_of_evaluation_left(text: str) -> None:
    """Items whose inputs cost much begin in more events, each with the same bound, and each item once."""
    stage = Stage(text)
    assert stage.task("each").progress.added_count == 900
    slices = [text for text in stage.world.journals[stage.execution.id] if '"AttemptAdded"' in text]
    assert len(slices) > 4
    inputs = [one.input.data for one in stage.execution.attempts.values()]
    assert all(given == {"output": 249_500} for given in inputs)
    stage.check()
