"""Stories of the core: ways out with conditions of their own, routes, layered contexts, reports
(orquesta/README.md)."""

from __future__ import annotations

from tests.world import HOLD, STANDARD, Played, World, described, states, task

from dalsegno.definitions.document import read
from dalsegno.workflow.events import RerunRequested, TaskChoice
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.value import Value


def hold(execution: Execution, attempt: Attempt) -> Played:
    """Plays nothing: the story reports itself."""
    return HOLD


def world(**texts: str) -> World:
    """A world that knows these workflows, each under its name, and holds every action."""
    actions = {name: described(name, accepts_any=True) for name in ("core.noop", "core.echo")}
    made = World(player=hold, actions={**STANDARD, **actions})
    for name, text in texts.items():
        document = read(text, name=f"demo.{name}")
        assert not document.problems, [str(problem) for problem in document.problems]
        for member in document.members:
            assert member.workflow is not None
            made.add(member.workflow)
    return made


SUCCEEDED = Played()


def end(here: World, execution: Execution, name: str, played: Played = SUCCEEDED, nth: int = 1, item: int = 0) -> None:
    """An action of the task comes to its outcome, and all that follows by itself happens."""
    here.run()
    number = task(execution, name, nth).number
    (attempt,) = (one for (owner, key), one in here.held.items() if (owner, *key[:2]) == (execution.id, number, item))
    here.finish(execution, attempt, played)
    here.run()


FAILED = Played("failed", {"why": "no"}, "it broke")

FORK = """
version: 1.0
vars: [{x: {a: 0}}]
output: [{x: <% ctx(x) %>}]
tasks:
  begin:
    action: core.noop
    next: [{publish: [{x: {a: 1}}], do: [left, right]}]
  left: {action: core.noop, next: [{publish: [{x: {a: 2}}], do: meet}]}
  right: {action: core.noop, next: [{publish: [{x: {b: 3}}], do: meet}]}
  meet: {action: core.noop, join: all}
"""


def test_what_a_branch_published_is_laid_over_what_came_before() -> None:
    """Dicts are merged key by key in order of arrival, and a value from before the fork covers no newer one."""
    here = world(fork=FORK)
    execution = here.start("demo.fork")
    for name in ("begin", "left", "right", "meet"):
        end(here, execution, name)
    assert (execution.state, execution.output) == ("SUCCESS", Value(data={"x": {"a": 2, "b": 3}}))
    here.check_journals()


def test_a_join_runs_once_however_many_arrive() -> None:
    """`join: 1` with two arrivals runs the task once (orquesta/README.md#joins)."""
    here = world(fork=FORK.replace("join: all", "join: 1"))
    execution = here.start("demo.fork")
    for name in ("begin", "left", "meet", "right"):
        end(here, execution, name)
    assert execution.state == "SUCCESS"
    assert len(execution.by_name["meet"]) == 1
    here.check_journals()


SPLIT = """
version: 1.0
output: [{seen: <% ctx(seen) %>}]
tasks:
  a: {action: core.noop, next: [{publish: [{seen: a}], do: shared}]}
  b: {action: core.noop, next: [{publish: [{seen: b}], do: shared}]}
  shared: {action: core.noop, next: [{do: [left, right]}]}
  left: {action: core.noop, next: [{do: meet}]}
  right: {action: core.noop, next: [{do: meet}]}
  meet: {action: core.noop, join: all}
"""


def test_each_arrival_at_a_split_opens_a_route_on_which_joins_count_alone() -> None:
    """A task that several lead to runs for each, and what follows stays on its route."""
    here = world(split=SPLIT)
    execution = here.start("demo.split")
    for name, nth in (("b", 1), ("a", 1), ("shared", 1), ("left", 1), ("shared", 2), ("left", 2)):
        end(here, execution, name, nth=nth)
    assert execution.routes == {0: (), 1: ("b__t0",), 2: ("a__t0",)}
    assert [task(execution, "meet", nth).state for nth in (1, 2)] == ["WAITING", "WAITING"]
    end(here, execution, "right", nth=2)
    assert [task(execution, "meet", nth).route for nth in (1, 2)] == [1, 2]
    assert [task(execution, "meet", nth).state for nth in (1, 2)] == ["WAITING", "RUNNING"]
    for name, nth in (("right", 1), ("meet", 1), ("meet", 2)):
        end(here, execution, name, nth=nth)
    assert execution.state == "SUCCESS"
    here.check_journals()


