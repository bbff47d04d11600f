"""The jobs of the pool, their questions, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SHOWN_CHARACTERS = 200

Problem = tuple[str, str]
"""A place in an answer, and the error."""


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
    """Its place in the definition: `uuid()` of two places differs."""
    at_s: float
    seed: str

    @property
    def shown(self) -> str:
        """Return its name for errors."""
        cut = self.text if len(self.text) <= SHOWN_CHARACTERS else f"{self.text[:SHOWN_CHARACTERS]}…"
        return f"<% {cut} %>" if self.notation == "yaql" else cut


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """A check of an answer with its JSON schema (answers.py). Its value: a list of pairs."""

    schema: object
    answer: object

    @property
    def shown(self) -> str:
        """Return its name for errors."""
        return "the schema of the answer"


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a module that the template has imported: from bytes to bytes."""

    function: str
    """`module:function`."""
    argument: bytes
    shown: str
    """Return its name for errors."""
    limit_s: float
    memory_mib: int


Job = Evaluation | SchemaCheck | Call


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a job: a method of Scope with its arguments."""

    name: str
    arguments: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a job, and the digest of the answer (equal to replies.digest_of while the answer is equal)."""

    question: Question
    digest: str


class Unknown(Exception):
    """Only the owner has the answer."""


class Answers(Protocol):
    """The known answers of a scope, for the pool's thread. They must return at once, from data that no other thread
    changes, because waiting here delays all evaluations."""

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Return the result of the scope's method. Raises KeyError if the variable does not exist, EvaluationError like
        the scope, and Unknown."""
        ...


class Nothing:
    """The answers for a job without questions."""

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Raise Unknown."""
        raise Unknown


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The outcome of a job: a value, an error, or questions."""

    value: Any = None
    error: str = ""
    needed: tuple[Question, ...] = ()
    """Questions without an answer. Then there is no value: submit the job again with more answers."""
    asked: tuple[Asked, ...] = ()
    """All answers that it received about the scope, each question once."""


class Ticket:
    """A submitted job. Only the pool uses its fields, except `is_withdrawn`."""

    __slots__ = ("answers", "asked", "awaited", "is_withdrawn", "job", "needed", "on_done", "owner", "tries")

    def __init__(self, job: Job, answers: Answers, owner: str, on_done: Callable[[JobOutcome], None]) -> None:
        self.job = job
        self.answers = answers
        self.owner = owner
        self.on_done = on_done
        self.is_withdrawn = False
        self.tries = 0
        """The number of times that a process has started it."""
        self.asked: list[Asked] = []
        self.needed: list[Question] = []
        self.awaited: Question | None = None
        """A question that its owner answers in the owner's thread (waiting.py)."""
