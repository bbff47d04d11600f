"""Corners of definitions in both languages that are seldom met: each is read, or refused at its place."""

from __future__ import annotations

from dataclasses import fields

import pytest
from tests.unit.definitions.mistral_texts import compile_tasks, find_problems, read_tasks
from tests.unit.definitions.orquesta.texts import find_problems as find_orquesta_problems
from tests.unit.definitions.orquesta.texts import find_task_problems

from dalsegno.definitions.document import read
from dalsegno.definitions.document_set import ProblemList, Text, name_by_metadata
from dalsegno.definitions.load import QUICK_BYTES, load, load_with_anchors
from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX
from dalsegno.definitions.mistral.policies import merge_policies
from dalsegno.definitions.orquesta.inline import INLINE_LENGTH_MAX as ORQUESTA_LENGTH_MAX
from dalsegno.definitions.orquesta.inline import read_inline
from dalsegno.definitions.problems import PROBLEMS_MAX, Guess, Problem, Problems
from dalsegno.workflow.model import Policies, Task
from dalsegno.workflow.scope import Constant

FILLER = "# " + "filler " * (QUICK_BYTES // 7) + "\n"
"""A comment that makes a text long enough for libyaml."""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "version: '2.0'\non:\n  tasks:\n    t: {action: std.noop}\n",
            ("true", 2, "the key is read by YAML as true, not as text"),
        ),
        ("version: '2.0'\non: {base: std.noop}\n", ("true", 2, "the key is read by YAML as true, not as text")),
        (
            "version: '2.0'\nwf:\n  on-failure: maybe\n  tasks:\n    t: {action: std.noop}\n",
            ("wf.on-failure", 3, "must be fail, pause, revert or a mapping with `revert`, not 'maybe'"),
        ),
        (
            "version: 1.0\nname: wf\non-failure: maybe\ntasks:\n  t: {action: core.noop}\n",
            ("on-failure", 3, "must be fail, pause, revert or a mapping with `revert`, not 'maybe'"),
        ),
    ],
)
def test_keys_and_words_of_a_workflow(text: str, problem: tuple[str, int, str]) -> None:
    """A name that YAML reads as a boolean and an unknown reaction to failures are shown where they stand."""
    assert [(each.path, each.line, each.message) for each in read(text).problems] == [problem]


@pytest.mark.parametrize("filler", ["", FILLER], ids=["python", "libyaml"])
def test_an_alias_may_be_a_key(filler: str) -> None:
    """Orquesta's texts may repeat a name as a key too; it is what the anchor stands for."""
    problems = Problems()
    source = load_with_anchors(filler + "a: &k name\nb:\n  *k : 1\n", problems)
    assert (source.data, problems.listed()) == ({"a": "name", "b": {"name": 1}}, ())


@pytest.mark.parametrize("filler", ["", FILLER], ids=["python", "libyaml"])
def test_an_anchor_that_nothing_refers_to_is_text_in_mistral(filler: str) -> None:
    """Mistral's YAML knows no anchors: the text is the same whether it is short or long."""
    problems = Problems()
    assert load(filler + "a: &k name\nb: &l [1]\n", problems).data == {"a": "&k name", "b": "&l [1]"}
    assert problems.listed() == ()


def test_problems_of_a_text_with_anchors_have_their_places() -> None:
    """What is found later in such a text is shown where it stands, repeated values where they are repeated."""
    problems = Problems()
    load_with_anchors("a: &k [1]\n\nb:\n  c: *k\n", problems)
    problems.add(("b", "c"), "wrong")
    assert [(each.line, each.column) for each in problems.listed()] == [(4, 3)]


@pytest.mark.parametrize("filler", ["", FILLER], ids=["python", "libyaml"])
def test_a_pair_of_surrogates_is_a_character(filler: str) -> None:
    """JSON's way to write what is beyond 16 bits means the same whether the text is JSON or not, short or long."""
    problems = Problems()
    assert load(filler + 'a: "\\ud83d\\ude00"\n', problems).data == {"a": "\N{GRINNING FACE}"}
    assert problems.listed() == ()


LONG = "x" * INLINE_LENGTH_MAX


@pytest.mark.parametrize(
    ("task", "path", "said"),
    [
        (f"t: {{on-success: 'x y={LONG}'}}", "wf.tasks.t.on-success", "longer than"),
        (f"t: {{action: 'std.echo output={LONG}'}}", "wf.tasks.t.action", "longer than"),
        (f"t: {{action: ' {LONG}'}}", "wf.tasks.t.action", "longer than"),
        ('"": {action: std.noop}', "wf.tasks.", "a task needs a name"),
        ("t: {join: 2.5}", "wf.tasks.t.join", "must be all, one or a whole number, not 2.5"),
        ("t: {join: true}", "wf.tasks.t.join", "must be all, one or a whole number, not true"),
        ("t: {join: -1}", "wf.tasks.t.join", "must be all, one or a whole number, not -1"),
        ("t: {with-items: 'i in [NaN]'}", "wf.tasks.t.with-items", "'[NaN]' is no JSON list"),
        ("t: {with-items: 'i in [1, b]'}", "wf.tasks.t.with-items", "'[1, b]' is no JSON list"),
    ],
)
def test_what_a_mistral_task_may_not_say(task: str, path: str, said: str) -> None:
    """Each is refused at its place, and nothing else is."""
    [(where, _, message)] = find_problems(task)
    assert where == path
    assert said in message


