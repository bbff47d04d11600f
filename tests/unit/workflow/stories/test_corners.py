"""Stories of the core at the corners of Orquesta's language: what is seldom done, and then counted on
(orquesta/README.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from tests.world import STANDARD, Played, World, described, states

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.running import launching

FAILED = Played("failed", {"why": "no"}, "it broke")


def run(
    text: str,
    played: Mapping[str, Played] | None = None,
    given: object = None,
    child: str = "",
) -> Execution:
    """Run the workflow to its end. `core.echo` gives its message, everything else null, but for what is `played`.
    It may call `child` as `demo.child`."""

    def player(execution: Execution, attempt: Attempt) -> Played:
        sent = attempt.input.data
        assert isinstance(sent, dict)
        found = (played or {}).get(execution.tasks[attempt.key[0]].name)
        return found or Played(result=sent.get("message"))

    actions = {name: described(name, accepts_any=True) for name in ("core.noop", "core.echo")}
    here = World(player=player, actions={**STANDARD, **actions})
    here.define(text, name="demo.wf")
    if child:
        here.define(child, name="demo.child")
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


def test_an_action_may_be_named_by_the_item() -> None:
    """With items the action is an expression of the item too."""
    text = """
version: 1.0
tasks:
  each: {with: "one in <% ['core.echo', 'core.noop'] %>", action: <% item(one) %>, input: {message: 1}}
"""
    execution = run(text)
    assert [attempt.action for attempt in execution.attempts.values()] == ["core.echo", "core.noop"]


TOGETHER = """
version: 1.0
input: [rows]
tasks:
  begin: {action: core.noop, next: [{do: [aa, bad, each, late, zz]}]}
  aa: {action: core.echo, input: {message: 1}}
  bad: {action: core.echo, input: {message: <% ctx().st2.nope %>}}
  each: {with: row in <% ctx(rows) %>, action: core.echo, input: {message: <% item(row).a %>}}
  late: {action: core.echo, delay: 5, input: {message: <% ctx().st2.no %>}}
  zz: {action: core.noop}
"""


def test_tasks_begin_together_or_not_at_all() -> None:
    """Where the input of one cannot be evaluated none of them begins, and every one that cannot is told of."""
    execution = run(TOGETHER, given={"rows": [1]})
    assert (execution.state, ran(execution)) == ("ERROR", ["begin"])
    assert error_names(execution) == ["bad", "each", "late"]
    assert states(execution)["aa"] == "IDLE"


def test_a_join_begins_together_with_others() -> None:
    """What the join would run is evaluated before what stands beside it begins."""
    text = """
version: 1.0
tasks:
  begin: {action: core.noop, next: [{do: [aa, join]}]}
  aa: {action: core.noop}
  join: {join: all, action: core.echo, input: {message: <% ctx().st2.nope %>}}
"""
    execution = run(text)
    assert (ran(execution), error_names(execution)) == (["begin"], ["join"])


def test_items_begin_together_or_not_at_all() -> None:
    """Of items that would begin at once none does when the input of one cannot be evaluated."""
    text = """
version: 1.0
tasks:
  each: {with: "row in <% [dict(a => 1), 2] %>", action: core.echo, input: {message: <% item(row).a %>}}
"""
    execution = run(text)
    assert (execution.state, ran(execution), error_names(execution)) == ("ERROR", [], ["each"])


def test_every_fault_of_a_transition_is_told_for_every_target() -> None:
    """Each value that cannot be published is an error of its own, once for each task that would have seen it."""
    text = """
version: 1.0
vars: [{y: 0}]
output: [{y: <% ctx(y) %>}]
tasks:
  one:
    action: core.noop
    next:
      - publish: [{x: <% ctx().st2.a %>}, {y: 1}, {z: <% ctx().st2.b %>}]
        do: [two, three]
  two: {action: core.noop}
  three: {action: core.noop}
