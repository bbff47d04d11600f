"""One expression after the other, in a process that may die of it: what ours gives, and what the libraries give."""

from __future__ import annotations

import math
import multiprocessing
import resource
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from tests.hostile.plain import ShownOtherwise, evaluate_plainly
from tests.hostile.values import scope

from dalsegno.expressions.budget import Budget, BudgetHere, NeedsPool
from dalsegno.expressions.compile import Expression, compile_template
from dalsegno.expressions.evaluation import Source
from dalsegno.expressions.language import LANGUAGES
from dalsegno.workflow.scope import EvaluationError

HERE_S = 1.0
"""Processor time that no evaluation in the engine may take: it is meant to take 20 ms."""
OURS_S = 60.0
"""Seconds by the clock in which ours must have come to an end, on however busy a machine."""
PLAIN_S = 1.0
"""Seconds of processor time that the libraries are given to show what they give. One in ten expressions needs more."""
MEMORY_BYTES = 2 * 1024**3
LIMITS = (
    "more than",
    "beyond",
    "deeper than",
    "at most",
    "too deeply",
    "Range too big",
    "which cannot be stored",
    "which JSON does not have",
    "cannot be a key",
)
"""What an error says that names a limit, or what ours refuses and the libraries do not."""
LIBRARY_FAULTS = (
    "CollectionTooLargeException",
    "MemoryQuotaExceededException",
    "TypeError: unhashable type",
    "OverflowError",
)
"""What the YAQL library raises for limits of its own, and for values that it has forgotten to freeze."""
NO_PAIR = (
    "TypeError: cannot unpack",
    "ValueError: not enough values to unpack",
    "ValueError: too many values to unpack",
)
"""What it raises when it looks in `items()` of a dict for what is no pair. Ours does not find it in there."""
UNLIKE = (" at 0x", "random(", "uuid(", "| random")
"""What is different each time with the libraries."""


@dataclass(frozen=True)
class Case:
    """One expression."""

    notation: str
    language: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    value: object = None
    error: str = ""
    kind: str = "value"
    """`value`, `limit`, `failure`, or `unknown`."""
    is_moved: bool = False
    here_s: float = 0.0


@dataclass
class Tally:
    """What has come of all of them."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""

    def note(self, case: Case, outcome: Outcome) -> None:
        """Count one."""
        self.counts["all"] += 1
        self.counts[outcome.kind] += 1
        self.counts["moved"] += outcome.is_moved and outcome.kind != "unknown"
        has_met = outcome.kind == "limit" or (outcome.is_moved and outcome.kind != "unknown")
        self.counts["met a limit"] += has_met
        self.counts["beyond the first operator"] += has_met or outcome.kind == "value"
        if outcome.here_s > self.slowest_s:
            self.slowest_s, self.slowest = outcome.here_s, case.text

    def share(self, what: str) -> float:
        """Of all."""
        return self.counts[what] / max(self.counts["all"], 1)

    def __str__(self) -> str:
        shares = ", ".join(f"{what} {self.share(what):.1%}" for what in self.counts if what != "all")
        slowest = f"slowest in the engine {self.slowest_s * 1000:.0f} ms: {self.slowest[:200]}"
        return f"{self.counts['all']:,} expressions: {shares}; {slowest}"


class Died(AssertionError):
    """The process ended while ours was evaluated."""


class Examiner:
    """A process that evaluates, replaced when the libraries take too much of it."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def examine(self, case: Case, *, only_here: bool = False) -> tuple[Outcome, Outcome]:
        """What ours gives, and what the libraries give. `only_here`: what the engine itself does, and nothing else.
        Raises Died when ours ends the process."""
        connection = self._start()
        connection.send((case, only_here))
        try:
            if not connection.poll(OURS_S):
                self.close()
                raise Died(f"no answer for {case}")
            ours = connection.recv()
        except EOFError:
            assert self._process is not None
            self._process.join()
            ended = self._process.exitcode
            self.close()
            raise Died(f"exit code {ended}: {case}") from None
        try:
            return ours, connection.recv()
        except EOFError:
            self.close()
            return ours, Outcome(kind="unknown")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None

    def _start(self) -> Connection:
        if self._process is None or self._connection is None or not self._process.is_alive():
            self.close()
            # Not a fork of this process: it can crash in a thread of gRPC that an earlier test has left.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        return self._connection


