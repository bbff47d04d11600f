"""What undoes a task and what a failure sets off: what both languages make of it, and each mistake with its line."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.definitions.mistral_texts import compile_tasks, find_problems
from tests.unit.definitions.orquesta.texts import find_problems as find_orquesta_problems

from dalsegno.definitions.calls import KnownCallees, Signature, check
from dalsegno.definitions.document import read
from dalsegno.definitions.problems import Problem
from dalsegno.workflow.model import LAST, START, Retry, Revert, RevertWhen, Strategy, Task, Then, Workflow
from dalsegno.workflow.scope import Constant, Template


def of_mistral(body: str, **parts: str) -> Task:
    """The compiled task `t` of Mistral with this body."""
    return compile_tasks(f"t: {body}", **parts).tasks["t"]


def orquesta_workflow(tasks: str, **parts: str) -> Workflow:
    """The compiled workflow of Orquesta, with an input `x`."""
    further = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in parts.items())
    document = read(f"version: 1.0\ninput: [x]\n{further}tasks:\n  {tasks}\n", name="w")
    assert document.problems == ()
    workflow = document.members[0].workflow
    assert workflow is not None
    return workflow


def of_orquesta(body: str) -> Task:
    """The compiled task `t` of Orquesta with this body."""
    return orquesta_workflow(f"t: {body}").tasks["t"]


BOTH = pytest.mark.parametrize("of", [of_mistral, of_orquesta])


def is_expression(template: Template | None) -> bool:
    return template is not None and not isinstance(template, Constant)


@BOTH
def test_a_name_is_a_revert(of: Any) -> None:
    """C28: with only an action its input is empty, and it is called where the task has succeeded."""
    assert of("{action: core.noop, revert: my.undo}").revert == Revert(Constant("my.undo"))
    assert of("{action: core.noop, revert: {action: my.undo}}").revert == Revert(Constant("my.undo"))


@BOTH
@pytest.mark.parametrize("revert", ["my.undo a=1 b=true", "{action: my.undo a=1 b=true}"])
def test_parameters_may_stand_behind_the_action(of: Any, revert: str) -> None:
    """The action of a revert is written as that of a task."""
    assert of(f"{{action: core.noop, revert: {revert}}}").revert == Revert(
        Constant("my.undo"), Constant({"a": 1, "b": True})
    )


@BOTH
def test_every_key_of_a_revert(of: Any) -> None:
    """Decision 18: all keys are compiled, constants as they are."""
    revert = of(
        "{action: core.noop, revert: {action: my.undo, input: {a: 1}, when: always, retry: {count: 3, delay: 2},"
        " timeout: 5, safe-rerun: true, target: node1, publish: {b: 2}, concurrency: 4}}"
    ).revert
    assert revert == Revert(
        action=Constant("my.undo"),
        input=Constant({"a": 1}),
        when=RevertWhen.ALWAYS,
        retry=Retry(Constant(3), Constant(2)),
        timeout_s=Constant(5),
        safe_rerun=Constant(True),
        target=Constant("node1"),
        publish=Constant({"b": 2}),
        concurrency=Constant(4),
    )


@pytest.mark.parametrize(("of", "x"), [(of_mistral, "$.x"), (of_orquesta, "ctx(x)")])
def test_keys_of_a_revert_may_be_expressions(of: Any, x: str) -> None:
    """Every value but `when` may be an expression."""
    keys = ("action", "input", "timeout", "safe-rerun", "target", "concurrency")
    written = ", ".join(f"{key}: <% {x} %>" for key in keys)
    revert = of(f"{{action: core.noop, revert: {{{written}, publish: {{b: <% {x} %>}}, when: success}}}}").revert
    values = (
        *(revert.action, revert.input, revert.timeout_s, revert.safe_rerun),
        *(revert.target, revert.publish, revert.concurrency),
    )
    assert [is_expression(value) for value in values] == [True] * 7
    assert revert.when is RevertWhen.SUCCESS


def test_retry_of_a_revert_is_that_of_its_language() -> None:
    """Mistral writes `break-on` or one line, Orquesta `when`."""
    mistral = of_mistral("{action: std.noop, revert: {action: a, retry: count=2 delay=1}}").revert
    assert mistral is not None
    assert mistral.retry == Retry(Constant(2), Constant(1))
    orquesta = of_orquesta("{action: core.noop, revert: {action: a.b, retry: {count: 2, when: <% failed() %>}}}").revert
    assert orquesta is not None
    assert orquesta.retry is not None
    assert (orquesta.retry.count, is_expression(orquesta.retry.when)) == (Constant(2), True)


def test_a_timeout_of_0_is_none() -> None:
    """As everywhere, 0 sets no limit."""
    for of in (of_mistral, of_orquesta):
        revert = of("{action: core.noop, revert: {action: a.b, timeout: 0}}").revert
        assert revert is not None
        assert revert.timeout_s is None


def test_task_defaults_give_a_revert() -> None:
    """Mistral's task-defaults may hold a revert; a task's own goes before it; reverse workflows have both too."""
    for kind in ("direct", "reverse"):
        tasks = compile_tasks(
            "t: {action: std.noop}\nu: {action: std.noop, revert: own}\nv: {workflow: w}",
            task_defaults="revert: {action: common, when: always}",
            type=kind,
        ).tasks
        common = Revert(Constant("common"), when=RevertWhen.ALWAYS)
        assert [tasks[name].revert for name in "tuv"] == [common, Revert(Constant("own")), common]


@BOTH
def test_a_checkpoint_counts_what_goes_back_to_it(of: Any) -> None:
    """C25: `retry` and `delay` of a checkpoint; without them a failure does not go back to it."""
    checkpoint = of("{action: core.noop, checkpoint: {name: a, retry: 5, delay: 60}}").checkpoint
    assert (checkpoint.retry, checkpoint.delay_s) == (5, Constant(60))
    plain = of("{action: core.noop, checkpoint: a}").checkpoint
    assert (plain.retry, plain.delay_s) == (0, None)
    assert of("{action: core.noop, checkpoint: {name: a, retry: 1000}}").checkpoint.retry == 1000


STRATEGIES = [
    ("fail", False, None),
    ("pause", True, None),
    ("revert", False, Strategy(START, Then.STOP)),
    ("{revert: start}", False, Strategy(START, Then.STOP)),
    ("{revert: last, then: pause}", False, Strategy(LAST, Then.PAUSE)),
    ("{revert: ready, then: stop}", False, Strategy("ready", Then.STOP)),
    ("{revert: ready, then: retry}", False, Strategy("ready", Then.RETRY)),
    ("{revert: ready, then: retry, count: 5, delay: 60}", False, Strategy("ready", Then.RETRY, 5, Constant(60))),
]


@pytest.mark.parametrize(("on_failure", "pauses", "strategy"), STRATEGIES)
def test_strategies(on_failure: str, pauses: bool, strategy: Strategy | None) -> None:
    """C9 to C13: the reaction to a failure is part of the definition, in the same words in both languages."""
    mistral = compile_tasks("t: {checkpoint: ready}", on_failure=on_failure)
    orquesta = orquesta_workflow("t: {checkpoint: ready}", on_failure=on_failure)
    for workflow in (mistral, orquesta):
        assert (workflow.pauses_on_failure, workflow.strategy) == (pauses, strategy)


def test_the_delay_of_a_strategy_may_be_an_expression() -> None:
    """It sees what the output sees; in Orquesta, variables that nothing assigns are a problem there too."""
    written = "{revert: start, then: retry, delay: <% ctx(x) %>}"
    workflow = orquesta_workflow("t: {action: core.noop}", on_failure=written)
    assert workflow.strategy is not None
    assert is_expression(workflow.strategy.delay_s)
    problems = find_orquesta_problems("t: {action: core.noop}", **{"on-failure": written})
    assert [(each.path, each.line, each.message) for each in problems] == [
        ("on-failure.delay", 4, "the variable `x` is referenced before it is assigned")
    ]
    mistral = compile_tasks("t: {action: std.noop}", on_failure="{revert: start, then: retry, delay: <% $.x %>}")
    assert mistral.strategy is not None
    assert is_expression(mistral.strategy.delay_s)


REVERT_MISTAKES = [
    ("12", "", "must be an action or a mapping with an action, not 12"),
    ("''", "", "must not be empty"),
    ("{}", "", "must be an action or a mapping with an action, not {}"),
    ("[a]", "", "must be an action or a mapping with an action, not ['a']"),
    ("{when: always}", "", "`action` is missing"),
    ("{action: 3}", ".action", "must be text, not 3"),
    ("{workflow: w}", ".workflow", "a revert runs an action, never a workflow"),
    ("{action: a.b, workflow: w}", ".workflow", "a revert runs an action, never a workflow"),
    ("{action: a.b, when: error}", ".when", "must be success or always, not 'error'"),
    ("{action: a.b, undo: 1}", ".undo", "a revert has no key `undo`"),
    ("{action: a.b, concurrency: 0}", ".concurrency", "must be at least 1"),
    ("{action: a.b, target: 3}", ".target", "must be text, not 3"),
    ("{action: a.b, publish: [x]}", ".publish", "must be a mapping that is not empty, not ['x']"),
    ("{action: a.b, input: 3}", ".input", "must be a mapping that is not empty, not 3"),
    ("{action: a.b, input: {c: <% * %>}}", ".input.c", "<% * %>: unexpected '*' at position 0"),
    ("{action: a.b, retry: {delay: 1, count: 1, times: 1}}", ".retry.times", "a retry has no key `times`"),
]


@pytest.mark.parametrize(("revert", "path", "message"), REVERT_MISTAKES)
def test_a_mistake_of_a_revert_has_its_line(revert: str, path: str, message: str) -> None:
    """Each mistake is one problem at its place, the same in both languages."""
    tasks = f"t:\n  action: a.b\n  revert: {revert}\n"
    assert find_problems(tasks) == [(f"wf.tasks.t.revert{path}", 6, message)]
    assert shown(find_orquesta_problems(tasks)) == [(f"tasks.t.revert{path}", 5, message)]


def shown(problems: tuple[Problem, ...]) -> list[tuple[str, int, str]]:
    return [(each.path, each.line, each.message) for each in problems]


TIMES = "must be a whole number from 1 to 1,000, not "
CHECKPOINT_MISTAKES = [
    ("{name: a, retry: 0}", ".retry", TIMES + "0"),
    ("{name: a, retry: 1001}", ".retry", TIMES + "1001"),
    ("{name: a, retry: true}", ".retry", TIMES + "true"),
    ("{name: a, retry: '3'}", ".retry", TIMES + "'3'"),
    ("{name: a, delay: 3}", ".delay", "`delay` is the time before going on again, so it needs a `retry`"),
]


@pytest.mark.parametrize(("checkpoint", "path", "message"), CHECKPOINT_MISTAKES)
def test_a_mistake_of_going_back_has_its_line(checkpoint: str, path: str, message: str) -> None:
    """Decision 22: `retry` is from 1 to 1,000, and `delay` belongs to it."""
    tasks = f"t:\n  checkpoint: {checkpoint}\n"
    assert find_problems(tasks) == [(f"wf.tasks.t.checkpoint{path}", 5, message)]
    assert shown(find_orquesta_problems(tasks)) == [(f"tasks.t.checkpoint{path}", 4, message)]


BESIDE = "a task has no `retry` beside a checkpoint with `retry`"


def test_a_task_has_one_retry() -> None:
    """Decision 22: a policy beside the checkpoint's `retry` is a problem where it stands, that of task-defaults too."""
    checkpoint = "checkpoint: {name: a, retry: 1}"
    tasks = f"t:\n  {checkpoint}\n  retry: {{count: 1, delay: 1}}\n"
    assert find_problems(tasks) == [("wf.tasks.t.retry", 6, BESIDE)]
    assert shown(find_orquesta_problems(tasks)) == [("tasks.t.retry", 5, BESIDE)]
    assert find_problems(f"t:\n  {checkpoint}\n", task_defaults="retry: {count: 1, delay: 1}") == [
        (
            "wf.tasks.t.checkpoint.retry",
            5,
            "task-defaults give this task a `retry`, which no task has beside a checkpoint with `retry`",
        )
    ]
    command = f"t:\n  {checkpoint}\n  next:\n    - {{when: <% failed() %>, do: retry}}\n"
    assert shown(find_orquesta_problems(command)) == [("tasks.t.next[0]", 6, BESIDE)]
    assert find_problems("t: {checkpoint: a, retry: {count: 1, delay: 1}}") == []