"""
    execution = run(text)
    told = execution.reported_errors.data if execution.reported_errors else []
    assert isinstance(told, list)
    assert [(error["task_id"], error["route"], error["task_transition_id"]) for error in told] == [
        *[("one", 0, "three__t0")] * 2,
        *[("one", 0, "two__t0")] * 2,
    ]
    assert (execution.state, ran(execution), output(execution)) == ("ERROR", ["one"], {"y": 0})


def test_every_fault_of_input_and_vars_is_told() -> None:
    """What fails is missing for what comes after it, and nothing begins."""
    text = """
version: 1.0
input: [{a: <% ctx().st2.no %>}, {b: <% ctx(a) %>}, {c: 1}]
vars: [{x: <% ctx().st2.no %>}, {y: <% ctx(c) %>}]
tasks: {one: {action: core.noop}}
"""
    execution = run(text)
    assert (execution.state, len(execution.errors), execution.tasks) == ("ERROR", 3, {})


def test_vars_are_laid_over_input() -> None:
    """A var of an input's name is merged into it key by key; those after it see it as it was written."""
    text = """
version: 1.0
input: [{x: {a: 1, n: {p: 1}}}, given]
vars: [{x: {n: {q: 2}}}, {seen: <% ctx(x) %>}, {given: 5}]
output: [{x: <% ctx(x) %>}, {seen: <% ctx(seen) %>}, {given: <% ctx(given) %>}]
tasks: {one: {action: core.noop}}
"""
    execution = run(text, given={"given": {"z": 1}})
    assert output(execution) == {"x": {"a": 1, "n": {"p": 1, "q": 2}}, "seen": {"n": {"q": 2}}, "given": 5}


def test_a_condition_of_a_retry_is_not_asked_when_no_try_is_left() -> None:
    """So it cannot fail either."""
    text = """
version: 1.0
tasks:
  one: {action: core.noop, retry: {count: 0, when: <% ctx().st2.nope %>}, next: [{when: <% failed() %>, do: noop}]}
"""
    assert run(text, {"one": FAILED}).state == "SUCCESS"


ROUNDS = """
version: 1.0
vars: [{n: 0}, {most: 2}]
output: [{n: <% ctx(n) %>}]
tasks:
  begin: {action: core.noop, next: [{do: fork}]}
  fork: {action: core.noop, next: [{do: [fast, slow]}]}
  fast: {action: core.noop, next: [{do: meet}]}
  slow: {action: core.noop, next: [{do: slower}]}
  slower: {action: core.noop, next: [{do: meet}]}
  meet:
    join: all
    action: core.noop
    next: [{when: <% ctx(n) < ctx(most) %>, publish: [{n: <% ctx(n) + 1 %>}], do: fork}]
"""


def test_a_join_in_a_cycle_waits_anew_in_each_round() -> None:
    """All branches of a round must have come, and the join runs once in each."""
    execution = run(ROUNDS, {"slow": Played(after_s=5), "slower": Played(after_s=5)})
    assert (execution.state, output(execution)) == ("SUCCESS", {"n": 2})
    names = [task.name for task in execution.tasks.values()]
    assert {name: names.count(name) for name in names} == {"begin": 1} | dict.fromkeys(
        ["fork", "fast", "slow", "slower", "meet"], 3
    )
    assert [len(task.arrivals.sources) for task in execution.tasks.values() if task.name == "meet"] == [2, 2, 2]


def test_a_join_of_some_in_a_cycle_runs_once_in_each_round() -> None:
    """`join: 1`: whoever comes later in the round does not have it run again."""
    execution = run(ROUNDS.replace("join: all", "join: 1"), {"slow": Played(after_s=1)})
    assert (execution.state, output(execution)) == ("SUCCESS", {"n": 2})
    assert len(execution.by_name["meet"]) == 3


def test_a_branch_that_is_not_taken_again_has_still_led_to_the_join() -> None:
    """What led to the join in a round before, and does not run in this one, counts; so does what is outside."""
    text = ROUNDS.replace("do: [fast, slow]", "do: fast}, {when: <% ctx(n) < 1 %>, do: slow")
    execution = run(text, {"slow": Played(after_s=5)})
    assert (execution.state, output(execution)) == ("SUCCESS", {"n": 2})
    assert [len(task.arrivals.sources) for task in execution.tasks.values() if task.name == "meet"] == [2, 1, 1]
    text = ROUNDS.replace("do: fork}]}\n  fork", "do: [fork, meet]}]}\n  fork")
    assert output(run(text)) == {"n": 2}