def test_what_is_taken_back_on_one_route_leaves_no_other_route_in_its_place() -> None:
    """After a rerun on the first route a task that follows has not run there, though it has run on the second."""
    text = """
version: 1.0
tasks:
  a: {action: core.noop, next: [{do: shared}]}
  b: {action: core.noop, next: [{do: shared}]}
  shared: {action: core.noop, next: [{publish: [{seen: <% task_status(after) %>}], do: after}]}
  after: {action: core.noop}
"""
    here = world(split=text)
    execution = here.start("demo.split")
    for name in ("a", "b"):
        end(here, execution, name)
    for name in ("shared", "after"):
        for nth in (1, 2):
            end(here, execution, name, nth=nth)
    assert execution.state == "SUCCESS"
    first = task(execution, "shared", 1)
    assert first.route == 1
    here.tell(execution.id, RerunRequested(at_s=here.now_s, choices=(TaskChoice(task="shared", number=first.number),)))
    assert execution.latest_on("after", 1) is None
    assert execution.latest_on("after", 2) is task(execution, "after", 2)
    end(here, execution, "shared")
    assert execution.latest_on("after", 1) is task(execution, "after", 3)
    assert first.publication.values["seen"] == Value(data="null")
    here.check_journals()


TWO = """
version: 1.0
output: [{said: <% ctx(said) %>}]
vars: [{said: nothing}]
tasks:
  a:
    action: core.noop
    next: [{when: <% succeeded() %>, do: after}]
  after: {action: core.noop}
  b:
    action: core.noop
    next: [{publish: [{said: b}], do: later}]
  later: {action: core.noop}
"""


def test_an_unhandled_failure_ends_the_execution_at_once() -> None:
    """What runs comes to its end and is routed, nothing follows it; the error names the task."""
    here = world(two=TWO)
    execution = here.start("demo.two")
    end(here, execution, "a", FAILED)
    assert (execution.state, execution.output) == ("ERROR", Value(data={"said": "nothing"}))
    assert [error.name for error in execution.errors] == ["a"]
    end(here, execution, "b")
    assert states(execution) == {"a": "ERROR", "b": "SUCCESS", "later": "IDLE"}
    assert execution.active_count == 0
    here.check_journals()


FAIL = """
version: 1.0
tasks:
  a:
    action: core.noop
    next: [{when: <% failed() %>, do: [note, fail]}]
  note: {action: core.noop}
"""


def test_fail_lets_what_stands_beside_it_run() -> None:
    """`do: note, fail` fails the execution, and `note` still runs."""
    here = world(fail=FAIL)
    execution = here.start("demo.fail")
    end(here, execution, "a", FAILED)
    assert execution.state == "ERROR"
    assert states(execution)["note"] == "RUNNING"
    end(here, execution, "note")
    assert states(execution)["note"] == "SUCCESS"
    assert [error.name for error in execution.errors] == ["a", "fail"]
    here.check_journals()


def test_an_expression_that_fails_leaves_the_other_ways_out() -> None:
    """The execution fails, what the other transition selects is kept for a rerun and does not begin."""
    text = TWO.replace("{publish: [{said: b}], do: later}", "{when: <% ctx(said).x.y > 1 %>, do: later}, {do: later}")
    here = world(two=text)
    execution = here.start("demo.two")
    end(here, execution, "b")
    assert execution.state == "ERROR"
    assert [error.name for error in execution.errors] == ["b"]
    assert states(execution)["later"] == "IDLE"
    here.check_journals()


LONELY = """
version: 1.0
tasks:
  a: {action: core.noop, next: [{when: <% succeeded() %>, do: meet}]}
  b: {action: core.noop, next: [{when: <% failed() %>, do: meet}]}
  meet: {action: core.noop, join: all}
"""


