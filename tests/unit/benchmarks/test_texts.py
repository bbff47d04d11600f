"""What the benchmarks run: definitions of the size that they say, without problems, the same in both languages."""

from __future__ import annotations

import pytest
from tests.benchmarks.definitions import CONVERGING_TASKS, LAYERS, measure_publishing_core
from tests.benchmarks.operations import timed
from tests.benchmarks.texts import (
    LANGUAGES,
    Language,
    orquesta_converging_text,
    orquesta_layers_text,
    signed_chain,
)
from tests.benchmarks.workloads import Spent
from tests.world import Played, World, described

from dalsegno.definitions.document import read
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.states import ExecutionState

EVERY = pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))


def _compiled(language: Language, text: str) -> Workflow:
    document = read(text, name=language.document_name("measured"))
    assert not document.problems
    (member,) = document.members
    assert member.workflow is not None
    return member.workflow


@EVERY
@pytest.mark.parametrize("kind", ["chain", "publishing_chain", "waiting_chain"])
def test_chains_have_their_tasks(language: Language, kind: str) -> None:
    """A chain is one workflow of the asked name with as many tasks; one that waits has another at its end."""
    workflow = _compiled(language, getattr(language, kind)("measured", 7))

    assert (workflow.name, len(workflow.tasks)) == ("measured", 8 if kind == "waiting_chain" else 7)
    assert workflow.starts == ("task_0",)


@EVERY
@pytest.mark.parametrize(("tasks", "place"), [(7, 0), (20, 13)])
def test_a_chain_has_its_checkpoint_so_many_tasks_before_its_end(language: Language, tasks: int, place: int) -> None:
    """One checkpoint stands before the task behind which the span lies, the other one behind the last task."""
    workflow = _compiled(language, signed_chain(language, "measured", tasks, 7))

    signed = {name: task.checkpoint.name for name, task in workflow.tasks.items() if task.checkpoint is not None}
    assert signed == {f"task_{place}": "sign", f"task_{tasks - 1}": "end"}


@EVERY
def test_a_reversible_fan_out_can_be_undone(language: Language) -> None:
    """Its items have a revert action, and its join has none."""
    workflow = _compiled(language, language.reversible_fan_out)

    assert [name for name, task in workflow.tasks.items() if task.revert is not None] == ["each"]


def test_every_task_publishes_and_every_layer_leads_to_the_next() -> None:
    """The shapes that make counting of routes explode have the tasks that they are told to have, and no join."""
    layers, width = LAYERS
    shapes = {layers * width: orquesta_layers_text(layers, width), CONVERGING_TASKS + 1: orquesta_converging_text(200)}
    for tasks, text in shapes.items():
        workflow = _compiled(LANGUAGES["orquesta"], text)
        assert len(workflow.tasks) == tasks
        assert not any(task.has_join for task in workflow.tasks.values())


@EVERY
def test_a_fan_out_runs_each_item_and_joins(language: Language) -> None:
    """The fan-out has as many attempts as items were asked for, and one task after them, and succeeds."""
    world = World()
    world.actions |= {"core.echo": described("core.echo", "message"), "core.noop": described("core.noop")}
    world.player = lambda execution, attempt: _echoed(attempt.action)
    world.define(language.fan_out, name=language.document_name("fan_out"))

    execution = world.start("fan_out", {"count": 12})
    world.run()

    assert execution.state is ExecutionState.SUCCESS
    assert [(task.name, task.progress.item_count) for task in execution.tasks.values()] == [
        ("each", 12),
        ("together", None),
    ]


def _echoed(action: str) -> Played:
    return Played(result={"stdout": action})


@EVERY
def test_a_publishing_chain_runs_in_the_core(language: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first tasks and its last are told apart, a line each, with what one of them cost the processor."""
    monkeypatch.setattr("tests.benchmarks.definitions.PUBLISHING_TASKS", 30)
    monkeypatch.setattr("tests.benchmarks.definitions.PARTS", (("first", slice(0, 10)), ("last", slice(-10, None))))

    first, last = measure_publishing_core(language)

    assert "first" in first.workload
    assert "last" in last.workload
    assert all(result.cpu_us_per_task and language.suffix in result.workload for result in (first, last))


def test_a_timed_block_is_one_more_time() -> None:
    """Each block adds its own time, so that medians are of single operations."""
    spent = Spent()
    for _ in range(3):
        with timed(spent):
            pass

    assert len(spent.times_s) == 3
    assert all(time_s >= 0 for time_s in spent.times_s)
