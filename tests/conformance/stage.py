"""What a recorded case needs of the world that it is played in: the core alone (`core_stage`), or the real services
(`services_stage`).

There is one runner for each kind of case. It defines, starts, asks and reports through a Stage, and compares what the
Stage shows then, which is plain data: whichever world it came from, it is read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.world import Played

from dalsegno.definitions.calls import Signature
from dalsegno.workflow.events import Event

OPEN_ATTEMPT = {"READY", "RUNNING", "PAUSED"}
COMPLETED_EXECUTION = {"SUCCESS", "ERROR", "CANCELLED", "REVERTED", "REVERT_ERROR"}
QUIET_EXECUTION = {"PAUSING", "PAUSED", "CANCELLING", "CANCELLED"}
"""Of these nothing is handed out and nothing delayed continues."""

FOR_EVER_S = 1_000_000.0


class Refused(Exception):
    """What was asked for was refused."""


@dataclass(frozen=True, slots=True)
class Run:
    """An action that an executor was given to run."""

    id: str
    """The id of the action execution."""
    execution_id: str
    workflow: str
    task: str
    number: int
    """Of the task execution."""
    item: int
    action: str
    input: dict[str, Any]


Player = Callable[[Run], Played]
"""How an action ends; HOLD: not yet."""


@dataclass(frozen=True, slots=True)
class SeenProblem:
    """A problem of a definition."""

    category: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A task execution."""

    number: int
    name: str
    route: int
    state: str
    info: str
    published: dict[str, Any]
    items: int | None
    """How many items it has; None: it has none, or their list is not known yet."""


@dataclass(frozen=True, slots=True)
class SeenAttempt:
    """An action execution, or a child execution as the work of its parent's task."""

    id: str
    task: int
    item: int
    attempt: int
    action: str
    state: str
    accepted: bool
    input: Any
    delegated: bool
    child_id: str = ""
    is_filled: bool = False
    """Whether `input` shows declared defaults beside what was given."""


@dataclass(slots=True)
class SeenExecution:
    """An execution with what is in it."""

    id: str
    workflow: str
    state: str
    info: str
    output: Any
    errors: list[str]
    """The names of the tasks that its list of errors names."""
    revision: int
    parent_id: str = ""
    parent_task: int = 0
    tasks: dict[int, SeenTask] = field(default_factory=dict)
    attempts: list[SeenAttempt] = field(default_factory=list)
    """By round and item."""

    def tasks_of(self, name: str) -> list[SeenTask]:
        """The task executions of one task, in the order in which they were made."""
        return [task for task in self.tasks.values() if task.name == name]


class Stage(Protocol):
    """One case's world. What it shows is how it stood when it last came to rest (`settle`, `advance`)."""

    @property
    def now_s(self) -> float:
        """Its time, virtual or real."""
        ...

    @property
    def executions(self) -> Sequence[SeenExecution]:
        """All executions of the case in the order in which they were made."""
        ...

    @property
    def held(self) -> Sequence[Run]:
        """What executors have and nobody has answered, in the order in which it was handed out."""
        ...

    async def validate(
        self, text: str, name: str = "", *, actions: Mapping[str, Signature] | None = None, given: Collection[str] = ()
    ) -> list[SeenProblem]:
        """The problems of a document. `actions`: those that are registered, when that is known; `given`: variables that
        are there before the input."""
        ...

    async def define(self, text: str, *, name: str = "", namespace: str = "") -> None:
        """Store a document. Raises Refused."""
        ...

    async def put_environment(self, name: str, variables: object) -> None:
        """Store an environment. Raises Refused."""
        ...

    async def start(
        self, workflow: str, input: object, *, params: Mapping[str, Any] | None = None, namespace: str = ""
    ) -> str:
        """Start an execution; its id. Raises Refused."""
        ...

    async def ask(self, execution_id: str, request: Event) -> None:
        """Pause, resume, cancel or rerun: what a person may ask of an execution. Raises Refused."""
        ...

    async def report(self, attempt: str, played: Played) -> None:
        """What whoever has an action, executor or third party, tells of it. Raises Refused when it does not count."""
        ...

    async def respond(self, attempt: str, response: object) -> None:
        """Answer an action that asks somebody. Raises Refused when it does not count."""
        ...

    async def settle(self) -> None:
        """Let everything happen that happens by itself now."""
        ...

    async def advance(self, end_s: float) -> bool:
        """Let the next thing happen that takes its time, an answer or a timer, if it does by then, and what follows at
        once from it. False when there is no such thing."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let so much time go by."""
        ...


async def finish(stage: Stage) -> None:
    """Let everything happen that happens by itself, ever."""
    await stage.settle()
    while await stage.advance(stage.now_s + FOR_EVER_S):
        pass


def find(stage: Stage, execution_id: str) -> SeenExecution:
    """The execution of that id, as it is seen now."""
    return next(each for each in stage.executions if each.id == execution_id)


def children(stage: Stage, execution: SeenExecution) -> list[SeenExecution]:
    """The executions that its tasks started."""
    return [each for each in stage.executions if each.parent_id == execution.id]


def path_of(stage: Stage, execution: SeenExecution) -> str:
    """The tasks that lead from the root to a sub-workflow."""
    names: list[str] = []
    while execution.parent_id:
        parent = find(stage, execution.parent_id)
        names.insert(0, parent.tasks[execution.parent_task].name)
        execution = parent
    return "/".join(names)
