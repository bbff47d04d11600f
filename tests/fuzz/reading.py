"""Inputs for the functions by which services read messages, bodies, definitions, expressions and filters: in a process
that may die of one."""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tests.fuzz.documents import read_definition
from tests.fuzz.inputs import Input, Kind, case_of, draw_here, methods
from tests.hostile.exam import HERE_S, judge_here

from dalsegno.engine.executors.reports import UnfitReport, read_greeting, read_inventory, read_place, read_report
from dalsegno.gateway.messages import parse_json
from dalsegno.rpc import errors, field_checks
from dalsegno.store.filters import ATTEMPT_FIELDS, DEFINITION_FIELDS, EXECUTION_FIELDS, TASK_FIELDS, parse_filter
from dalsegno.v1 import executor_service_pb2
from dalsegno.workflow.refusals import Refusal

WITHIN_S = 5.0
"""Processor time that none takes."""
MEMORY_BYTES = 2 * 1024**3
AT_ONCE = 500
"""So many are examined before the process tells of them."""


@dataclass(frozen=True)
class Told:
    """What has come of some inputs."""

    kinds: dict[str, tuple[int, int]]
    """How many there were of each kind, and how many of them passed the first check."""
    next: int
    faults: tuple[tuple[int, str], ...] = ()
    """The numbers of those that were wrong, and why."""
    memory_mib: int = 0


def examine(sent: Input) -> Input:
    """Read one as a service does. Return it, with whether it passes the first check. Raises whatever is no refusal."""
    if sent.kind is Kind.EXPRESSION:
        outcome = judge_here(case_of(sent))
        assert outcome.here_s < HERE_S, f"{outcome.here_s:.1f} s in the engine"
        return replace(sent, passing=outcome.kind != "refused")
    try:
        _READ[sent.kind](sent)
    except (Refusal, UnfitReport) as refusal:
        if isinstance(refusal, Refusal):
            errors.status_of(refusal)
        return sent
    return replace(sent, passing=1) if sent.kind is Kind.FILTER else sent


def _read_message(sent: Input) -> None:
    kind = GetMessageClass(methods()[sent.target].input_type)
    if sent.passing or len(sent.parts[0]) < 100_000:
        try:
            message = field_checks.parse(kind, sent.parts[0])
        except DecodeError:
            return
        field_checks.wrong_fields(message)


def _read_body(sent: Input) -> None:
    kind = GetMessageClass(methods()[sent.target].input_type)
    field_checks.wrong_fields(field_checks.parse(kind, parse_json(sent.parts[0], kind)))


def _read_report(sent: Input) -> None:
    kind: Any = getattr(executor_service_pb2, sent.target)
    try:
        message = field_checks.parse(kind, sent.parts[0])
    except DecodeError:
        return
    if isinstance(message, executor_service_pb2.TaskDone):
        read_place(message)
        read_report(message)
    elif isinstance(message, executor_service_pb2.Hello):
        read_greeting(message)
    elif isinstance(message, executor_service_pb2.Inventory):
        read_inventory(message)


def _read_definition(sent: Input) -> None:
    read_definition(sent.parts[0].decode("utf-8", "replace"))


def _read_filter(sent: Input) -> None:
    text = sent.parts[0].decode("utf-8", "replace")
    for fields in (TASK_FIELDS, ATTEMPT_FIELDS, DEFINITION_FIELDS):
        try:
            parse_filter(text, fields)
        except Refusal:
            continue
    parse_filter(text, EXECUTION_FIELDS)


_READ: dict[Kind, Callable[[Input], None]] = {
    Kind.MESSAGE: _read_message,
    Kind.BODY: _read_body,
    Kind.REPORT: _read_report,
    Kind.DEFINITION: _read_definition,
    Kind.FILTER: _read_filter,
}
READS = frozenset((*_READ, Kind.EXPRESSION))
"""The kinds of what is examined here; the others go over the wire."""


def examine_many(seed: int, first: int, count: int) -> Told:
    """Examine so many inputs, from this number on."""
    kinds: dict[str, tuple[int, int]] = {}
    faults = []
    for number in range(first, first + count):
        sent = draw_here(seed, number)
        began_s = time.thread_time()
        try:
            sent = examine(sent)
            took_s = time.thread_time() - began_s
            assert took_s < WITHIN_S, f"it took {took_s:.1f} s"
        except Exception:
            faults.append((number, traceback.format_exc()[-3_000:]))
        all_of, passing = kinds.get(sent.kind, (0, 0))
        kinds[sent.kind] = all_of + 1, passing + sent.passing
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Told(kinds, first + count, tuple(faults), used)


class Reader:
    """A process that examines inputs, one after the other."""

    def __init__(self, seed: int, *, with_coverage: str = "") -> None:
        """`with_coverage`: the file that the lines are written to that run."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, seed, with_coverage), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, first: int, count: int) -> Told:
        """Examine so many, and wait for that. Raises AssertionError when the process dies."""
        self._pipe.send((first, count))
        try:
            told: Told = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            ended = self._process.exitcode
            raise AssertionError(f"one of the inputs {first} to {first + count} ended its process: {ended}") from None
        return told

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(30)


def _work(pipe: Connection, seed: int, with_coverage: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")  # Python warns of odd code that Jinja makes of odd templates
    if not with_coverage:
        _examine_what_is_asked(pipe, seed)
        return
    import coverage

    measured = coverage.Coverage(with_coverage, data_suffix=True, branch=True, source=["dalsegno"])
    with measured.collect():
        _examine_what_is_asked(pipe, seed)
    measured.save()


def _examine_what_is_asked(pipe: Connection, seed: int) -> None:
    for first, count in _asked(pipe):
        pipe.send(examine_many(seed, first, count))


def _asked(pipe: Connection) -> Iterator[tuple[int, int]]:
    while True:
        try:
            yield pipe.recv()
        except (EOFError, ConnectionResetError):
            return
