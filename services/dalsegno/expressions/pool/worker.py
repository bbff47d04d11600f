"""The main loop of a process of the pool: one job after the other, each within limits that the system enforces.

Its processor time is limited by a timer that ends the process, its memory by its address space. The template that
forked it reports to the pool how it ended (spawning.py).
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

from dalsegno.expressions.answers import UnfitSchema, find_problems
from dalsegno.expressions.pool.compiled import Compiled
from dalsegno.expressions.pool.frames import LIMITS, Channel, Frame, Kind, TooLong
from dalsegno.expressions.pool.jobs import Evaluation
from dalsegno.expressions.pool.limits import EXIT_MEMORY, MESSAGE_BYTES
from dalsegno.expressions.pool.remote import PoolGone, RemoteScope, Unanswered
from dalsegno.expressions.pool.replies import printable
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.value import UnfitValue, decode, encode

MEBIBYTE = 1024 * 1024
PEAK_UNIT = 1024
"""The unit, in bytes, in which Linux counts the memory of a process."""


def work(connection: socket.socket) -> None:
    """Run jobs until there are no more. The process ends if one exceeds the memory limit."""
    worker = Worker(Channel(connection))
    try:
        while worker.do_next():
            pass
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except (PoolGone, OSError):
        pass  # the pool has ended, or has closed this process


class Worker:
    """One process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._compiled = Compiled()
        self._processor_s = 0.0
        self._began_mib = peak_mib()
        self._kinds: dict[Kind, Callable[[bytes], bytes]] = {
            Kind.EVALUATE: self._evaluate,
            Kind.CHECK: _check,
            Kind.CALL: _call,
        }

    def do_next(self) -> bool:
        """Handle the next message. Return False if there are no more."""
        frame = self._channel.receive()
        if frame is None:
            return False
        if frame.kind is Kind.LIMITS:
            self._processor_s, memory_mib = LIMITS.unpack(frame.payload)
            limit_memory(memory_mib)
            return True
        signal.setitimer(signal.ITIMER_PROF, self._processor_s)
        kind, payload = self._carry_out(frame)
        signal.setitimer(signal.ITIMER_PROF, 0)  # before the pool can send the next job
        try:
            self._channel.send(kind, payload, self._grown_mib())
        except TooLong:
            told = f"it gives more than {MESSAGE_BYTES // MEBIBYTE} MiB"
            self._channel.send(Kind.FAULT, told.encode(), self._grown_mib())
        return True

    def _grown_mib(self) -> int:
        return peak_mib() - self._began_mib

    def _carry_out(self, frame: Frame) -> tuple[Kind, bytes]:
        try:
            return Kind.VALUE, self._kinds[frame.kind](frame.payload)
        except EvaluationError as error:
            return Kind.ERROR, printable(str(error))
        except Unanswered:
            return Kind.ERROR, b"unanswered"
        except MemoryError:
            raise
        except Exception as error:  # only this job fails
            return Kind.FAULT, printable(f"{type(error).__name__}: {error}")

    def _evaluate(self, payload: bytes) -> bytes:
        job = Evaluation(*json.loads(payload))
        expression = self._compiled.get(job)
        value = expression.evaluate_here(RemoteScope(self._channel, job.at_s, job.seed), job.place)
        try:
            return encode(value).encode()
        except UnfitValue as error:
            raise EvaluationError(f"{job.shown}: it gives what is not JSON: {error}") from None
        except (ValueError, RecursionError):
            raise EvaluationError(f"{job.shown}: it gives what cannot be written as JSON") from None


def _check(payload: bytes) -> bytes:
    pair: Any = decode(payload.decode())
    schema, answer = pair
    try:
        return encode(find_problems(schema, answer)).encode()
    except UnfitSchema as error:
        raise EvaluationError(f"the schema of the answer is unfit: {error}") from None


def _call(payload: bytes) -> bytes:
    named, _, argument = payload.partition(b"\n")
    module, _, name = named.decode().partition(":")
    given = getattr(importlib.import_module(module), name)(argument)
    if not isinstance(given, bytes):
        raise TypeError(f"{named.decode()} gives no bytes but {type(given).__name__}")
    return given


def limit_memory(memory_mib: int) -> None:
    """Limit the address space of this process; a lower limit stays."""
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    wanted = memory_mib * MEBIBYTE
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if hardest == resource.RLIM_INFINITY else min(wanted, hardest), hardest)
    )


def peak_mib() -> int:
    """Return the maximum memory of this process, including its share of the template's."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT // MEBIBYTE
