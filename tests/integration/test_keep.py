"""Kept history over the running services: by count, by age, with other checkpoints beside (C19 to C24, C32)."""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("keep")]
both = pytest.mark.parametrize("language", LANGUAGES)

KEEPS = {"keeps": "{count: 2}", "keeps_young": "{age: 1}", "keeps_either": "{count: 3, age: 1}", "keeps_all": ""}
"""Workflows that go round until a count is 0: in each round a sub-workflow with the checkpoint `turned`, which keeps so
much, then an action with the checkpoint `noted`, which keeps nothing and discards nothing."""

MISTRAL = """
mistral_{name}:
  input: [count]
  vars: {{turned: []}}
  output: {{first: <% task(begin).result %>, noted: <% task(note).result %>, turned: <% $.turned %>}}
  tasks:
    begin: {{action: test.act give="first", publish: {{first: <% task().result %>}}, on-success: [turn]}}
    turn: {{workflow: mistral_called, publish: {{turned: <% $.turned.append($.count) %>}},
           checkpoint: {{name: turned, when: after, data: {{round: <% $.count %>}}{keep}}}, on-success: [note]}}
    note: {{action: test.act give=<% $.count %>, publish: {{count: <% $.count - 1 %>}},
           checkpoint: {{name: noted, data: {{round: <% task().result %>}}}}, on-success: [turn: <% $.count > 0 %>]}}
"""
ORQUESTA = """
version: 1.0
name: orquesta_{name}
input: [count]
vars: [{{turned: []}}]
output: [{{first: <% ctx(first) %>}}, {{noted: <% ctx(noted) %>}}, {{turned: <% ctx(turned) %>}}]
tasks:
  begin: {{action: test.act give="first", next: [{{publish: [{{first: <% result() %>}}], do: turn}}]}}
  turn: {{action: orquesta_called, checkpoint: {{name: turned, when: after, data: {{round: <% ctx(count) %>}}{keep}}},
         next: [{{publish: [{{turned: <% ctx(turned).append(ctx(count)) %>}}], do: note}}]}}
  note:
    action: test.act give=<% ctx(count) %>
    checkpoint: {{name: noted, data: {{round: <% result() %>}}}}
    next:
      - when: <% ctx(count) > 1 %>
        publish: [{{noted: <% result() %>}}, {{count: <% ctx(count) - 1 %>}}]
        do: turn
      - when: <% ctx(count) <= 1 %>
        publish: [{{noted: <% result() %>}}]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _definitions(shared_stage: Stage) -> None:
    """Store the workflows of this file."""
    keeps = {name: f", keep: {keep}" if keep else "" for name, keep in KEEPS.items()}
    await shared_stage.system.define(
        "version: '2.0'" + "".join(MISTRAL.format(name=name, keep=keep) for name, keep in keeps.items())
    )
    for name, keep in keeps.items():
        await shared_stage.system.define(ORQUESTA.format(name=name, keep=keep))


async def entries(stage: Stage, scene: Scene) -> list[tuple[str, int, int]]:
    """Name, round and sequence of every entry that there is, the oldest first; `start` has the round 0."""
    request = messages.ListCheckpointsRequest(execution_id=scene.id)
    found = (await stage.system.executions.ListCheckpoints(request)).entries
    rounds = [json.loads(each.data)["round"] if each.data else 0 for each in found]
    return [(each.name, number, each.sequence) for each, number in zip(found, rounds, strict=True)][::-1]


async def names(stage: Stage, scene: Scene) -> list[str]:
    """The entries as `turned 3`, the oldest first."""
    return [f"{name} {number}" for name, number, _ in await entries(stage, scene)]


async def children(stage: Stage, scene: Scene) -> list[execution_pb2.Execution]:
    request = messages.ListExecutionsRequest(filter=f"parent={scene.id}")
    return list((await stage.system.executions.ListExecutions(request)).executions)


@both
async def test_the_last_entries_of_a_checkpoint_are_kept_by_count(stage: Stage, language: str) -> None:
    """C20, C22, C24: when `turned` is reached, its 2 newest entries stay and what came before goes, entries of another
    name and the beginning too; `noted`, which has no `keep`, discards nothing."""
    scene = await stage.open("keeps", language, {"count": 5}, held={"note"})
    seen = []
    for _ in range(5):
        await stage.has(scene, "note")
        seen.append(await names(stage, scene))
        await stage.release(scene, "note")
    await stage.rests(scene)
    seen.append(await names(stage, scene))
    assert seen == [
        ["turned 5"],
        ["turned 5", "noted 5", "turned 4"],
        ["turned 4", "noted 4", "turned 3"],
        ["turned 3", "noted 3", "turned 2"],
        ["turned 2", "noted 2", "turned 1"],
        ["turned 2", "noted 2", "turned 1", "noted 1"],
    ]


@both
async def test_what_is_left_is_what_belongs_to_the_kept_entries(stage: Stage, language: str) -> None:
    """C19, C20: tasks, actions, sub-workflows and changes before the oldest entry are gone but the newest of each name;
    the journal begins with the state there, and each number is used once."""
    scene = await stage.open("keeps", language, {"count": 6})
    execution = await stage.rests(scene)
    (oldest, *_, newest) = await entries(stage, scene)
    journal = await stage.system.journal(scene.id)
    tasks = await stage.system.tasks(scene.id)
    attempts = await stage.system.attempts(scene.id)
    assert (oldest[:2], newest[:2]) == (("turned", 2), ("noted", 1))
    assert (journal[0].WhichOneof("kind"), journal[0].sequence) == ("consolidated", oldest[2])
    assert journal[0].consolidated.entry == execution_pb2.CheckpointReference(name="turned", sequence=oldest[2])
    assert [each.sequence for each in journal] == list(range(oldest[2], execution.revision + 1))
    assert execution.first_sequence == oldest[2]
    assert [(each.number, each.name) for each in tasks if each.name != "note"] == [
        (1, "begin"),
        (10, "turn"),
        (12, "turn"),
    ]
    notes = [each.number for each in tasks if each.name == "note"]
    assert notes[-2:] == [11, 13]
    assert set(notes) <= {9, 11, 13}, "the newest note at the entry is that of the round before"
    assert {each.task_number for each in attempts} <= {each.number for each in tasks}
    left = await children(stage, scene)
    assert {each.parent_task_number for each in left} == {10, 12}
    called = await stage.system.executions.ListExecutions(
        messages.ListExecutionsRequest(filter=f"namespace={scene.namespace}")
    )
    assert len(called.executions) == 1 + len(left), "a sub-workflow of a task that is gone"


@both
async def test_young_entries_are_kept(stage: Stage, language: str) -> None:
    """C23: entries of `turned` that are older than a second go when it is reached again, with those of `noted`."""
    scene = await stage.open("keeps_young", language, {"count": 3}, held={"note"})
    await stage.has(scene, "note")
    await asyncio.sleep(1.1)
    await stage.release(scene, "note")
    await stage.has(scene, "note")
    assert await names(stage, scene) == ["turned 2"]
    await stage.release(scene, "note")
    await stage.has(scene, "note")
    found = await entries(stage, scene)
    assert [each[:2] for each in found] in ([("turned", 2), ("noted", 2), ("turned", 1)], [("turned", 1)])
    await stage.release(scene, "note")
    await stage.rests(scene)


@both
async def test_with_count_and_age_what_either_keeps_is_kept(stage: Stage, language: str) -> None:
    """C22, C23: entries older than a second stay while they are among the 3 newest; a fourth one goes."""
    scene = await stage.open("keeps_either", language, {"count": 4}, held={"note"})
    for _ in range(3):
        await stage.has(scene, "note")
        await asyncio.sleep(1.1)
        await stage.release(scene, "note")
    await stage.has(scene, "note")
    assert await names(stage, scene) == ["turned 3", "noted 3", "turned 2", "noted 2", "turned 1"]
    await stage.release(scene, "note")
    await stage.rests(scene)


@both
async def test_it_ends_as_without(stage: Stage, language: str) -> None:
    """C32: variables, and the results of tasks that are discarded, are there for what comes later: the output is that
    of the same workflow without `keep`."""
    outputs = []
    for workflow in ("keeps_all", "keeps", "keeps_young", "keeps_either"):
        scene = await stage.open(workflow, language, {"count": 7})
        execution = await stage.rests(scene)
        outputs.append(json.loads(execution.output))
    assert outputs == [{"first": "first", "noted": 1, "turned": [7, 6, 5, 4, 3, 2, 1]}] * 4


@both
async def test_what_is_left_can_be_gone_back_to_and_run_again(stage: Stage, language: str) -> None:
    """C5, C31: an entry that is kept is gone back to, and the execution goes on from there to the same end; what is
    gone is refused by name, and nothing is changed."""
    scene = await stage.open("keeps", language, {"count": 5})
    output = (await stage.rests(scene)).output
    found = await entries(stage, scene)
    async with stage.unchanged(scene):
        for gone in (stage.go_to(scene.id, "start"), stage.go_to(scene.id, sequence=found[0][2] - 1)):
            assert (await stage.refuses(gone)).reason == "HISTORY_DISCARDED"
        refused = await stage.refuses(stage.rerun(scene.id, "begin"))
        assert refused.reason == "HISTORY_DISCARDED"
        assert [each.subject for each in refused.violations] == ["task begin"]
    answer = await stage.go_to(scene.id, sequence=found[0][2], then=messages.ON_ARRIVAL_RESUME)
    assert state_of(answer.execution) == "REVERTING"
    assert (await stage.rests(scene)).output == output
    assert (await names(stage, scene))[-2:] == ["turned 1", "noted 1"]
