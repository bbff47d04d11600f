"""What the pool is asked to do, what it asks back, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SHOWN_CHARACTERS = 200

Problem = tuple[str, str]
"""A place in an answer, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One expression or text."""

    notation: str
    """"yaql" or "jinja" for an expression, "jinja text" for a text with expressions and blocks in it, "text" for one
    that has expressions of either kind in it."""
    text: str
    language: str
    """The name of a workflow language (language.py)."""
    place: str
    """Where it stands in its definition: `uuid()` of two places differs."""
    at_s: float
    seed: str

    @property
    def shown(self) -> str:
        """How errors name it."""
        cut = self.text if len(self.text) <= SHOWN_CHARACTERS else f"{self.text[:SHOWN_CHARACTERS]}…"
        return f"<% {cut} %>" if self.notation == "yaql" else cut


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """What is wrong with an answer, by the JSON schema that it must fit (answers.py). Its value: a list of pairs."""

    schema: object
    answer: object

    @property
    def shown(self) -> str:
        """How errors name it."""
        return "the schema of the answer"


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a module that the template has imported: from bytes to bytes."""

    function: str
    """`module:function`."""
    argument: bytes
    shown: str
    """How errors name it."""
    limit_s: float
    memory_mib: int


Job = Evaluation | SchemaCheck | Call


@dataclass(frozen=True, slots=True)
class Question:
    """A method of Scope with its arguments: what a job asks."""

    name: str
    arguments: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a job, and the digest of what it was told (replies.digest_of gives the same while that is so)."""

    question: Question
    digest: str


class Unknown(Exception):
    """Nobody can say without asking the owner again."""


class Answers(Protocol):
    """What is known of a scope, asked in the pool's thread. Answers at once, from anything that no other thread
    changes meanwhile: whoever waits here holds up every evaluation."""

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """What the scope's method of that name gives. Raises KeyError where there is no such variable, EvaluationError
        as the scope does, and Unknown."""
        ...


class Nothing:
    """The answers for a job that asks nothing."""

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Nobody knows."""
        raise Unknown


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What a job came to: a value, or else an error, or else questions."""

    value: Any = None
    error: str = ""
    needed: tuple[Question, ...] = ()
    """What the answers did not know. There is no value then: submit the job again with more answers."""
    asked: tuple[Asked, ...] = ()
    """Everything that it was told of the scope, each question once."""


class Ticket:
    """A job that somebody waits for. All of it but `is_withdrawn` is the pool's own."""

    __slots__ = ("answers", "asked", "awaited", "is_withdrawn", "job", "needed", "on_done", "owner", "tries")

    def __init__(self, job: Job, answers: Answers, owner: str, on_done: Callable[[JobOutcome], None]) -> None:
        self.job = job
        self.answers = answers
        self.owner = owner
        self.on_done = on_done
        self.is_withdrawn = False
        self.tries = 0
        """How often a process has begun it."""
        self.asked: list[Asked] = []
        self.needed: list[Question] = []
        self.awaited: Question | None = None
        """A question that its owner answers in a thread of its own (waiting.py)."""