def test_a_join_that_may_still_be_reached_is_not_told_of() -> None:
    """When a failure ends the execution, a join is in vain only if everything that leads to it has begun."""
    text = """
version: 1.0
tasks:
  a: {action: core.noop, next: [{do: join}]}
  b: {action: core.noop, next: [{do: c}]}
  c: {action: core.noop, next: [{do: join}]}
  bad: {action: core.noop}
  join: {join: all, action: core.noop}
"""
    late = {"b": Played(after_s=5), "c": Played(after_s=5), "bad": Played("failed", error="no", after_s=1)}
    assert error_names(run(text, late)) == ["bad"]
    late["b"] = Played()
    assert error_names(run(text, late)) == ["bad", "join"]
    on_failure = text.replace("bad: {action: core.noop}", "bad: {action: core.noop, next: [{do: fail}]}")
    assert error_names(run(on_failure, late)) == ["bad", "fail", "join"]


def test_an_engine_command_opens_a_route_as_a_task_would() -> None:
    """Where several transitions lead to `noop`, each arrival takes a number that no task's route has."""
    text = """
version: 1.0
tasks:
  a: {action: core.noop, next: [{do: noop}, {do: shared}]}
  b: {action: core.noop, next: [{do: noop}, {do: shared}]}
  shared: {action: core.noop}
"""
    execution = run(text)
    assert [task.route for task in execution.tasks.values() if task.name == "shared"] == [2, 4]
    assert [*execution.routes.values()] == [(), ("a__t0",), ("a__t1",), ("b__t0",), ("b__t1",)]


def test_two_transitions_to_the_same_task_of_a_cycle_run_it_once() -> None:
    """On one route a task that has not begun is reached again, with what both publish."""
    text = """
version: 1.0
vars: [{n: 0}]
output: [{n: <% ctx(n) %>}, {m: <% ctx(m) %>}]
tasks:
  begin: {action: core.noop, next: [{do: loop}]}
  loop:
    action: core.noop
    next:
      - {when: <% ctx(n) < 2 %>, publish: [{n: <% ctx(n) + 1 %>}], do: loop}
      - {when: <% ctx(n) < 2 %>, publish: [{m: <% ctx(n) %>}], do: loop}
"""
    execution = run(text)
    assert output(execution) == {"n": 2, "m": 1}
    assert len(execution.by_name["loop"]) == 3


@pytest.mark.parametrize(
    ("keys", "state"),
    [
        ("delay: <% 0 %>", "SUCCESS"),
        ("delay: <% -1 %>", "SUCCESS"),
        ("delay: <% null %>", "ERROR"),
        ("delay: <% 1.5 %>", "ERROR"),
        ("delay: '5'", "ERROR"),
        ("retry: {count: <% -1 %>}", "SUCCESS"),
        ("retry: {count: <% 0.5 %>}", "ERROR"),
        ("retry: {count: 1, delay: <% null %>}", "ERROR"),
    ],
)
def test_what_an_expression_gives_for_a_number(keys: str, state: str) -> None:
    """It must be a whole one, else the execution fails; a negative delay is none, and a negative count too."""
    execution = run(f"version: 1.0\ntasks:\n  one:\n    action: core.noop\n    {keys}\n")
    assert (execution.state, ran(execution)) == (state, ["one"] if state == "SUCCESS" else [])


def test_a_workflow_that_calls_itself_without_end_comes_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So deep and no deeper: the task that would continue fails, and so do those above it, one after the other."""
    monkeypatch.setattr(launching, "DEPTH_MAX", 3)
    execution = run("version: 1.0\ntasks: {again: {action: demo.wf}}")
    assert execution.state == "ERROR"
    assert execution.info.count("error in tasks: again") == 4  # its own, and those of three below
    assert execution.info.endswith("workflow 'demo.wf' would be 4 sub-workflows deep; at most 3 are allowed")


def test_the_caller_is_known() -> None:
    """`parent` is who has the execution run, unless an input, a var or a published value is called so."""
    text = """
