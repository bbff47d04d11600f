"""The messages between the pool and a process about one job."""

from __future__ import annotations

import json
import signal

from dalsegno.expressions.pool.frames import LIMITS, Frame, Kind
from dalsegno.expressions.pool.jobs import Asked, Call, Evaluation, Job, JobOutcome, Question, Ticket, Unknown
from dalsegno.expressions.pool.limits import EXIT_MEMORY, MESSAGE_BYTES, Limits
from dalsegno.expressions.pool.processes import Process, is_runnable
from dalsegno.expressions.pool.replies import Later, Replies, Reply
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.value import UnfitValue, decode, encode

TOO_LONG = f"it gives or asks for more than {MESSAGE_BYTES // 1024 // 1024} MiB"


def begin(process: Process, ticket: Ticket, now_s: float) -> None:
    """Send a job to an idle process. Raises EvaluationError, without any change, if it cannot be sent."""
    kind, payload = _write(ticket.job)
    if len(payload) > MESSAGE_BYTES:
        raise EvaluationError(f"{ticket.job.shown}: {TOO_LONG}")
    limits = process.lane.limits
    if isinstance(ticket.job, Call):
        limits = Limits(ticket.job.limit_s, ticket.job.limit_s, ticket.job.memory_mib, starved_s=0.0)
    ticket.tries += 1
    process.ticket = ticket
    if process.limits != limits:
        process.limits = limits
        process.send(Kind.LIMITS, LIMITS.pack(limits.processor_s, limits.memory_mib))
    process.began_s = now_s
    process.due_s = now_s + limits.clock_s
    process.send(kind, payload)


def _write(job: Job) -> tuple[Kind, bytes]:
    if isinstance(job, Evaluation):
        fields = job.notation, job.text, job.language, job.place, job.at_s, job.seed
        return Kind.EVALUATE, json.dumps(fields).encode()
    if isinstance(job, Call):
        return Kind.CALL, b"%s\n%s" % (job.function.encode(), job.argument)
    try:
        return Kind.CHECK, encode([job.schema, job.answer]).encode()
    except (UnfitValue, RecursionError) as error:
        raise EvaluationError(f"{job.shown}: it cannot be checked: {error}") from None


def hear(process: Process, frame: Frame, replies: Replies) -> JobOutcome | None:
    """Answer the question of a process, or return the outcome of its job."""
    ticket = process.ticket
    assert ticket is not None
    if frame.kind is Kind.QUESTION:
        question = Question(*json.loads(frame.payload))
        try:
            answer(process, ticket, question, replies.look_up(ticket.answers, question))
        except Later:
            ticket.awaited = question
        except Unknown:
            ticket.needed.append(question)
            process.send(Kind.UNKNOWN, b"")
        return None
    asked = tuple(ticket.asked)
    if ticket.needed:
        return JobOutcome(needed=tuple(ticket.needed), asked=asked)
    if frame.kind is Kind.VALUE:
        value = frame.payload if isinstance(ticket.job, Call) else decode(frame.payload.decode())
        return JobOutcome(value, asked=asked)
    told = frame.payload.decode()
    is_complete = frame.kind is Kind.ERROR and not isinstance(ticket.job, Call)
    return JobOutcome(error=told if is_complete else f"{ticket.job.shown}: {told}", asked=asked)


def answer(process: Process, ticket: Ticket, question: Question, reply: Reply) -> None:
    """Send a process the reply to its question."""
    ticket.awaited = None
    ticket.asked.append(Asked(question, reply.digest))
    process.send(reply.kind, reply.payload)


def failed(ticket: Ticket, cause: str) -> JobOutcome:
    """Return the outcome of a job that its process did not finish."""
    return JobOutcome(error=f"{ticket.job.shown}: {cause}", asked=tuple(ticket.asked))


def is_overdue(process: Process, now_s: float) -> bool:
    """Return whether a job has taken too long. A job that only waits for a processor has more time."""
    limits = process.limits
    if now_s < process.began_s + limits.clock_s + limits.starved_s and is_runnable(process.pid):
        process.due_s = now_s + limits.clock_s / 10
        return False
    return True


def cause_of_end(code: int, peak_mib: int, limits: Limits) -> str:
    """Return why a process ended during a job, from its exit code, which is negative for a signal. Without enough
    memory libraries may crash without a message, so the text has the memory limit."""
    if code == EXIT_MEMORY:
        return f"it needs more than {limits.memory_mib} MiB of memory"
    if code == -signal.SIGPROF:
        return f"it takes more than {limits.processor_s:g} s of processor time"
    return f"its process crashed ({name_of_end(code)}, with {peak_mib} of {limits.memory_mib} MiB of memory)"


def name_of_end(code: int) -> str:
    """Return how a process ended."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
