"""ListCheckpoints and GoToCheckpoint over the wire, without anything that runs actions: executions stand where they are
told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.api.conftest import Front

from dalsegno.api import checkpoints, executions
from dalsegno.definitions.reading import SHORT_CHARACTERS
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = pytest.mark.asyncio

PHASES = """
version: '2.0'
{name}:
  description: {description}
  tasks:
    first: {{action: std.noop, checkpoint: {{name: begin, when: before}}, on-success: [second]}}
    second: {{action: std.noop, checkpoint: {{name: half way, when: before, data: {{n: 1}}}}, on-success: [third]}}
    third: {{action: std.noop, checkpoint: end}}
"""


async def listed(front: Front, execution_id: str, **more: Any) -> messages.ListCheckpointsResponse:
    request = messages.ListCheckpointsRequest(execution_id=execution_id, **more)
    answer: messages.ListCheckpointsResponse = await front.executions.ListCheckpoints(request)
    return answer


async def stand_at_begin(front: Front, name: str = "phases", description: str = "short") -> str:
    """An execution that has stopped at its first checkpoint."""
    await front.define(PHASES.format(name=name, description=description))
    started = await front.start(name, stop_at=["begin"])
    assert started.paused_at.name == "begin"
    return str(started.id)


async def test_the_names_that_are_ahead(front: Front) -> None:
    """Besides its entries an execution is told which checkpoints it can still come to, in the order of the definition
    (C14)."""
    execution_id = await stand_at_begin(front)
    answer = await listed(front, execution_id)
    assert [each.name for each in answer.entries] == ["begin", "start"]
    assert [each.reachable for each in answer.entries] == [False, False]
    assert (list(answer.ahead), answer.further_ahead) == (["half way", "end"], 0)


async def test_a_long_definition_is_read_in_another_process(front: Front) -> None:
    """The list of a workflow of any length is answered, and other calls are not delayed by it."""
    execution_id = await stand_at_begin(front, "long", "x" * SHORT_CHARACTERS)
    assert list((await listed(front, execution_id)).ahead) == ["half way", "end"]


async def test_few_compiled_workflows_are_kept(front: Front) -> None:
    """Lists of many workflows do not fill the memory, and stay right."""
    ids = [await stand_at_begin(front, f"phases_{number}") for number in range(checkpoints.KEPT + 2)]
    for execution_id in (*ids, *ids):
        assert list((await listed(front, execution_id)).ahead) == ["half way", "end"]


async def test_a_list_of_too_many_names_is_cut_and_counted(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that are ahead have a place of bounded size; how many more there are is said."""
    monkeypatch.setattr(checkpoints, "AHEAD_BYTES_MAX", 20)
    execution_id = await stand_at_begin(front)
    answer = await listed(front, execution_id)
    assert (list(answer.ahead), answer.further_ahead) == (["half way"], 1)


async def test_an_execution_that_has_ended_has_nothing_ahead(front: Front) -> None:
    """What has ended does not go on by itself."""
    execution_id = await stand_at_begin(front)
    await front.executions.CancelExecution(messages.CancelExecutionRequest(execution_id=execution_id))
    assert list((await listed(front, execution_id)).ahead) == []


LARGE_DATA = """
version: '2.0'
large:
  input: [word]
  tasks:
    only: {action: std.noop, checkpoint: {name: large, when: before, data: {a: <% $.word %>, b: <% $.word %>}}}
"""


async def test_data_as_large_as_a_value_may_be_is_listed_alone(front: Front) -> None:
    """The data of an entry has the limit of a value: up to that a list shows it, in a page of its own."""
    await front.define(LARGE_DATA)
    started = await front.start("large", input=json.dumps({"word": "x" * 1_990_000}), stop_at=["large"])
    assert started.paused_at.name == "large"
    page = await listed(front, started.id)
    assert [each.name for each in page.entries] == ["large"]
    assert len(page.entries[0].data) > 3_980_000
    rest = await listed(front, started.id, page_token=page.next_page_token)
    assert [each.name for each in rest.entries] == ["start"]


async def test_data_that_is_larger_than_a_value_fails_the_execution(front: Front) -> None:
    """Twice 2,100,000 bytes are more than a value may have: the execution ends, and says why."""
    await front.define(LARGE_DATA)
    started = await front.start("large", input=json.dumps({"word": "x" * 2_100_000}))
    assert started.state == execution_pb2.EXECUTION_STATE_ERROR
    assert "4,000,000" in started.state_info
    assert [each.name for each in (await listed(front, started.id)).entries] == ["start"]


async def test_forks_beyond_the_first_hundred_are_counted(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """An execution names its newest forks and says how many more there are; lists name none."""
    monkeypatch.setattr(executions, "FORKS_MAX", 2)
    execution_id = await stand_at_begin(front)
    made = []
    for _ in range(3):
        request = messages.RerunExecutionRequest(
            execution_id=execution_id, start_from=operation_pb2.RERUN_FROM_CHECKPOINT, checkpoint="begin", stay=True
        )
        made.append((await front.executions.RerunExecution(request)).execution.id)
    read = await front.get(execution_id)
    assert (list(read.forks), read.further_forks) == ([made[2], made[1]], 1)
    listed = await front.executions.ListExecutions(messages.ListExecutionsRequest(filter=f"forked_from={execution_id}"))
    assert [each.id for each in listed.executions] == made[::-1]
    assert not any(each.forks for each in listed.executions)