version: 1.0
output: [{pack: "<% ctx(parent).pack %>"}, {user: "{{ ctx().parent.user }}"}, {all: "<% ctx().get(parent).pack %>"}]
tasks: {one: {action: core.noop}}
"""
    assert output(run(text)) == {"pack": "demo", "user": "", "all": "demo"}
    call = "{action: demo.child, next: [{publish: [{all: <% result().output %>}]}]}"
    parent = "version: 1.0\noutput: [{all: <% ctx(all) %>}]\ntasks:\n  one: " + call
    child = text.replace("ctx(parent).pack", "ctx(parent).parent.execution_id")
    execution = run(parent, child=child)
    assert output(execution) == {"all": {"pack": execution.id, "user": "", "all": "demo"}}
    own = text.replace("output:", "input: [{parent: {pack: mine, user: me}}]\noutput:")
    assert output(run(own)) == {"pack": "mine", "user": "me", "all": "mine"}


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("core.<% echo %> message=7", "core.echo"),
        ("<% core %>.<% echo %> message=7", "core.echo"),
        ("{{ 'core.echo' }} message=7", "core.echo"),
        ("core.echo message=<% 3 + 4 %>", "core.echo"),
        ("core.{{ 'noop' }}   message='7' x=<% 1 %>", "core.noop"),
    ],
)
def test_the_name_of_an_action_may_have_expressions_in_it(action: str, name: str) -> None:
    """With parameters behind it too, which begin after the first space outside of them."""
    execution = run(f"version: 1.0\ntasks:\n  one:\n    action: {json.dumps(action)}\n")
    assert [attempt.action for attempt in execution.attempts.values()] == [name]
    assert [str(message) for message in messages(execution, "one")] == ["7"]


INTERRUPTED = """
version: 1.0
output: [{x: <% ctx(x) %>}]
vars: [{x: 0}]
tasks:
  a: {action: core.noop, next: [{publish: [{x: 5}], do: b}]}
  b: {action: core.noop, next: [{publish: [{x: 7}], do: c}]}
  c: {action: core.noop}
"""


def test_the_task_that_ends_the_execution_brings_what_it_has_seen() -> None:
    """Its variables reach the output although others were to follow it, but not what it has published for those."""
    execution = run(INTERRUPTED, {"b": Played("cancelled")})
    assert (execution.state, output(execution), states(execution)["c"]) == ("CANCELLED", {"x": 5}, "IDLE")
    fails = INTERRUPTED.replace("do: c}]}", "do: c}, {when: <% ctx().st2.no %>}]}")
    execution = run(fails)
    assert (execution.state, output(execution), states(execution)["c"]) == ("ERROR", {"x": 5}, "IDLE")
    lonely = INTERRUPTED.replace("c: {action: core.noop}", "c: {join: 2, action: core.noop}")
    execution = run(lonely)
    assert (execution.state, output(execution), states(execution)["c"]) == ("ERROR", {"x": 5}, "WAITING")


def test_what_ran_on_other_routes_is_not_known_by_name_alone() -> None:
    """The output stands on the first route; a task on another one is asked for with its route."""
    text = """
version: 1.0
output: [{told: "<% [task_status(a), task_status(shared), task_status(shared, 2), task(shared, 1).task_name] %>"}, ASK]
tasks:
  a: {action: core.noop, next: [{do: shared}]}
  b: {action: core.noop, next: [{do: shared}]}
  shared: {action: core.noop}
"""
    told = {"told": ["succeeded", "null", "succeeded", "shared"]}
    assert output(run(text.replace(", ASK", ""))) == told
    execution = run(text.replace("ASK", "{bad: <% task(shared).result %>}"))
    assert (execution.state, output(execution)) == ("ERROR", told)
