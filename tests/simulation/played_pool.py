"""The pool of processes that evaluate, as the simulation plays it: the same evaluation, in this process, some time
later. Sometimes a process is killed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.simulation.stepped import Timeline

from dalsegno.expressions.answers import UnfitSchema, find_problems
from dalsegno.expressions.pool.compiled import Compiled
from dalsegno.expressions.pool.frames import Frame, Kind
from dalsegno.expressions.pool.jobs import (
    Answers,
    Asked,
    Evaluation,
    JobOutcome,
    Question,
    SchemaCheck,
    Ticket,
    Unknown,
)
from dalsegno.expressions.pool.remote import RemoteScope, Unanswered
from dalsegno.expressions.pool.replies import Replies
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.value import decode, encode

_compiled = Compiled()


class PlayedPool:
    """Stands where the pool would, for all engines."""

    def __init__(self, timeline: Timeline, chance: random.Random) -> None:
        self.is_calm = False
        """Whether no process is killed any more."""
        self.on_done: Callable[[], None] = lambda: None
        """Called after each outcome: an engine may have something to do."""
        self._timeline = timeline
        self._chance = chance

    def import_too(self, module: str) -> None:
        """See Pool: here everything is imported already."""

    def submit(
        self, job: Evaluation | SchemaCheck, answers: Answers, owner: str, on_done: Callable[[JobOutcome], None]
    ) -> Ticket:
        """See Pool."""
        ticket = Ticket(job, answers, owner, on_done)
        delay_s = self._chance.choice([0.002, 0.02, 0.2, 1.5])
        self._timeline.later(delay_s, lambda: self._finish(ticket))
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """See Pool."""
        ticket.is_withdrawn = True

    def _finish(self, ticket: Ticket) -> None:
        if not ticket.is_withdrawn:
            ticket.on_done(self._outcome(ticket))
            self.on_done()

    def _outcome(self, ticket: Ticket) -> JobOutcome:
        if not self.is_calm and self._chance.random() < 0.05:
            return JobOutcome(error=f"{ticket.job.shown}: its process was killed, each time that it was tried")
        key = _key_of(ticket.job)
        if key in _constant:
            return _constant[key]
        value, error = None, ""
        try:
            value = _value_of(ticket)
        except (EvaluationError, UnfitSchema) as refusal:
            error = str(refusal)
        except Unanswered:
            pass
        if ticket.needed:
            return JobOutcome(needed=tuple(ticket.needed), asked=tuple(ticket.asked))
        outcome = JobOutcome(value, error, asked=tuple(ticket.asked))
        if key is not None and not ticket.asked:
            _constant[key] = outcome
        return outcome


_constant: dict[tuple[str, str, str, str] | None, JobOutcome] = {}
"""The outcomes of expressions that ask for nothing: each is evaluated once. The documents have none with a clock or
chance."""


def _key_of(job: object) -> tuple[str, str, str, str] | None:
    return (job.notation, job.language, job.text, job.place) if isinstance(job, Evaluation) else None


def _value_of(ticket: Ticket) -> object:
    job = ticket.job
    if isinstance(job, SchemaCheck):
        return find_problems(job.schema, job.answer)
    assert isinstance(job, Evaluation)
    channel: Any = _Channel(ticket)
    value = _compiled.get(job).evaluate_here(RemoteScope(channel, job.at_s, job.seed), job.place)
    return decode(encode(value))


class _Channel:
    """Stands where the channel between a process and the pool would: each question is answered at once."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._reply = Frame(Kind.UNKNOWN, b"")

    def send(self, kind: Kind, payload: bytes, grown_mib: int = 0) -> None:
        """Take a question."""
        question = Question(*json.loads(payload))
        try:
            reply = Replies().look_up(self._ticket.answers, question)
        except Unknown:
            self._ticket.needed.append(question)
            self._reply = Frame(Kind.UNKNOWN, b"")
        else:
            self._ticket.asked.append(Asked(question, reply.digest))
            self._reply = Frame(reply.kind, reply.payload)

    def receive(self) -> Frame:
        """Return the answer."""
        return self._reply