STRATEGY_MISTAKES = [
    ("maybe", "", "must be fail, pause, revert or a mapping with `revert`, not 'maybe'"),
    ("[revert]", "", "must be fail, pause, revert or a mapping with `revert`, not ['revert']"),
    ("{then: stop}", "", "`revert` is missing"),
    ("{}", "", "`revert` is missing"),
    ("{revert: redy}", ".revert", "there is no checkpoint `redy` in this workflow"),
    ("{revert: 3}", ".revert", "must be text, not 3"),
    ("{revert: start, then: go}", ".then", "must be stop, pause or retry, not 'go'"),
    ("{revert: start, count: 2}", ".count", "`count` is for `then: retry`, not for `then: stop`"),
    ("{revert: start, then: pause, delay: 2}", ".delay", "`delay` is for `then: retry`, not for `then: pause`"),
    ("{revert: start, then: retry, count: 0}", ".count", TIMES + "0"),
    ("{revert: start, until: 2}", ".until", "a strategy has no key `until`"),
]


@pytest.mark.parametrize(("strategy", "path", "message"), STRATEGY_MISTAKES)
def test_a_mistake_of_a_strategy_has_its_line(strategy: str, path: str, message: str) -> None:
    """A strategy names a checkpoint of its workflow, and its keys fit each other."""
    text = f"version: '2.0'\nwf:\n  on-failure: {strategy}\n  tasks:\n    t: {{checkpoint: ready}}\n"
    assert shown(read(text).problems) == [(f"wf.on-failure{path}", 3, message)]
    text = f"version: 1.0\ntasks:\n  t: {{checkpoint: ready}}\non-failure: {strategy}\n"
    assert shown(read(text).problems) == [(f"on-failure{path}", 4, message)]