def test_a_join_that_only_some_reached_fails_the_execution_and_stays() -> None:
    """It could never run; it stays WAITING so that a rerun can still fill it (S8)."""
    here = world(lonely=LONELY)
    execution = here.start("demo.lonely")
    end(here, execution, "a")
    end(here, execution, "b")
    assert execution.state == "ERROR"
    assert [error.name for error in execution.errors] == ["meet"]
    assert states(execution)["meet"] == "WAITING"
    here.check_journals()


ITEMS = """
version: 1.0
input: [{most: null}]
output: [{all: <% ctx(all) %>}]
vars: [{all: null}]
tasks:
  each:
    with: {items: "n in <% [10, 20, 30, 40] %>", concurrency: <% ctx(most) %>}
    action: core.echo
    input: {message: <% item(n) %>}
    next: [{when: <% completed() %>, publish: [{all: <% result() %>}]}]
"""


def test_items_stop_after_a_failure_when_none_is_active() -> None:
    """One at a time, the first failure is the last; results stand in item order, null where there is none."""
    here = world(items=ITEMS)
    execution = here.start("demo.items", {"most": 1})
    end(here, execution, "each", Played(result="ten"), item=0)
    end(here, execution, "each", FAILED, item=1)
    assert states(execution) == {"each": "ERROR"}
    assert len(execution.attempts) == 2
    assert execution.output == Value(data={"all": ["ten", {"why": "no"}, None, None]})
    here.check_journals()


def test_items_go_on_after_a_failure_while_another_is_active() -> None:
    """Two at a time: the end of one makes room while the other runs, whatever it ended as."""
    here = world(items=ITEMS)
    execution = here.start("demo.items", {"most": 2})
    end(here, execution, "each", FAILED, item=0)
    assert len(execution.attempts) == 3
    end(here, execution, "each", item=1)
    end(here, execution, "each", item=2)
    end(here, execution, "each", item=3)
    assert (states(execution), execution.state) == ({"each": "ERROR"}, "ERROR")
    here.check_journals()


def test_an_item_that_is_cancelled_winds_the_execution_down() -> None:
    """Nothing new begins, what runs comes to its end, and the end is CANCELLED."""
    here = world(items=ITEMS)
    execution = here.start("demo.items", {"most": 2})
    end(here, execution, "each", Played("cancelled"), item=0)
    assert execution.state == "CANCELLING"
    end(here, execution, "each", item=1)
    assert (states(execution), execution.state) == ({"each": "CANCELLED"}, "CANCELLED")
    assert len(execution.attempts) == 2
    here.check_journals()


RETRY = """
version: 1.0
tasks:
  a:
    action: core.noop
    retry: {count: 2, when: "<% result() = again %>"}
"""


def test_retry_decides_by_its_condition_alone() -> None:
    """A success may be tried again, at most as often as said; each try is an attempt of the same task (O23)."""
    here = world(retry=RETRY)
    execution = here.start("demo.retry")
    for _ in range(3):
        end(here, execution, "a", Played(result="again"))
    assert (execution.state, len(execution.attempts), len(execution.tasks)) == ("SUCCESS", 3, 1)
    here.check_journals()


ASK = """
version: 1.0
tasks:
  ask: {action: core.noop, next: [{do: after}]}
  other: {action: core.noop, next: [{do: next_one}]}
  after: {action: core.noop}
  next_one: {action: core.noop}
"""


def test_a_delegate_pauses_its_execution_until_it_is_answered() -> None:
    """Nothing new begins meanwhile; the answer continues with everything, and nobody has to resume."""
    here = world(ask=ASK)
    execution = here.start("demo.ask")
    end(here, execution, "ask", Played("delegated"))
    assert execution.state == "PAUSING"
    end(here, execution, "other")
    assert (execution.state, states(execution)["next_one"]) == ("PAUSED", "IDLE")
    here.finish(execution, execution.attempts[task(execution, "ask").number, 0, 1], Played(result={"yes": True}))
    here.run()
    assert execution.state == "RUNNING"
    assert (states(execution)["after"], states(execution)["next_one"]) == ("RUNNING", "RUNNING")
    here.check_journals()


