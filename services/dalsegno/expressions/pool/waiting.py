"""A caller that waits for a job and answers its questions in its own thread, in which a scope may read a store."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from dalsegno.expressions.pool.jobs import Answers, JobOutcome, Question
from dalsegno.expressions.pool.replies import Later, Replies, Reply


class Caller:
    """The caller of one job: it gives the job's answers, and receives its outcome."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Question | JobOutcome] = queue.SimpleQueue()

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> NoReturn:
        """Raise Later: the caller answers later."""
        self._told.put(Question(question, arguments, named))
        raise Later

    def finish(self, outcome: JobOutcome) -> None:
        """Store the outcome of the job."""
        self._told.put(outcome)

    def wait(self, answers: Answers, reply: Callable[[Question, Reply], None]) -> JobOutcome:
        """Answer questions until the outcome arrives. `reply` receives the answers."""
        replies = Replies()
        while not isinstance(told := self._told.get(), JobOutcome):
            reply(told, replies.look_up(answers, told))
        return told