def find_of_both(on_failure: str, checkpoints: str) -> list[tuple[str, int, str]]:
    """The problems of a workflow with this strategy and these tasks, the same in both languages but for the place."""
    mistral = shown(read(f"version: '2.0'\nwf:\n  on-failure: {on_failure}\n  tasks: {checkpoints}\n").problems)
    orquesta = shown(read(f"version: 1.0\n\non-failure: {on_failure}\ntasks: {checkpoints}\n").problems)
    assert mistral == [(f"wf.{path}", line, message) for path, line, message in orquesta]
    return orquesta


@pytest.mark.parametrize(("strategy", "path"), [("revert", ""), ("{revert: start, then: retry}", ".revert")])
def test_a_strategy_does_not_revert_to_a_beginning_that_is_discarded(strategy: str, path: str) -> None:
    """Decision 24: `keep` at any checkpoint refuses the strategy that goes back to the beginning; others stand."""
    kept = "{t: {checkpoint: a}, u: {checkpoint: {name: b, keep: {count: 5}}}}"
    gone = "the beginning cannot be gone back to: `keep` of the checkpoint `b` discards it"
    assert find_of_both(strategy, kept) == [(f"on-failure{path}", 3, gone)]
    assert find_of_both(strategy, kept.replace(", keep: {count: 5}", "")) == []
    for other in ("{revert: last}", "{revert: a}", "{revert: b, then: retry}", "fail", "pause"):
        assert find_of_both(other, kept) == []


