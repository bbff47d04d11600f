"""A caller that waits for a job and answers its questions itself, in its own thread: a scope may read a store there."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dalsegno.expressions.pool.jobs import Answers, Outcome, Question, Unknown
from dalsegno.expressions.pool.replies import Later, Replies, Reply


class Caller:
    """Whoever waits for one job. It is the job's answers, and is told its outcome."""

    def __init__(self, answers: Answers, on_late: Callable[[Outcome], None] | None = None) -> None:
        """`answers` are asked in the caller's thread. `on_late` is told of an outcome that comes when nobody waits."""
        self._told: queue.SimpleQueue[Question | Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waits = True
        self._answers = answers
        self._on_late = on_late

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """The caller is asked, if it still waits."""
        with self._lock:
            if not self._waits:
                raise Unknown
            self._told.put(Question(question, arguments, named))
        raise Later

    def finish(self, outcome: Outcome) -> None:
        """The job is done."""
        with self._lock:
            if self._waits:
                self._told.put(outcome)
                return
        if self._on_late is not None:
            self._on_late(outcome)

    def wait(self, reply: Callable[[Question, Reply], None], for_s: float | None = None) -> Outcome | None:
        """Answer questions until the outcome is there. None when that takes more than `for_s` seconds; then nobody
        answers any more. `reply` takes what a question is answered with."""
        replies = Replies()
        ends_s = None if for_s is None else time.monotonic() + for_s
        while True:
            try:
                told = self._told.get(timeout=None if ends_s is None else max(0.0, ends_s - time.monotonic()))
            except queue.Empty:
                with self._lock:
                    if self._told.empty():
                        self._waits = False
                        return None
                continue
            if isinstance(told, Outcome):
                return told
            reply(told, replies.look_up(self._answers, told))
