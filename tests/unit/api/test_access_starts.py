"""The limit of starts of each caller, over the wire."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.unit.api.guarded import Guarded, add_token, guarded_system
from tests.unit.api.test_access import start_one

from dalsegno.api.settings import read_settings
from dalsegno.rpc import caller_limits
from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2 as operations

START = executions.StartExecutionRequest(namespace="team-a", workflow="one")
RUN = actions.RunActionRequest(namespace="team-a", action="std.noop")


@pytest_asyncio.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    """Provide a system whose callers start two things a minute, which is an hour here, so that none comes back."""
    monkeypatch.setattr(caller_limits, "MINUTE_S", 3600.0)
    async with guarded_system(tmp_path, is_started=False) as started:
        await started.start_engine()
        await started.start_api(token=started.file(add_token(started.store, "api", "service")), caller_starts=2)
        yield started


async def _refused(call: Any) -> tuple[grpc.StatusCode, str, float | None]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    told = read_failure(refused.value)
    return told.code, told.message, told.retry_s


async def test_a_caller_has_a_limit_of_starts(system: Guarded) -> None:
    """Executions, actions and reruns as new executions count together. What is beyond is refused with the time of the
    next try; dry runs, other calls and other callers are served, and what a caller may not start does not count."""
    there = await start_one(system, "team-a")
    anna = await system.granted("operator@team-a")
    with pytest.raises(grpc.aio.AioRpcError, match="lacks the role operator"):
        await anna.executions.StartExecution(executions.StartExecutionRequest(namespace="other", workflow="one"))
    await anna.executions.StartExecution(START)
    await anna.actions.RunAction(RUN)
    rerun = executions.RerunExecutionRequest(execution_id=there, start_from=operations.RERUN_FROM_BEGINNING)
    for call in (
        anna.executions.StartExecution(START),
        anna.actions.RunAction(RUN),
        anna.executions.RerunExecution(rerun),
    ):
        code, told, retry_s = await _refused(call)
        assert (code, told) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "'anna' starts more than 2 executions and actions a minute",
        )
        assert retry_s is not None
        assert 0 < retry_s <= 1800
    rerun.dry_run = True
    await anna.executions.RerunExecution(rerun)
    await anna.executions.GetExecution(executions.GetExecutionRequest(execution_id=there))
    bert = await system.granted("operator@team-a", name="bert")
    await bert.executions.StartExecution(START)


async def test_an_operation_on_many_starts_in_turn(system: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rerun of many as new executions is not refused: it begins each when its caller may have another start."""
    for _ in range(2):
        await start_one(system, "team-a")
    monkeypatch.setattr(caller_limits, "MINUTE_S", 0.6)
    await system.start_api(token=system.file(add_token(system.store, "api", "service")), caller_starts=1)
    anna = await system.granted("operator@team-a")
    each = executions.RerunExecutionRequest(start_from=operations.RERUN_FROM_BEGINNING)
    many = executions.RerunExecutionsRequest(filter="workflow=one", each=each)
    began_s = time.monotonic()
    outcomes = [told.outcome async for told in anna.executions.RerunExecutions(many)]
    assert [outcome.WhichOneof("result") for outcome in outcomes] == ["execution", "execution"]
    assert time.monotonic() - began_s >= 0.6


def test_the_limit_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """It is read from the command line or the environment, is none by default, and is not negative."""
    assert (read_settings([], {}).caller_starts, read_settings(["--caller-starts", "5"], {}).caller_starts) == (0, 5)
    assert read_settings([], {"DALSEGNO_API_CALLER_STARTS": "7"}).caller_starts == 7
    with pytest.raises(SystemExit):
        read_settings(["--caller-starts", "-1"], {})
    assert "--caller-starts must not be negative" in capsys.readouterr().err
