"""The tour of the pages, typed line by line: every line works, and what it prints is what stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.cli_server import clean_environment, wait_for
from tests.ports import free_address
from tests.tied import tied

ROOT = Path(__file__).parents[2]
TOUR = (
    (ROOT / "README.md", "## Five minutes", "## Where to read on"),
    (ROOT / "services" / "dalsegno" / "cli" / "README.md", "## Definitions", "## Configuration"),
    (
        ROOT / "services" / "dalsegno" / "actions" / "README.md",
        "## An action in Python",
        "## An action that a third party completes",
    ),
    (ROOT / "services" / "dalsegno" / "worker" / "README.md", "## A worker and its test", "## Actions"),
)
"""The pages in the order in which a reader follows them: the part between two headings of each."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w/]+\.(?:yaml|py|toml))`")
_MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"waits for: [\d., ]+"), "waits for: SOME"),
    (re.compile(r"\d+(?:\.\d+)? ?(?:ms|s)\b"), "SPAN"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"\d+/\d+"), "N/N"),
    (re.compile(r"pid \d+"), "pid N"),
    (re.compile(r"\S*…"), ""),
    (re.compile(r"\s+"), " "),
)
_PROGRESS = re.compile(r"\d+ of \d+$")
"""How far a task is: said at other items each time."""


@dataclass
class Typed:
    """One command, and what the page says that it prints."""

    command: str
    printed: list[str] = field(default_factory=list)


def masked(line: str) -> str:
    """A line without what differs each time."""
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    return line.strip()


def is_whole(command: str) -> bool:
    """Whether a shell takes this for a whole command."""
    if command.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False).returncode == 0


def commands_of(block: str) -> Iterator[Typed]:
    """The commands of a block of a terminal."""
    typed: Typed | None = None
    for line in block.splitlines():
        if line.startswith("$ "):
            if typed is not None:
                yield typed
            typed = Typed(line[2:])
        elif typed is not None and not is_whole(typed.command):
            typed.command += f"\n{line}"
        elif typed is not None:
            typed.printed.append(line)
    if typed is not None:
        yield typed


def read_text() -> str:
    """The parts of the pages that make the tour."""
    parts: list[str] = []
    for page, first, last in TOUR:
        text = page.read_text()
        begins = text.index(f"{first}\n")
        parts.append(text[begins : text.index(f"{last}\n", begins)])
    return "\n".join(parts)


def read_tour(folder: Path, text: str) -> list[Typed]:
    """Write the files of the tour to a folder; give its commands in their order."""
    commands: list[Typed] = []
    before = 0
    for fence in _FENCE.finditer(text):
        language, block = fence.groups()
        named = _FILE.findall(text[before : fence.start()])
        before = fence.end()
        if language == "console":
            commands += commands_of(block)
        elif language in ("yaml", "toml", "python") and named:
            path = folder / named[-1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
    return commands


@contextmanager
def lasting(command: str, folder: Path, environment: dict[str, str], ready: str) -> Iterator[None]:
    """A command in a terminal of its own, until the end."""
    told = folder / f"{command.split()[1]}.txt"
    with told.open("w") as out:
        process = subprocess.Popen(
            tied("bash", "-c", f"exec {command}"), cwd=folder, env=environment, stdout=out, stderr=out
        )
        try:
            wait_for(lambda: ready in told.read_text(), within_s=80)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def environment_of(folder: Path) -> dict[str, str]:
    """Addresses that are free, packages that go to the folder, and a name; the pages have the defaults."""
    address, engine = free_address(), free_address()
    site = folder / "site"
    return {
        **clean_environment(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DALSEGNO_LISTEN": address,
        "DALSEGNO_ENGINE_LISTEN": engine,
        "DALSEGNO_GATEWAY_LISTEN": free_address(),
        "DALSEGNO_SERVER": address,
        "DALSEGNO_ENGINE": engine,
        "DALSEGNO_ACTOR": "ada",
        "DALSEGNO_CONFIG": str(folder / "config.yaml"),
        "PIP_TARGET": str(site),
        "PIP_NO_BUILD_ISOLATION": "false",  # pip's way to say that it builds with what is installed
        "PYTHONPATH": f"{ROOT / 'services'}{os.pathsep}{site}",
    }


def differences(typed: Typed, ended: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page says that the command did not print, and an exit code that is none of its."""
    printed = {masked(line) for line in f"{ended.stdout}\n{ended.stderr}".splitlines()}
    wanted = [line for line in typed.printed if not _PROGRESS.search(line) and line.strip() not in ("", "...")]
    is_refused = any(line.startswith("error:") for line in typed.printed)
    found = [f"not printed: {line}" for line in wanted if masked(line) not in printed]
    if ended.returncode != (2 if is_refused else 0):
        found.append(f"exit code {ended.returncode}")
    return found


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("readme")
def test_the_tour_works_when_it_is_typed_line_by_line(tmp_path: Path) -> None:
    """Definitions, a killed engine, failures and choices, actions in Python, a worker and its test: each command ends
    as its page says, and prints each of its lines but for ids, times and how far something was."""
    endpoints = free_address()
    text = read_text().replace("127.0.0.1:8480", endpoints)
    environment = environment_of(tmp_path)
    tour = read_tour(tmp_path, text)
    assert len(tour) > 20
    assert {"parcels.yaml", "voyage.yaml", "greetings", "orders.py"} <= {path.name for path in tmp_path.iterdir()}
    wrong: list[str] = []
    with ExitStack() as terminals:
        for typed in tour:
            if typed.command.startswith("dalsegno serve"):
                terminals.enter_context(lasting(typed.command, tmp_path, environment, "ready; Ctrl-C stops it"))
                continue
            if typed.command.startswith("dalsegno examples endpoints"):
                listening = f"{typed.command} --listen {endpoints}"
                terminals.enter_context(lasting(listening, tmp_path, environment, "endpoints at"))
                continue
            if typed.command == "python orders.py":
                terminals.enter_context(lasting(typed.command, tmp_path, environment, "stream open"))
                continue
            command = ["bash", "-c", typed.command]
            ended = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
            )
            if found := differences(typed, ended):
                wrong += [f"$ {typed.command}", *found, f"printed:\n{ended.stdout}{ended.stderr}"]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["orders.py", "test_orders.py", "orders.yaml"])
def test_the_files_of_the_worker_are_in_the_package(tmp_path: Path, name: str) -> None:
    """What stands on the page is what is installed."""
    read_tour(tmp_path, read_text())
    assert (tmp_path / name).read_text() == (ROOT / "services" / "dalsegno" / "examples" / "worker" / name).read_text()