def _work(connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")  # Python warns of odd code that Jinja makes of odd templates
    while True:
        try:
            case, only_here = connection.recv()
        except EOFError:
            return
        if only_here:
            connection.send(judge_here(case))
            connection.send(Outcome(kind="unknown"))
            continue
        ours = _evaluate(case)
        _send(connection, ours)
        signal.setitimer(signal.ITIMER_PROF, PLAIN_S)  # its signal ends the process
        _send(connection, _evaluate_plainly(case) if ours.kind in ("value", "failure") else Outcome(kind="unknown"))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _send(connection: Connection, outcome: Outcome) -> None:
    """Send an outcome; one that is too large to send has met the limit of memory."""
    try:
        connection.send(outcome)
    except MemoryError:
        connection.send(replace(outcome, value=None, error="memory", kind="limit"))


def judge_here(case: Case) -> Outcome:
    """What comes of an expression with as much as the engine spends on it; of kind `refused` when it is none."""
    source = _compile(case)
    if isinstance(source, Outcome):
        return Outcome(error=source.error, kind="refused")
    if not source.is_bounded:
        return Outcome(kind="unknown", is_moved=True)
    began_s = time.thread_time()
    outcome = _try(source, BudgetHere())
    return replace(outcome, here_s=time.thread_time() - began_s)


def _compile(case: Case) -> Source | Outcome:
    problems: list[str] = []
    marked = f"<% {case.text} %>" if case.notation == "yaql" else case.text
    template = compile_template(
        marked, lambda problem: problems.append(problem.message), language=LANGUAGES[case.language]
    )
    if problems or not isinstance(template, Expression):
        return Outcome(error="; ".join(problems), kind="failure")
    return template.expression


def _evaluate(case: Case) -> Outcome:
    """As the engine has it evaluated: here as long as it may, then with the limits of the process apart."""
    source = _compile(case)
    if isinstance(source, Outcome):
        return source
    if not source.is_bounded:
        return Outcome(kind="unknown", is_moved=True)
    began_s = time.thread_time()
    outcome = _try(source, BudgetHere())
    here_s = time.thread_time() - began_s
    is_moved = outcome.is_moved
    if is_moved:
        outcome = _try(source, Budget())
    return Outcome(outcome.value, outcome.error, outcome.kind, is_moved, here_s)


def _try(source: Source, budget: Budget) -> Outcome:
    try:
        return Outcome(source.value(scope(), budget))
    except NeedsPool:
        return Outcome(is_moved=True)
    except RecursionError as error:
        return Outcome(error=str(source.failure(error)), kind="limit", is_moved=budget.is_here)
    except MemoryError:
        return Outcome(error="memory", kind="limit")
    except Exception as error:
        return _failed(str(source.failure(error)))


def _evaluate_plainly(case: Case) -> Outcome:
    try:
        return Outcome(evaluate_plainly(case.notation, case.text, case.language, scope()))
    except (MemoryError, RecursionError, ShownOtherwise) as error:
        return Outcome(error=type(error).__name__, kind="unknown")
    except EvaluationError as error:
        return _failed(str(error))
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        faults = LIBRARY_FAULTS + NO_PAIR if "items()" in case.text else LIBRARY_FAULTS
        return Outcome(error=told, kind="unknown" if told.startswith(faults) else "failure")


def _failed(told: str) -> Outcome:
    return Outcome(error=told, kind="limit" if any(limit in told for limit in LIMITS) else "failure")


def assert_right(case: Case, ours: Outcome, plain: Outcome) -> None:
    """The value of the library, or a limit, or a failure where the library fails too."""
    assert ours.here_s < HERE_S, f"{ours.here_s:.2f} s in the engine: {case}"
    if {"unknown", "limit"} & {ours.kind, plain.kind}:
        return
    told = f"{case.text} {plain.value!r}".lower()  # the text may be in upper case by now
    if any(sign.lower() in told for sign in UNLIKE):
        return
    assert ours.kind == plain.kind, f"{case}: ours {_told(ours)}, the library {_told(plain)}"
    if ours.kind == "value":
        assert same(ours.value, plain.value), f"{case}: ours {_told(ours)}, the library {_told(plain)}"


def _told(outcome: Outcome) -> str:
    return repr(outcome.error or outcome.value)[:300]


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type: 1, 1.0 and true are three things in JSON."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right)
    return type(left) is type(right) and bool(left == right)
