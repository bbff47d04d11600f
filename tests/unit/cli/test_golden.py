"""Golden files hold the output of commands on terminals of 80 and 140 columns."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from tests.template import Program, start_forked
from tests.unit.cli.conftest import SERVICES
from tests.unit.cli.recorded import FOLDER, Recording

pytestmark = pytest.mark.long("forks a program for each scene")

SCENES = sorted(path.stem for path in FOLDER.glob("*.json"))
ROWS = 30
COPIED = re.compile("^next: |dalsegno ")
"""Lines with a command to be copied, which are never folded."""
RAW = {"output"}
"""Commands that print a value as it is, for programs."""
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_CURSOR = re.compile(r"\x1b\[\?25[lh]")
_REDRAWN = re.compile(r"(?:\r?\x1b\[2K|\x1b\[1A)+")


class Player(grpc.GenericRpcHandler):
    """A server that gives recorded answers."""

    def __init__(self, recording: Recording, unknown: list[str]) -> None:
        self._recording = recording
        self._unknown = unknown

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        _, service, method = details.method.split("/")
        module = SERVICES.get(service.rpartition(".")[2])
        if module is None:
            return None
        found = module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
        request, response = getattr(module, found.input_type.name), getattr(module, found.output_type.name)

        def answer(asked: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            call = self._recording.find(method, asked)
            if call is None:
                self._unknown.append(f"{method} {asked}")
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no such request was recorded: {method} {asked}")
                return
            if call.code:
                context.set_trailing_metadata(tuple((k, v.encode("latin-1")) for k, v in call.trailers.items()))
                context.abort(grpc.StatusCode[call.code], call.details)
            for each in call.responses:
                yield json_format.ParseDict(each, response(), ignore_unknown_fields=True)

        coders = {
            "request_deserializer": request.FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if found.server_streaming:
            return grpc.unary_stream_rpc_method_handler(answer, **coders)
        return grpc.unary_unary_rpc_method_handler(lambda asked, context: next(answer(asked, context)), **coders)


@pytest.fixture
def play() -> Iterator[Any]:
    """Start a server that gives recorded answers; return its address. All that is asked of it must be recorded."""
    servers = []
    unknown: list[str] = []

    def start(recording: Recording) -> str:
        server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Player(recording, unknown),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0).wait()
    assert unknown == []


def on_a_terminal(words: list[str], address: str, now_s: float, columns: int) -> str:
    """Return what a command prints on a terminal of this width, without colours."""
    reader, writer = pty.openpty()
    ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"TZ": "UTC", "TERM": "xterm-256color", "DALSEGNO_SERVER": address}
    script = Path(__file__).parent / "on_a_pty.py"
    program = Program(str(script), (str(now_s), *words), Path(os.ttyname(writer)), environment)
    process = start_forked(program)
    printed = b""
    while process.poll() is None or _is_readable(reader):
        if _is_readable(reader):
            printed += os.read(reader, 65_536)
    os.close(writer)
    os.close(reader)
    assert process.returncode in range(6), printed.decode()
    return _last_frame(printed.decode()).replace(address, "HOST:PORT")


def _is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.02)[0])


def _last_frame(printed: str) -> str:
    """Return the last screen of what the command draws."""
    text = _CURSOR.sub("", _STYLES.sub("", printed)).replace("\r\n", "\n")
    assert "\x1b" not in _REDRAWN.sub("", text)
    frames = [frame for frame in _REDRAWN.split(text) if frame.strip()]
    return "\n".join(line.rstrip() for line in (frames[-1] if frames else "").splitlines()) + "\n"


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("scene", SCENES)
def test_terminal_output_is_as_people_have_seen_it(
    play: Any, request: pytest.FixtureRequest, scene: str, columns: int
) -> None:
    """Each command prints its golden file, and no line except a copied one is wider than the terminal."""
    recording = Recording.read(scene)

    printed = on_a_terminal(recording.words, play(recording), recording.now_s, columns)

    golden = FOLDER / f"{scene}.{columns}.txt"
    if request.config.getoption("--write-golden", default=False):
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8")
    wide = [line for line in printed.splitlines() if len(line) > columns and not COPIED.search(line)]
    assert wide == [] or scene in RAW
