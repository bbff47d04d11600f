"""The shape of a workflow: targets, starts, joins; and that no shape takes long."""

from __future__ import annotations

import sys
import time

import pytest
from tests.unit.definitions.orquesta.texts import find_places, find_problems

from dalsegno.definitions.document import read


def shape(arrows: str, joins: str = "") -> str:
    """Tasks out of `a>b,c b>d`, those in `joins` waiting for all."""
    targets: dict[str, str] = {}
    for arrow in arrows.split():
        source, _, names = arrow.partition(">")
        targets[source] = names
        for name in names.split(","):
            targets.setdefault(name, "")
    lines = []
    for name, names in targets.items():
        following = f", next: [{{do: '{names}'}}]" if names else ""
        join = ", join: all" if name in joins.split() else ""
        lines.append(f"{name}: {{action: core.noop{join}{following}}}")
    return "\n".join(line for line in lines if not line.startswith(("noop", "fail")))


@pytest.mark.parametrize(
    ("arrows", "joins"),
    [
        ("a>b,c b>j c>j", "j"),
        ("a>s b>s s>c,d c>j d>j", "j"),
        ("a>b b>c c>b,d", ""),
        ("a>j j>b b>j", "j"),
        ("a>b,c b>s c>s s>t t>u u>t", ""),
        ("a>b b>noop", ""),
        ("a>b,c b>j c>j j>s a2>s s>k", "j"),
    ],
)
def test_shapes_that_run(arrows: str, joins: str) -> None:
    """Forks, joins, splits and cycles in whatever order are accepted as long as each join can be reached."""
    assert find_problems(shape(arrows, joins)) == ()


@pytest.mark.parametrize(
    ("arrows", "joins", "unreachable"),
    [
        ("a>s,j b>s s>j", "j", ["j"]),
        ("a>s b>s,j s>c c>d d>j", "j", ["j"]),
        ("a>s b>s c>t d>t s>j t>j", "j", ["j"]),
        ("a>s b>s s>c,j,k c>j a2>k", "j k", ["k"]),
    ],
)
def test_unreachable_joins(arrows: str, joins: str, unreachable: list[str]) -> None:
    """A join whose branches have parted at different splits would wait for ever, and says so."""
    assert find_places(shape(arrows, joins)) == [("semantic", f"tasks.{name}") for name in unreachable]


def test_a_join_tells_which_branch_is_odd() -> None:
    """The problem names the branch that is on another route and the split that it has not passed."""
    (problem,) = find_problems(shape("a>s,j b>s s>j", "j"))
    assert "`a` leads to it, but not through `s`" in problem.message


@pytest.mark.parametrize("arrows", ["a>a", "a>b b>a"])
def test_no_start(arrows: str) -> None:
    """A pure cycle has nothing to start with."""
    assert find_places(shape(arrows)) == [("semantic", "tasks")]


@pytest.mark.parametrize("name", ["noop", "fail", "continue", "retry"])
def test_reserved_names(name: str) -> None:
    """No task may have the name of an engine command."""
    assert find_places(f"{name}: {{action: core.noop}}") == [("semantic", f"tasks.{name}")]


def test_names_of_tasks() -> None:
    """A task's name has letters, digits and underscores."""
    assert find_places("a-b: {action: core.noop}") == [("syntax", "tasks.a-b")]
    assert find_places("äb_1: {action: core.noop}") == []


@pytest.mark.parametrize(
    ("do", "path"), [("missing", "do"), ("'t2,  missing'", "do"), ("[t2, missing]", "do[1]"), ("'t2,'", "do")]
)
def test_missing_targets(do: str, path: str) -> None:
    """Each target that does not exist is found in every form of `do`."""
    places = find_places(f"t: {{action: core.noop, next: [{{do: {do}}}]}}\nt2: {{action: core.noop}}")
    assert places == [("semantic", f"tasks.t.next[0].{path}")]


def test_with_without_action() -> None:
    """Items need something that is done with them; a task without action is fine otherwise."""
    assert find_places("t: {with: '<% list(1) %>'}") == [("semantic", "tasks.t")]
    assert find_places("t: {next: [{do: noop}]}") == []


def converging(size: int) -> str:
    """Every task leads to all that come after it, and none is a join."""
    lines = ["version: 1.0", "input: [x]", "tasks:"]
    for number in range(size):
        following = ", ".join(f"t{later}" for later in range(number + 1, size))
        do = f"do: [{following}]" if following else "do: noop"
        lines.append(f"  t{number}: {{action: core.echo m=<% ctx(x) %>, next: [{{publish: [v{number}: 1], {do}}}]}}")
    return "\n".join(lines)


def layered(depth: int) -> str:
    """Two tasks in each layer, both leading to both of the next: 2 to the power of `depth` routes, contexts alike."""
    lines = ["version: 1.0", "tasks:"]
    for layer in range(depth):
        do = f"'a{layer + 1}, b{layer + 1}'" if layer + 1 < depth else "noop"
        lines += [f"  {side}{layer}: {{next: [{{publish: [{side}{layer}: 1], do: {do}}}]}}" for side in "ab"]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [converging(200), layered(100)], ids=["converging", "layered"])
def test_routes_do_not_cost(text: str) -> None:
    """200 tasks that all converge without a join are inspected in under a second, however many routes there are."""
    read(text)  # The first reading makes the parsers.
    begin_s = time.process_time()
    assert read(text).problems == ()
    assert time.process_time() - begin_s < 1


def chain(size: int, name: str) -> str:
    """Tasks one after the other, each with expressions of its own."""
    lines = ["version: 1.0", "tasks:"]
    for number in range(size):
        do = f"{name}{number + 1}" if number + 1 < size else "noop"
        when = f"<% succeeded() and '{name}' != '{number}' %>"
        lines.append(f"  {name}{number}: {{next: [{{when: {when}, publish: [{name}v{number}: 1], do: {do}}}]}}")
    return "\n".join(lines)


def count_calls(text: str) -> int:
    """How many functions are called while a text is read, inspected and compiled."""
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        document = read(text)
    finally:
        sys.setprofile(None)
    assert document.problems == ()
    return count


@pytest.mark.long("counts the calls of thousands of tasks")
def test_work_grows_with_the_text() -> None:
    """Four times the tasks is four times the work, give or take a tenth, from the text to the compiled workflow."""
    read(chain(10, "first"))
    assert count_calls(chain(1600, "long")) < 4.4 * count_calls(chain(400, "short"))


@pytest.mark.long("counts the calls of thousands of tasks")
def test_work_does_not_grow_with_the_routes() -> None:
    """Twice the layers, the square of the routes, is twice the work; the ways between 200 tasks cost their number."""
    read(layered(5))
    assert count_calls(layered(100)) < 2.2 * count_calls(layered(50))
    assert count_calls(converging(200)) < 200 * 199 / 2 * 60


@pytest.mark.long("thousands of tasks")
def test_a_long_chain() -> None:
    """Thousands of tasks one after the other neither recurse nor take time that grows with their square."""
    tasks = "\n".join(f"t{n}: {{next: [{{publish: [v{n}: 1], do: t{n + 1}}}]}}" for n in range(5000))
    begin_s = time.process_time()
    assert find_problems(f"{tasks}\nt5000: {{action: core.noop}}", output="[last: <% ctx(v4999) %>]") == ()
    assert time.process_time() - begin_s < 10
