"""The examples can be listed, read and copied, and have no problems."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.ports import free_address

from dalsegno.cli.endpoints import CITIES, serve_endpoints
from dalsegno.cli.examples import find_examples, read_example, summary_of
from dalsegno.cli.supervisor import choose_address
from dalsegno.definitions.document import explain_nameless, read

NAMES = list(find_examples())


def test_the_examples_cover_what_people_look_for() -> None:
    """There is an example for the main task and for each frequent question."""
    asked = ("fan_out", "retry", "sub_workflow", "error_handling", "approval", "bootstrap")
    assert {*asked, *(f"orquesta/{name}" for name in asked)} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    """An example begins with a comment: a sentence, then the commands."""
    text = read_example(name)
    header = [line for line in text.splitlines() if line.startswith("#")]

    assert summary_of(text).endswith(".")
    assert any(f"{name}.yaml" in line and "dalsegno" in line for line in header)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_no_problems(name: str) -> None:
    """Each example can be stored unchanged and has a name."""
    document = read(read_example(name))
    assert (document.problems, explain_nameless(document)) == ((), ())
    assert document.language == ("orquesta" if name.startswith("orquesta/") else "mistral")


def test_list_show_and_copy(type_command: Callable[..., Any], tmp_path: Path) -> None:
    """The list shows each example with its sentence; show and copy give the same text."""
    listed = type_command("examples")
    shown = type_command("examples", "show", "fan_out")
    copied = type_command("examples", "copy", "", tmp_path / "new")

    assert all(name in listed.out for name in NAMES)
    assert shown.out == read_example("fan_out")
    assert copied.out.split() == [str(tmp_path / "new" / f"{name}.yaml") for name in NAMES]
    assert (tmp_path / "new" / "fan_out.yaml").read_text() == shown.out


def test_a_copy_replaces_nothing_unasked(type_command: Callable[..., Any], tmp_path: Path) -> None:
    """A copy keeps an existing file unless --overwrite is given."""
    (tmp_path / "retry.yaml").write_text("mine")

    refused = type_command("examples", "copy", "retry", tmp_path)
    kept = (tmp_path / "retry.yaml").read_text()
    done = type_command("examples", "copy", "retry", tmp_path, "--overwrite")

    assert (refused.exit_code, kept, done.exit_code) == (2, "mine", 0)
    assert (tmp_path / "retry.yaml").read_text() == read_example("retry")


def test_an_unknown_example_comes_with_the_known_ones(type_command: Callable[..., Any]) -> None:
    """An unknown name is refused with the known names."""
    ended = type_command("examples", "show", "nonsense")

    assert ended.exit_code == 2
    assert all(name in ended.err for name in NAMES)


async def test_the_endpoints_answer_and_the_flaky_one_fails_twice() -> None:
    """The endpoints serve cities, weather and stock, and fail the first two of three requests for the rate."""
    async with serve_endpoints(choose_address("127.0.0.1:0", "--listen")) as url, aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, Any]:
            async with session.get(url + path) as response:
                return response.status, await response.json(content_type=None) if response.status == 200 else None

        assert await get("/cities") == (200, list(CITIES))
        assert (await get("/weather/Greyhaven"))[1]["sky"] == "storm"
        assert (await get("/stock/Kestrel%20Bay"))[1]["umbrellas"] == 5
        assert (await get("/weather/Nowhere"))[0] == 404
        assert [(await get("/rate"))[0] for _ in range(6)] == [503, 503, 200] * 2


async def test_the_endpoints_stop_at_once() -> None:
    """Also while a request has not arrived whole: Ctrl-C is not to take a minute."""
    loop = asyncio.get_running_loop()
    address = free_address()
    async with serve_endpoints(address):
        host, _, port = address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /reports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        )
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/cities") as answer:
            assert answer.status == 200  # so the other one has arrived, too
        began_s = loop.time()
    assert loop.time() - began_s < 5
    writer.close()
