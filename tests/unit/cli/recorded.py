"""What a server answered to a command, kept in a file: recorded once, played to the command again and again.

To record, with a server running, in the root of the checkout:

    python -m tests.unit.cli.recorded NAME HOST:PORT SECONDS COMMAND...

writes tests/unit/cli/golden/NAME.json; streams are cut after SECONDS. Then `pytest tests/unit/cli/test_golden.py
--write-golden` writes what the command prints at each width.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from dalsegno.cli import connection
from dalsegno.cli.main import main

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command, and its answers."""

    method: str
    request: dict[str, Any]
    responses: list[dict[str, Any]]
    code: str = ""
    """The status, when it failed."""
    details: str = ""
    trailers: dict[str, str] = field(default_factory=dict)
    """The binary trailing metadata, in Latin-1."""


@dataclass(slots=True)
class Recording:
    """A command, the time when it was typed, and its calls in the order in which they began."""

    words: list[str]
    now_s: float
    calls: list[Call] = field(default_factory=list)

    def write(self, name: str) -> None:
        """Write it to its file."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, name: str) -> Recording:
        """Return the recording of this name."""
        kept = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        return cls(kept["words"], kept["now_s"], [Call(**each) for each in kept["calls"]])

    def find(self, method: str, request: Message) -> Call | None:
        """Return the answers to this request."""
        asked = plain(request)
        return next((each for each in self.calls if (each.method, each.request) == (method, asked)), None)


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON, without what differs from run to run."""
    told: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    told.pop("request_id", None)
    return told


class Recorder:
    """A stub that records requests and answers."""

    def __init__(self, stub: Any, recording: Recording, end_at: float) -> None:
        self._stub, self._recording, self._end_at = stub, recording, end_at

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._stub, method)

        def record(request: Message, **options: Any) -> Any:
            kept: list[dict[str, Any]] = []
            self._recording.calls.append(Call(method, plain(request), kept))
            made = call(request, **options)
            return self._stream(made, kept) if hasattr(made, "__aiter__") else self._answer(made, kept)

        return record

    async def _answer(self, made: Any, kept: list[dict[str, Any]]) -> Message:
        place = len(self._recording.calls) - 1
        try:
            answer: Message = await made
        except grpc.aio.AioRpcError as error:
            trailers = {k: v.decode("latin-1") for k, v in error.trailing_metadata() or () if isinstance(v, bytes)}
            told = asdict(self._recording.calls[place]) | {"code": error.code().name, "details": error.details()}
            self._recording.calls[place] = Call(**told | {"trailers": trailers})
            raise
        kept.append(plain(answer))
        return answer

    async def _stream(self, made: Any, kept: list[dict[str, Any]]) -> AsyncIterator[Message]:
        messages = aiter(made)
        while True:
            try:
                message = await asyncio.wait_for(anext(messages), max(0.01, self._end_at - time.monotonic()))
            except (TimeoutError, StopAsyncIteration):
                return
            kept.append(plain(message))
            yield message


def record() -> None:
    """Record the typed command; see above."""
    name, address, seconds, *words = sys.argv[1:]
    recording = Recording(words, time.time())
    end_at = time.monotonic() + float(seconds)
    opened = connection.Connection.__init__

    def open_recording(self: connection.Connection, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        for service in ("workflows", "executions", "actions", "environments"):
            setattr(self, service, Recorder(getattr(self, service), recording, end_at))

    os.environ["FORCE_COLOR"] = "1"  # what is asked differs on a terminal
    connection.Connection.__init__ = open_recording  # type: ignore[method-assign]
    sys.argv = ["dalsegno", *words, "--server", address]
    try:
        main()
    finally:
        recording.now_s = time.time()
        recording.write(name)


if __name__ == "__main__":
    record()
