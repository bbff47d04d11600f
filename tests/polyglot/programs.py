"""Programs in other languages: what they need is made once, in .venv/polyglot, and they run in this folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

from tests.tied import tied

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROTOS = ROOT / "protos"
FILES = sorted(map(str, PROTOS.glob("dalsegno/v1/*.proto")))
PYTHON = sys.executable
MODULES = ROOT / ".venv" / "polyglot"
"""Where npm installs what package.json names, and where stubs and binaries are."""

GOOGLE = Path(str(find_spec("grpc_tools.protoc").origin)).parent / "_proto"  # type: ignore[union-attr]
GO_SOURCES = Path("/usr/share/gocode")
"""Where Debian's packages of Go sources are."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language, and how its two programs are started once it is prepared."""

    name: str
    client: tuple[str, ...]
    executor: tuple[str, ...]


JAVASCRIPT = Language("javascript", ("node", "client.js"), ("node", "executor.js"))
RUBY = Language(
    "ruby", ("ruby", "-I", str(MODULES / "ruby"), "client.rb"), ("ruby", "-I", str(MODULES / "ruby"), "executor.rb")
)
GO = Language("go", (str(MODULES / "go" / "client"),), (str(MODULES / "go" / "executor"),))
LANGUAGES = (JAVASCRIPT, RUBY, GO)


@cache
def find_missing(language: Language) -> str:
    """What this machine lacks for a language; empty if nothing."""
    programs = {"javascript": ("node", "npm"), "ruby": ("ruby", "grpc_tools_ruby_protoc"), "go": ("go",)}[language.name]
    missing = [name for name in programs if shutil.which(name) is None]
    if language is RUBY and not missing:
        tried = subprocess.run(["ruby", "-e", "require 'grpc'"], capture_output=True, timeout=60)
        missing = ["the package grpc of Ruby"] if tried.returncode else []
    if language is GO and not missing:
        # Debian's default, 1.3, panics at the first message of stubs that protoc-gen-go makes today.
        packages = {
            "golang-google-grpc-dev": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
            "golang-github-golang-protobuf-1-5-dev": "github.com/golang/protobuf/proto/registry.go",
        }
        missing = [name for name, path in packages.items() if not (GO_SOURCES / "src" / path).exists()]
    return " and ".join(missing)


async def prepare(language: Language) -> None:
    """Make what a language needs, unless it is there."""
    MODULES.mkdir(parents=True, exist_ok=True)
    with (MODULES / "lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)  # other processes run tests, too
        await _prepare(language)


async def _prepare(language: Language) -> None:
    sources = {JAVASCRIPT: [HERE / "package.json"], RUBY: [], GO: [HERE / "client.go", HERE / "executor.go"]}[language]
    texts = [path.read_bytes() for path in [*sources, *map(Path, FILES)]]
    wanted, stamp = str(crc32(b"".join(texts))), MODULES / f"{language.name}.stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    await {JAVASCRIPT: _prepare_javascript, RUBY: _prepare_ruby, GO: _prepare_go}[language]()
    stamp.write_text(wanted)


async def install() -> None:
    """Make what programs in JavaScript need, unless it is there."""
    await prepare(JAVASCRIPT)


async def _prepare_javascript() -> None:
    shutil.copy(HERE / "package.json", MODULES)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
    await _run("npm", "install", *options, folder=MODULES)


async def _prepare_ruby() -> None:
    out = MODULES / "ruby"
    out.mkdir(exist_ok=True)
    await _run("grpc_tools_ruby_protoc", f"-I{PROTOS}", f"-I{GOOGLE}", f"--ruby_out={out}", f"--grpc_out={out}", *FILES)


async def _prepare_go() -> None:
    """Build the plug-ins of protoc from Debian's sources, then the stubs, then the two programs."""
    out = MODULES / "go"
    (out / "src").mkdir(parents=True, exist_ok=True)
    plugins = ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc")
    await _run("go", "build", "-o", f"{out}/", *plugins)
    found = [f"--plugin={out}/{name.rpartition('/')[2]}" for name in plugins]
    stubs = (f"--go_out={out}/src", f"--go-grpc_out={out}/src")
    await _run(PYTHON, "-m", "grpc_tools.protoc", *found, f"-I{PROTOS}", *stubs, *FILES)
    for name in ("client", "executor"):
        await _run("go", "build", "-o", str(out / name), f"{name}.go")


async def _run(program: str, *arguments: str, folder: Path = HERE) -> None:
    code, _, errors = await finish(await start(program, *arguments, folder=folder))
    assert code == 0, errors


def surroundings() -> dict[str, str]:
    """Return the environment in which programs find the protos, what was made for them, and our stubs."""
    return {
        **os.environ,
        "NODE_PATH": str(MODULES / "node_modules"),
        "DALSEGNO_PROTOS": str(PROTOS),
        "PYTHONPATH": str(ROOT / "services"),
        "GO111MODULE": "off",
        "GOPATH": f"{MODULES / 'go'}{os.pathsep}{GO_SOURCES}",
    }


async def start(program: str, *arguments: str, folder: Path = HERE) -> asyncio.subprocess.Process:
    """Start a program."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *tied(program, *arguments), cwd=folder, env=surroundings(), stdout=pipe, stderr=pipe
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """The exit code, and what it has written."""
    async with asyncio.timeout(120):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def until_ready(process: asyncio.subprocess.Process, within_s: float = 30.0) -> None:
    """Return when an executor has said that an engine is there, and read on what it says."""
    assert process.stdout is not None
    async with asyncio.timeout(within_s):
        assert await process.stdout.readline() == b"ready\n"
