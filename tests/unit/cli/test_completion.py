"""The shell completes words of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_pb2,
    execution_service_pb2,
    workflow_service_pb2,
)

FIRST = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
SECOND = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1fa000"
Complete = Callable[..., list[str]]


@pytest.fixture
def complete(
    api: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], type_command: Any
) -> Complete:
    """Return what bash offers for the last of these words."""
    monkeypatch.setenv("DALSEGNO_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("DALSEGNO_SERVER", api.address)

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_DALSEGNO_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["dalsegno", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        ended = type_command()
        assert ended.err == ""
        return list(ended.out.split())

    return ask


def test_ids_by_their_ends(api: Any, complete: Complete) -> None:
    """Completion offers short ends of ids and `@latest`, and the whole id once it is begun."""
    executions = [execution_pb2.Execution(id=each, workflow="w") for each in (FIRST, SECOND)]
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse(executions=executions))

    assert complete("show", "") == ["@latest", "1e6b47", "1fa000"]
    assert complete("watch", "1f") == ["1fa000"]
    assert complete("tasks", "@") == ["@latest"]
    assert complete("pause", FIRST[:33]) == [FIRST]


def test_names(api: Any, complete: Complete) -> None:
    """Completion offers names of workflows, actions, environments and contexts."""
    workflows = workflow_service_pb2.ListWorkflowsResponse()
    workflows.workflows.add(name="parcels")
    api.answer("ListWorkflows", workflows)
    actions = action_service_pb2.ListActionsResponse()
    for name in ("std.echo", "core.noop"):
        actions.actions.add(name=name)
    api.answer("ListActions", actions)
    environments = environment_service_pb2.ListEnvironmentsResponse()
    environments.environments.add(name="staging")
    api.answer("ListEnvironments", environments)

    assert complete("start", "par") == ["parcels"]
    assert api.requests[0].filter == 'namespace="" name="par"*'
    assert complete("workflow", "show", "") == ["parcels"]
    assert complete("action", "run", "std") == ["std.echo"]
    assert complete("environment", "get", "") == ["staging"]
    assert complete("list", "--state", "REV") == ["REVERTED", "REVERTING", "REVERT_ERROR"]


def test_where_there_is_no_server_nothing_is_offered_and_nothing_said(
    complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server completion offers nothing and prints no error."""
    monkeypatch.setenv("DALSEGNO_SERVER", "127.0.0.1:1")
    assert complete("show", "") == []


def test_commands(complete: Complete) -> None:
    """Completion offers commands in the way of the command line library."""
    assert complete("workf") == ["workflow"]


def test_checkpoints_of_the_typed_execution(api: Any, complete: Complete) -> None:
    """Those ahead of it come first, then those that it has reached and that stand; a start has none."""
    entries = [
        execution_pb2.CheckpointEntry(name="installed", sequence=11, stands=True),
        execution_pb2.CheckpointEntry(name="undone", sequence=9),
        execution_pb2.CheckpointEntry(name="start", sequence=3, stands=True),
    ]
    found = execution_service_pb2.ListCheckpointsResponse(entries=entries, ahead=["ready", "tested"])
    api.answer("ListCheckpoints", found)

    assert complete("goto", FIRST, "") == ["ready", "tested", "start", "installed"]
    assert complete("goto", FIRST, "in") == ["installed"]
    assert complete("resume", FIRST, "--stop-at", "t") == ["tested"]
    assert complete("rerun", FIRST, "--stop-at", "t") == ["tested"]
    assert complete("start", "bootstrap", "--stop-at", "t") == []
    for words in (("discard", FIRST, "--before"), ("rerun", FIRST, "--from-checkpoint")):
        assert complete(*words, "") == ["start", "installed"]