def test_a_number_of_a_join_may_have_a_point() -> None:
    """YAML reads 2.0 as a number that is whole: it is one."""
    tasks = "a: {on-success: j}\nb: {on-success: j}\nj: {join: 2.0}"
    found: Task = compile_tasks(tasks).tasks["j"]
    assert (found.join, type(found.join)) == (2, int)


def test_what_an_orquesta_task_may_not_say() -> None:
    """A parameter list without end, and a variable whose name YAML reads as a boolean."""
    [long] = find_task_problems(f"action: 'core.echo message={'x' * ORQUESTA_LENGTH_MAX}'")
    assert (long.path, long.message) == ("tasks.t.action", f"longer than {ORQUESTA_LENGTH_MAX:,} characters")
    [odd] = find_orquesta_problems("t: {action: core.noop}", vars="[{on: 1}]")
    assert (odd.path, odd.message) == ("vars[0].true", "the key is read by YAML as true, not as text")


def test_what_is_not_json_stays_text() -> None:
    """A word that only Python takes for JSON is part of a text."""
    assert read_inline("a=[NaN] b='{\"k\": NaN}'").parameters == [("a", "[NaN]"), ("b", '{"k": NaN}')]


META = "name: sail\nrunner_type: orquesta\nentry_point: workflows/sail.yaml\n"
WORKFLOW = Text("version: 1.0\ntasks: {t: {action: core.noop}}", file="sea/actions/workflows/sail.yaml")


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        (META, "sea.sail"),
        (META + "# " + "x" * 64 * 1024, ""),
        (META.replace("runner_type: ", "runner_typo: "), ""),
        (META.replace("orquesta", "python-script"), ""),
        (META.replace("name: sail", "name: 5"), ""),
        (META.replace("name: sail", "name: ''"), ""),
        (META.replace("entry_point: workflows/sail.yaml", "entry_point: ''"), ""),
        (META.replace("entry_point: workflows/sail.yaml", "entry_point: [a]"), ""),
        (META.replace("workflows/sail.yaml", "workflows/other.yaml"), ""),
        (META + "runner_type: [", ""),
        (META + "- runner_type: a", ""),
        ("- a\n- |\n runner_type:\nrunner_type: x", ""),
    ],
)
def test_only_metadata_of_a_workflow_names_one(metadata: str, name: str) -> None:
    """A file that is too long, unreadable, of another runner, or without a name or an entry point names nothing."""
    _, workflow = name_by_metadata([Text(metadata, file="sea/actions/sail.yaml"), WORKFLOW])
    assert workflow.name == name


def test_findings_count_what_they_do_not_list() -> None:
    """All of them while there is room; then the first ones, and as the last how many more there are."""
    found = ProblemList("problems")
    assert found.counted == []
    one = Problem("a", 1, 2, "wrong", file="f")
    found.add([one], 0)
    assert found.counted == [one]
    found.add([one] * PROBLEMS_MAX, 2)
    assert len(found.listed) == PROBLEMS_MAX
    assert (found.counted[-1].message, found.counted[-1].file) == ("and 3 further problems", "f")
    assert len(found.counted) == PROBLEMS_MAX + 1


@pytest.mark.parametrize(
    "policy", [each.name for each in fields(Policies) if each.name != "limit_s"]
)  # which belongs to standalone actions
def test_each_policy_of_a_task_wins_over_its_default(policy: str) -> None:
    """A policy comes from the task, and from the defaults where the task, which has others, does not say it."""
    one, two = Constant(1), Constant(2)
    own, defaults, other = Policies(), Policies(), Policies()
    object.__setattr__(own, policy, one)
    object.__setattr__(defaults, policy, two)
    assert getattr(merge_policies(own, defaults), policy) is one
    assert getattr(merge_policies(other, defaults), policy) is two
    assert getattr(merge_policies(own, other), policy) is one
    assert getattr(merge_policies(other, other), policy) is None


@pytest.mark.parametrize(("command", "is_split"), [("a: fail\nb: noop", False), ("a: fail\nb: fail", True)])
def test_several_ways_to_an_engine_command_are_split(command: str, is_split: bool) -> None:
    """Each of several transitions to the same command opens a route of its own, as those to a task do."""
    tasks = "".join(
        f"  {name}: {{action: core.noop, next: [{{do: {target}}}]}}\n"
        for name, _, target in (line.partition(": ") for line in command.splitlines())
    )
    workflow = read(f"version: 1.0\nname: wf\ntasks:\n{tasks}").members[0].workflow
    assert workflow is not None
    assert [task.branches[0].next[0].is_split for task in workflow.tasks.values()] == [is_split] * 2