def test_a_task_that_pauses_itself_pauses_the_execution_when_it_is_the_last() -> None:
    """While another runs the execution does; when the action continues so does the execution."""
    here = world(ask=ASK)
    execution = here.start("demo.ask")
    here.run()
    asked = execution.attempts[task(execution, "ask").number, 0, 1]
    here.finish(execution, asked, Played("paused"))
    assert (execution.state, states(execution)["ask"]) == ("RUNNING", "PAUSED")
    end(here, execution, "other")
    end(here, execution, "next_one")
    assert execution.state == "PAUSED"
    here.finish(execution, asked, Played("running"))
    assert (execution.state, states(execution)["ask"]) == ("RUNNING", "RUNNING")
    here.finish(execution, asked, Played())
    end(here, execution, "after")
    assert execution.state == "SUCCESS"
    here.check_journals()


PARENT = """
version: 1.0
output: [{told: <% ctx(told) %>}]
vars: [{told: null}]
tasks:
  call: {action: demo.two, next: [{publish: [{told: <% result() %>}]}]}
"""


def test_a_workflow_is_called_like_an_action() -> None:
    """Its result is `{output, errors}`; the errors are there when it failed."""
    here = world(two=TWO, parent=PARENT)
    execution = here.start("demo.parent")
    here.run()
    (child,) = here.children(execution)
    for name in ("a", "b", "after", "later"):
        end(here, child, name)
    assert execution.output == Value(data={"told": {"output": {"said": "b"}}})
    execution = here.start("demo.parent")
    here.run()
    (child,) = here.children(execution)
    end(here, child, "a", FAILED)
    assert execution.state == "ERROR"
    output = execution.output
    assert output is not None
    assert isinstance(output.data, dict)
    assert output.data["told"]["errors"][0]["task_id"] == "a"
    here.check_journals()


MISTRAL = """
version: '2.0'
caller:
  output: {got: <% $.got %>}
  tasks:
    call: {workflow: demo.two, publish: {got: <% task().result %>}}
called:
  input: [n]
  output: {twice: <% $.n * 2 %>}
  tasks:
    a: {action: std.noop}
"""


def test_the_languages_call_each_other() -> None:
    """A Mistral workflow runs one of Orquesta's as its sub-workflow, and the other way round."""
    here = world(two=TWO, parent=PARENT.replace("action: demo.two", "action: called, input: {n: 4}"))
    here.define(MISTRAL)
    mistral = here.start("caller")
    here.run()
    (child,) = here.children(mistral)
    for name in ("a", "b", "after", "later"):
        end(here, child, name)
    assert (mistral.state, mistral.output) == ("SUCCESS", Value(data={"got": {"said": "b"}}))
    orquesta = here.start("demo.parent")
    here.run()
    (child,) = here.children(orquesta)
    end(here, child, "a")
    assert (orquesta.state, orquesta.output) == ("SUCCESS", Value(data={"told": {"output": {"twice": 8}}}))
    here.check_journals()


def test_input_that_nobody_declared_is_ignored_and_what_is_missing_is_null() -> None:
    """Defaults are evaluated in order and see what was given."""
    text = """
version: 1.0
input: [a, {b: <% ctx(a) %>}, {c: 3}, d]
vars: [{e: <% ctx(b) %>}]
output: [{all: "<% [ctx(a), ctx(b), ctx(c), ctx(d), ctx(e)] %>"}, {again: <% ctx(all) %>}]
tasks: {t: {action: core.noop}}
"""
    here = world(given=text)
    execution = here.start("demo.given", {"a": 1, "zzz": 9})
    end(here, execution, "t")
    assert execution.output == Value(data={"all": [1, 1, 3, None, 1], "again": [1, 1, 3, None, 1]})
    here.check_journals()


def test_each_item_may_have_an_action_of_its_own() -> None:
    """`item()` is known where the action is named, as in the input."""
    text = """
version: 1.0
tasks:
  each:
    with: n in <% [1, 2] %>
    action: <% switch(item(n) = 1 => "core.echo", true => "core.noop") %>
"""
    here = world(own=text)
    execution = here.start("demo.own")
    here.run()
    assert [attempt.action for attempt in execution.attempts.values()] == ["core.echo", "core.noop"]
    here.check_journals()
