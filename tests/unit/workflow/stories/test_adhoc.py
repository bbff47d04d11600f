"""Stories of the core: ad-hoc actions, each based on another one, down to one that executors run."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run

from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.running.adhoc import CHAIN_MAX


def chain(length: int, base: str = "std.echo") -> str:
    """So many actions `a0`, `a1` ..., the last of which is based on that one; each puts its output into a list."""
    lines = ["version: '2.0'"]
    for number in range(length):
        is_last = number + 1 == length
        lines += [
            f"a{number}:",
            f"  base: {base if is_last else f'a{number + 1}'}",
            f"  base-input: {{{'output' if is_last else 'x'}: <% $.x %>}}",
            "  input: [x]",
            "  output: [<% $ %>]",
        ]
    return "\n".join(lines)


def stage(action: str, *others: str, **start: object) -> Stage:
    """An execution with one task that runs this action."""
    return Stage(f"version: '2.0'\nwf:\n  tasks:\n    t: {{action: {action}}}\n", others=others, **start)


@pytest.mark.parametrize("length", [1, 3, CHAIN_MAX])
def test_a_chain_ends_at_the_action_that_executors_run(length: int) -> None:
    """The input passes all the way down, and the result through each output up again."""
    here = stage("a0 x=1", chain(length))
    (attempt,) = here.attempts("t")
    assert (attempt.action, attempt.input.data) == ("std.echo", {"output": 1})
    here.end("t", "done")
    found = here.attempts("t")[0].result
    assert found is not None
    nested: object = found.data
    for _ in range(length):
        assert isinstance(nested, list)
        (nested,) = nested
    assert nested == "done"
    assert here.execution.state == "SUCCESS"
    here.check()


@pytest.mark.parametrize(
    ("action", "others", "info"),
    [
        ("a0 x=1", chain(CHAIN_MAX + 1), "ad-hoc action 'a0' never comes to an action that executors run"),
        ("a0 x=1", chain(2, base="no.such"), "ad-hoc action 'a0' is based on 'no.such', which is not known"),
        ("no.such x=1", chain(1), "action 'no.such' is not known"),
        ("a0", chain(1), "action 'a0' has the wrong input: missing x"),
        ("a0 x=1 y=2 z=3", chain(1), "action 'a0' has the wrong input: unexpected y, z"),
        ("a0 y=1", chain(1), "action 'a0' has the wrong input: unexpected y; missing x"),
        ("a0 x=1", chain(1, base="std.fail"), "action 'std.fail' has the wrong input: unexpected output"),
    ],
)
def test_a_chain_that_cannot_run_fails_its_task(action: str, others: str, info: str) -> None:
    """The task says what is wrong and with which action; nothing is handed to an executor."""
    here = stage(action, others)
    assert (str(here.execution.state), here.standing()["t"]) == ("ERROR", "ERROR")
    assert here.task("t").info.startswith(info)
    assert [one.state for one in here.attempts("t") if one.state == "RUNNING"] == []


def test_the_environment_completes_an_input_and_replaces_nothing() -> None:
    """`__actions` gives what a call leaves open, also of what is required; the call's own values stay."""
    environment = {"__actions": {"a0": {"x": 7}}}
    for action, given in (("a0", 7), ("a0 x=1", 1)):
        here = stage(action, chain(1), environment=environment)
        assert here.attempts("t")[0].input.data == {"output": given}


@pytest.mark.parametrize(
    ("given", "environment", "faults"),
    [
        ({}, {}, ["is missing: action 'a0' needs it"]),
        ({"x": 1, "y": 2}, {}, ["is not a parameter of action 'a0'"]),
        ({}, {"__actions": {"a0": {"x": 7}}}, []),
        ({"x": 2}, {}, []),
    ],
)
def test_the_input_of_a_rerun_fits_the_action(given: object, environment: object, faults: list[str]) -> None:
    """What it lacks, and the environment does not give either, or has beyond the parameters is refused at its place."""
    here = stage("a0 x=1", chain(1), environment=environment)
    here.end("t", error="broken")
    if faults:
        with pytest.raises(InvalidRequest) as refused:
            here.rerun(run("t", input=given))
        assert [each.description for each in refused.value.violations] == faults
    else:
        here.rerun(run("t", input=given))
        assert here.standing()["t"] == "RUNNING"


def test_a_declared_default_stands_in_all_along_the_chain() -> None:
    """What a call leaves open is the default of the ad-hoc action that declares it, the first or a later one."""
    for text in (
        "version: '2.0'\na0:\n  base: std.echo\n  base-input: {output: <% $.x %>}\n  input: [x: 5]\n",
        "version: '2.0'\na0: {base: a1}\na1:\n  base: std.echo\n  base-input: {output: <% $.x %>}\n  input: [x: 5]\n",
    ):
        assert stage("a0", text).attempts("t")[0].input.data == {"output": 5}