def test_a_misspelt_checkpoint_is_guessed() -> None:
    """The hint of an unknown checkpoint is the one that may be meant, or what there is."""
    text = "version: 1.0\ntasks: {t: {checkpoint: ready}}\non-failure: {revert: NAME}"
    hints = [problem.hint for name in ("redy", "xyz") for problem in read(text.replace("NAME", name)).problems]
    assert hints == ["did you mean `ready`?", "name a checkpoint of this workflow, start or last"]


def test_a_revert_that_names_a_workflow_of_its_document() -> None:
    """Decision 18: never a workflow; an ad-hoc action of the same name is one."""
    message = "a revert runs an action, and `{}` is a workflow"
    texts = {
        "version: '2.0'\na: {tasks: {t: {action: std.noop, revert: b}}}\nb: {tasks: {t: {action: std.noop}}}\n": (
            "a.tasks.t.revert",
            2,
            message.format("b"),
        ),
        "name: book\nversion: '2.0'\nworkflows:\n  a: {tasks: {t: {revert: {action: a}}}}\n": (
            "workflows.a.tasks.t.revert.action",
            4,
            message.format("a"),
        ),
        "version: 1.0\nname: p.w\ntasks: {t: {action: core.noop, revert: p.w}}\n": (
            "tasks.t.revert",
            3,
            message.format("p.w"),
        ),
    }
    assert {text: shown(read(text).problems) for text in texts} == {text: [found] for text, found in texts.items()}
    both = "name: book\nversion: '2.0'\nactions: {a: {base: std.noop}}\nworkflows:\n  a: {tasks: {t: {revert: a}}}\n"
    assert read(both).problems == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("version: '2.0'\nw:\n  tasks:\n    t: {action: std.noop, revert: NAME a=1}\n", "w.tasks.t.revert"),
        (
            "version: 1.0\ntasks:\n  s: {action: std.noop}\n  t: {revert: {action: NAME, input: {a: 1}}}\n",
            "tasks.t.revert.action",
        ),
    ],
)
def test_the_calls_of_reverts_are_checked(text: str, path: str) -> None:
    """An unknown action gives the warning that one of `action` gives, a stored workflow one that says so; the input is
    compared with what the action takes."""
    known = KnownCallees(
        {"std.noop": Signature(), "my.undo": Signature(required=frozenset({"b"}))}, {"my.flow": Signature()}
    )

    def warn(name: str) -> list[tuple[int, str]]:
        document = read(text.replace("NAME", name), name="x.y", with_calls=True)
        assert document.problems == ()
        return [(each.line, each.message) for each in check(document.calls, known)]

    assert warn("no.such") == [(4, "no action `no.such` is known now")]
    assert warn("my.flow") == [(4, "a revert runs an action, and `my.flow` is a workflow")]
    assert sorted(warn("my.undo")) == [
        (4, "the action `my.undo` has no input `a`"),
        (4, "the action `my.undo` needs the input `b`"),
    ]
    assert path in {call.spot.path for call in read(text, name="x.y", with_calls=True).calls}


def test_reverts_of_orquesta_name_assigned_variables() -> None:
    """What undoes a task sees what the task saw."""
    problems = find_orquesta_problems(
        """
        t:
          action: core.noop
          revert: {action: a.b, input: {c: <% ctx(x) %>}, publish: {d: <% ctx(y) %>}, target: <% ctx(z) %>}
          next: [{publish: x=1}]
        """
    )
    assert [each.path for each in problems] == [f"tasks.t.revert.{key}" for key in ("input.c", "publish.d", "target")]
