"""A caller that waits for a job and answers its questions itself, in its own thread: a scope may read a store there."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from dalsegno.expressions.pool.jobs import Answers, JobOutcome, Question
from dalsegno.expressions.pool.replies import Later, Replies, Reply


class Caller:
    """Whoever waits for one job. It is the job's answers, and is told its outcome."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Question | JobOutcome] = queue.SimpleQueue()

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> NoReturn:
        """The caller answers later."""
        self._told.put(Question(question, arguments, named))
        raise Later

    def finish(self, outcome: JobOutcome) -> None:
        """The job is done."""
        self._told.put(outcome)

    def wait(self, answers: Answers, reply: Callable[[Question, Reply], None]) -> JobOutcome:
        """Look up what is asked until the outcome is there. `reply` takes what a question is answered with."""
        replies = Replies()
        while not isinstance(told := self._told.get(), JobOutcome):
            reply(told, replies.look_up(answers, told))
        return told
