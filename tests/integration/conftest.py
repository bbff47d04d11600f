"""One system of real services for the tests of a module; after each test every journal must equal the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.stage import Stage, open_stage
from tests.processes import System


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Provide an engine, an executor and an api for all tests of a module."""
    async with System(tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def system(shared_system: System) -> AsyncIterator[System]:
    """Provide the same, with all three running; afterwards every journal must equal the rows."""
    await shared_system.start()
    yield shared_system
    shared_system.show_logs()
    assert shared_system.findings() == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(shared_system: System) -> AsyncIterator[Stage]:
    """Provide the workflows and the executor of stage.py."""
    async with open_stage(shared_system) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(system: System, shared_stage: Stage) -> Stage:
    """Provide the same for one test; afterwards every journal must equal the rows."""
    return shared_stage