def test_a_retry_of_one_word_lacks_its_parameters() -> None:
    """The word is not said to be passed over besides: what is missing says it all."""
    document = read_tasks("t: {action: std.noop, retry: soon}")
    assert {each.message for each in document.problems} == {"`count` is missing", "`delay` is missing"}
    assert document.warnings == ()


@pytest.mark.parametrize(("length", "hinted"), [(79, True), (80, False)])
def test_a_call_that_is_short_is_written_out_in_the_hint(length: int, hinted: bool) -> None:
    """What can be read in two ways is told how to be written, unless it is too long for a hint."""
    call = f"fail(msg='{'x' * (length - 12)}')"
    assert len(call) == length
    [problem] = read_tasks(f't: {{on-success: "{call}"}}').problems
    assert problem.hint.startswith("write `fail msg=") == hinted


@pytest.mark.parametrize(
    ("part", "wanted"),
    [("input", "must be a name or a mapping with exactly one key"), ("vars", "must be a mapping with exactly one key")],
)
def test_what_an_item_of_a_list_of_names_may_be(part: str, wanted: str) -> None:
    """Inputs may be names alone, variables have values: each says what it takes."""
    [problem] = find_orquesta_problems("t: {action: core.noop}", **{part: "[5]"})
    assert (problem.path, problem.message) == (f"{part}[0]", f"{wanted}, not 5")
    [problem] = find_orquesta_problems("t: {action: core.noop}", **{part: "5"})
    assert problem.path == part
    assert ("names and of mappings" in problem.message) == ("a name" in wanted)


def test_a_word_that_is_too_long_is_not_guessed_at() -> None:
    """Up to 100 characters the nearest known word is named; longer words are not compared."""
    assert Guess().hint("x" * 100, ["x" * 99]) == f"did you mean `{'x' * 99}`?"
    assert Guess().hint("x" * 101, ["x" * 99]) == ""


def test_a_problem_that_is_listed_already_is_not_counted_again() -> None:
    """Also when as many are listed as may be: only what is not listed is counted as left off."""
    problems = Problems()
    for number in range(PROBLEMS_MAX):
        problems.add((str(number),), "is odd")
        problems.warn((str(number),), "is odd")
    problems.add(("0",), "is odd")
    problems.warn(("0",), "is odd")
    assert (len(problems), problems.left_off) == (PROBLEMS_MAX, (0, 0))
    problems.add(("more",), "is odd")
    problems.add(("more",), "is odd, too")
    problems.warn(("more",), "is odd")
    assert (len(problems), problems.left_off) == (PROBLEMS_MAX + 2, (2, 1))
    assert problems.listed()[-1].message == "and 2 further problems"


def test_defaults_may_fill_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many transitions as are allowed are read; with one task more there are too many, and none of them is read."""
    monkeypatch.setattr("dalsegno.definitions.mistral.compile.TRANSITIONS_MAX", 6)
    body = "t: {action: std.noop}\nu: {action: std.noop}\nv: {action: std.noop}"
    tasks = compile_tasks(body, task_defaults="on-success: [u, v]").tasks
    assert [len(tasks[name].on_success.next) for name in "tuv"] == [2, 1, 1]
    (problem,) = find_problems(f"{body}\nw: {{action: std.noop}}", task_defaults="on-success: [u, v]")
    assert problem[0] == "wf.task-defaults"


@pytest.mark.parametrize("items", ["<%%>", "{{}}", "<% %>"])
def test_items_of_an_empty_expression_are_a_problem_of_the_expression(items: str) -> None:
    """The form is right, and nothing is in it."""
    (problem,) = find_task_problems(f"action: core.noop\nwith: '{items}'")
    assert "is not of the form" not in problem.message
    (problem,) = find_task_problems("action: core.noop\nwith: '<%>'")
    assert "is not of the form" in problem.message


def test_a_malformed_assignment_still_references_variables() -> None:
    """An item that is no assignment is one problem, and each variable that it references too early is another."""
    problems = find_orquesta_problems("t: {action: core.noop}", vars="[{a: 1, b: <% ctx(n) %>}]")
    assert [problem.path for problem in problems] == ["vars[0]", "vars[0].b"]


@pytest.mark.parametrize(("value", "hint"), [("1.5", "put it in quotes"), ("[a]", "checkpoint: installed")])
def test_the_hint_for_a_checkpoint_without_a_name(value: str, hint: str) -> None:
    """What YAML reads as a number is put in quotes; what is no text at all gets an example."""
    problems = find_orquesta_problems(f"t: {{action: core.noop, checkpoint: {value}}}")
    assert [(problem.path, problem.hint) for problem in problems] == [("tasks.t.checkpoint", hint)]
