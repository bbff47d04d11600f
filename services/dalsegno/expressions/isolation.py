"""What has no budget of its own runs in a process apart, which is killed and replaced when it takes too much.

The limits of the YAQL library do not hold, regular expressions can run for years, and Jinja's loops count nothing. The
process (`dalsegno.expressions.process`) is told the expression, asks back for what it needs of the scope, and answers
with the value. Both sides speak JSON, one message a line.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from dalsegno.workflow.scope import EvaluationError, Scope

TIME_S = 1.0
"""Seconds that one evaluation may take, without what its questions take."""
MEMORY_MIB = 512
"""Address space of the process."""
START_S = 20.0
"""Seconds in which the process must be ready: it imports the libraries and builds a parser."""
MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest message that is read."""

Message = dict[str, Any]

Problem = tuple[str, str]
"""A place in an answer, and what is wrong there."""


class ProcessLost(Exception):
    """The process has ended or does not answer; the text says why, as the author of an expression should see it."""


class NoScope(Exception):
    """The process asks something, and nobody is there who could know."""


class StillRunning(Exception):
    """The evaluation has not come to its end in the time that this caller has for it; it goes on."""


class Isolation:
    """One process and the conversation with it. Not for several threads at once."""

    def __init__(self, time_s: float = TIME_S, memory_mib: int = MEMORY_MIB) -> None:
        self.time_s = time_s
        self.memory_mib = memory_mib
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.received = bytearray()
        self._left_s = 0.0
        """What is left of its time for the evaluation that runs, in seconds."""
        self._shown = ""

    def start(self) -> None:
        """Start the process unless it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        self.close()
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dalsegno.expressions.process", str(self.memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            bufsize=0,
        )
        self.ready = False
        self.received.clear()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def evaluate(
        self,
        notation: str,
        text: str,
        scope: Scope,
        place: str,
        language: str = "mistral",
        for_s: float | None = None,
    ) -> object:
        """The value of the expression. Raises EvaluationError; StillRunning after `for_s` seconds: see go_on."""
        request = {"notation": notation, "text": text, "language": language}
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        return self._request(
            {**request, "place": place, "at_s": scope.at_s, "seed": scope.seed},
            scope,
            f"<% {shown} %>" if notation == "yaql" else shown,
            for_s,
        )

    def check(self, schema: object, answer: object) -> list[Problem]:
        """What is wrong with an answer (answers.py). Raises EvaluationError when that cannot be told."""
        found: Any = self._request({"schema": schema, "answer": answer}, None, "the schema of the answer")
        return [(place, told) for place, told in found]

    def _request(self, request: Message, scope: Scope | None, shown: str, for_s: float | None = None) -> object:
        self._shown = shown
        try:
            self._prepare()
            self._send(request)
        except ProcessLost as lost:
            raise self._lost(lost) from None
        except OSError as error:
            raise self._unusable(error) from None
        self._left_s = self.time_s
        return self.go_on(scope, for_s)

    def go_on(self, scope: Scope | None, for_s: float | None = None) -> object:
        """Answer questions until the value comes. Raises EvaluationError; StillRunning when that takes more than
        `for_s` seconds, and NoScope when there is a question and no scope to answer it from."""
        try:
            return self._converse(scope, for_s)
        except ProcessLost as lost:
            raise self._lost(lost) from None
        except OSError as error:
            raise self._unusable(error) from None

    def _lost(self, lost: ProcessLost) -> EvaluationError:
        self.close()
        self.start()  # The next expression finds it running.
        return EvaluationError(f"{self._shown}: {lost}")

    def _unusable(self, error: OSError) -> EvaluationError:
        self.close()
        return EvaluationError(f"the evaluation process cannot be used: {error.strerror}")

    def _prepare(self) -> None:
        self.start()
        if not self.ready:
            self._receive(START_S)
            self.ready = True

    def _converse(self, scope: Scope | None, for_s: float | None) -> object:
        """The clock stands still while this side is at work."""
        quick_s = self._left_s if for_s is None else min(for_s, self._left_s)
        while True:
            asked_at = time.monotonic()
            try:
                message = self._receive(quick_s)
            except ProcessLost:
                if quick_s >= self._left_s or not self._is_alive:
                    raise
                self._left_s -= time.monotonic() - asked_at
                raise StillRunning from None
            took_s = time.monotonic() - asked_at
            self._left_s -= took_s
            quick_s -= took_s
            if "ask" in message:
                if scope is None:
                    raise NoScope
                self._send(answer(scope, message["ask"], message["arguments"], message["named"]))
            elif "error" in message:
                raise EvaluationError(message["error"])
            else:
                return message["value"]

    @property
    def _is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise ProcessLost("the evaluation process is gone")
        return pipe

    def _send(self, message: Message) -> None:
        pipe = self._pipe(self.process.stdin if self.process else None)
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[pipe.write(data) :]

    def _receive(self, timeout_s: float) -> Message:
        """The next message. Raises ProcessLost."""
        pipe = self._pipe(self.process.stdout if self.process else None)
        deadline_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not self.received.endswith(b"\n"):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise ProcessLost(f"it takes more than {self.time_s:g} s")
                piece = os.read(pipe.fileno(), 1 << 20)
                if not piece:
                    raise ProcessLost(f"it needs more than {self.memory_mib} MiB of memory")
                self.received += piece
                if len(self.received) > MESSAGE_BYTES:
                    raise ProcessLost("it gives too much")
        message: Message = json.loads(self.received)
        self.received.clear()
        return message


QUESTIONS: dict[str, Callable[..., object]] = {
    "variable": lambda scope, name: scope.variable(name),
    "variables": lambda scope: scope.variables(),
    "item": lambda scope: scope.item(),
    "result": lambda scope: scope.result(),
    "status": lambda scope, name, route: scope.status(name, route),
    "run": lambda scope, name, route: scope.run(name, route),
    "stored": lambda scope, environment, key: scope.stored(environment, key),
    "task": lambda scope, name: scope.task(name),
    "tasks": lambda scope, *arguments: scope.tasks(*arguments),
    "execution": lambda scope: scope.execution(),
    "executions": lambda scope, **criteria: scope.executions(**criteria),
    "environment": lambda scope: scope.environment(),
    "global_variable": lambda scope, name: scope.global_variable(name),
}


def answer(scope: Scope, question: str, arguments: list[Any], named: Message) -> Message:
    """What the scope says to a question of the process."""
    try:
        return {"value": QUESTIONS[question](scope, *arguments, **named)}
    except KeyError:
        return {"missing": True}
    except EvaluationError as error:
        return {"error": str(error)}
