"""A client and an executor in JavaScript, written from protos/ alone: the contract needs nothing of ours."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from tests.polyglot.programs import finish, install, start
from tests.processes import System

NEEDED = [name for name in ("node", "npm") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("polyglot"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(NEEDED), reason=f"{' and '.join(NEEDED)} not found: the contract is not tried in JavaScript"
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Our services, and beside them what npm installs."""
    await install()
    async with System(tmp_path_factory.mktemp("polyglot")) as running:
        await running.start()
        yield running


@asynccontextmanager
async def executor(system: System) -> AsyncIterator[None]:
    """The executor in JavaScript, welcome when this begins; afterwards it goes by itself, without an error."""
    process = await start("node", "executor.js", system.engine.address)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.terminate()
        code, _, errors = await finish(process)
        assert (code, errors) == (0, "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(system: System) -> dict[str, Any]:
    """What the client has seen."""
    async with executor(system):
        code, output, errors = await finish(await start("node", "client.js", system.api.address))
    assert code == 0, errors
    told: dict[str, Any] = json.loads(output)
    return told


async def test_a_workflow_runs_on_an_executor_in_another_language(seen: dict[str, Any]) -> None:
    """Its actions are described, handed out, answered, and one of them delegated and completed by its alias."""
    assert seen["state"] == "EXECUTION_STATE_SUCCESS"
    assert seen["output"] == {"greeting": "Hello, Ada", "answer": 42, "long": 3_900_000}
    assert seen["languages"] == ["LANGUAGE_MISTRAL", "LANGUAGE_ORQUESTA"]


async def test_a_watch_that_breaks_again_and_again_misses_nothing(seen: dict[str, Any]) -> None:
    """Every change comes once and in order over many streams, each taken up by a resume token."""
    assert seen["sequences"] == list(range(1, len(seen["sequences"]) + 1))
    assert seen["streams"] > 3


async def test_a_large_value_needs_no_setting(seen: dict[str, Any]) -> None:
    """3.9 MB go through the executor, the api and the client with gRPC's own limits."""
    assert seen["long"] == 3_900_000


async def test_a_repeated_start_and_a_taken_id_are_told_apart(seen: dict[str, Any]) -> None:
    """The same request gets the first answer; another one for the same id is ALREADY_EXISTS (code 6)."""
    assert (seen["created"], seen["repeated"]) == (True, True)
    assert (seen["taken"]["code"], seen["taken"]["reason"]) == (6, "ALREADY_EXISTS")


async def test_refusals_are_read_from_the_details(seen: dict[str, Any]) -> None:
    """The reason and every wrong field are there for a program that knows google.rpc.Status."""
    assert (seen["invalid"]["code"], seen["invalid"]["reason"]) == (3, "INVALID_REQUEST")
    assert sorted(seen["invalid"]["fields"]) == ["execution_id", "input"]
    assert (seen["unknown"]["code"], seen["unknown"]["reason"]) == (5, "NOT_FOUND")
