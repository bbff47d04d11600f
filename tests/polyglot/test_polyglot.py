"""A client and an executor in JavaScript, Ruby and Go, written from protos/ alone: they need nothing of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from tests.polyglot.programs import (
    GO,
    HERE,
    JAVASCRIPT,
    LANGUAGES,
    RUBY,
    Language,
    find_missing,
    finish,
    prepare,
    start,
    until_ready,
)
from tests.processes import System

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("polyglot"),
    pytest.mark.timeout(300),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Our engine and api, without an executor of ours."""
    async with System(tmp_path_factory.mktemp("polyglot"), with_executor=False) as running:
        yield running


@asynccontextmanager
async def executor(language: Language, system: System) -> AsyncIterator[None]:
    """The executor in this language, welcome when this begins; afterwards it goes by itself, without an error."""
    process = await start(*language.executor, system.engine.address)
    await until_ready(process)
    try:
        yield
    finally:
        process.terminate()
        code, _, errors = await finish(process)
        assert (code, errors) == (0, "")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LANGUAGES, ids=lambda language: language.name)
async def seen(system: System, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the client in one language has seen, with the executor in the same language."""
    language: Language = request.param
    if missing := find_missing(language):
        pytest.skip(f"{missing} not found: the contract is not tried in {language.name}")
    await prepare(language)
    async with executor(language, system):
        code, output, errors = await finish(await start(*language.client, system.api.address, *_more(language)))
    assert code == 0, errors
    told: dict[str, Any] = json.loads(output)
    return told


def _more(language: Language) -> list[str]:
    """A compiled program does not know where its sources are."""
    return {JAVASCRIPT: [], RUBY: [], GO: [str(HERE / "workflows.yaml")]}[language]


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


async def test_an_operator_pauses_resumes_with_choices_and_runs_again(seen: dict[str, Any]) -> None:
    """It is paused while a task runs; the failed tasks are run with another input and skipped; a rerun begins anew."""
    states = [name.removeprefix("EXECUTION_STATE_") for name in seen["repair"]]
    assert states == ["PAUSED", "ERROR", "ERROR", "SUCCESS", "ERROR"]
    assert (seen["sent"], seen["rerunOf"]) == ("by hand", True)
