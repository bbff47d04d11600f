"""The recipes of protos/README.md: whole programs in four languages, run unchanged there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from tests.polyglot.programs import (
    GO,
    JAVASCRIPT,
    MODULES,
    PROTOS,
    PYTHON,
    RUBY,
    find_missing,
    finish,
    install,
    prepare,
    start,
)
from tests.processes import System

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("polyglot"),
    pytest.mark.timeout(300),
]

PAGE = (PROTOS / "README.md").read_text()


def recipe(language: str) -> str:
    """The program in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```\n", PAGE, re.DOTALL)
    return str(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Our services, and the workflow of the page."""
    async with System(tmp_path_factory.mktemp("recipes")) as running:
        await running.start()
        await running.define(recipe("yaml"))
        yield running


async def ends_well(system: System, *command: str, more: Sequence[str] = ()) -> None:
    """The program runs to its end and prints every change once, in order, and the output."""
    code, output, errors = await finish(await start(*command, system.api.address, system.engine.address, *more))
    assert (code, errors) == (0, "")
    *changes, result = output.splitlines()
    assert json.loads(result) == {"said": "Hello, Ada", "answer": 42}
    assert [line.split()[0] for line in changes] == [str(number + 1) for number in range(len(changes))]
    assert len(changes) > 10


async def test_the_recipe_in_python(system: System, tmp_path: Path) -> None:
    """With the stubs that protoc generates, and nothing else of ours."""
    program = tmp_path / "recipe.py"
    program.write_text(recipe("python"))
    await ends_well(system, PYTHON, str(program))


@pytest.mark.skipif(bool(find_missing(JAVASCRIPT)), reason=f"{find_missing(JAVASCRIPT)} not found")
async def test_the_recipe_in_javascript(system: System, tmp_path: Path) -> None:
    """Without any generated code."""
    await install()
    program = tmp_path / "recipe.js"
    program.write_text(recipe("javascript"))
    await ends_well(system, "node", str(program), more=[str(PROTOS)])


@pytest.mark.skipif(bool(find_missing(RUBY)), reason=f"{find_missing(RUBY)} not found")
async def test_the_recipe_in_ruby(system: System, tmp_path: Path) -> None:
    """With what grpc_tools_ruby_protoc generates."""
    await prepare(RUBY)
    program = tmp_path / "recipe.rb"
    program.write_text(recipe("ruby"))
    await ends_well(system, "ruby", "-I", str(MODULES / "ruby"), str(program))


@pytest.mark.skipif(bool(find_missing(GO)), reason=f"{find_missing(GO)} not found")
async def test_the_recipe_in_go(system: System, tmp_path: Path) -> None:
    """With what protoc-gen-go and protoc-gen-go-grpc generate."""
    await prepare(GO)
    source, program = tmp_path / "recipe.go", tmp_path / "recipe"
    source.write_text(recipe("go"))
    code, _, errors = await finish(await start("go", "build", "-o", str(program), str(source)))
    assert (code, errors) == (0, "")
    await ends_well(system, str(program))
