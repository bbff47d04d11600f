"""A compiled workflow: the result of both front-ends, which the machine runs. Immutable, shared by executions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dalsegno.workflow.scope import Template


class Command(Enum):
    """The engine commands that a transition may name instead of a task."""

    NOOP = "noop"
    FAIL = "fail"
    SUCCEED = "succeed"
    PAUSE = "pause"
    CONTINUE = "continue"
    """Nothing follows; what was published reaches the output. A failure stays a failure."""
    RETRY = "retry"
    """The task is run again. It is compiled into the retry policy, so routing never meets it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared input. A default that is not constant is evaluated at the start, in the order of declaration."""

    name: str
    required: bool = True
    default: Template | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A possible next step: a task, or an engine command with an optional message."""

    target: str
    """The task's name, or the command's word when `command` is set."""
    when: Template | None = None
    """It is taken when this is true; None: always."""
    command: Command | None = None
    message: Template | None = None
    is_split: bool = False
    """Of an engine command: whether each arrival opens a route, as at a task."""


@dataclass(frozen=True, slots=True)
class Clause:
    """What follows when a task has ended in a certain state: what is published and what may begin."""

    branch: Template | None = None
    """A template that gives a dict: published to the tasks downstream."""
    globals: Template | None = None
    """A template that gives a dict: published to the whole execution."""
    next: tuple[Transition, ...] = ()


Assignments = tuple[tuple[str, Template], ...]
"""Names with their values, evaluated in order: each sees those before it."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch out of a task, with a condition, variables and targets of its own.

    All branches whose condition is true are taken, each with a context of its own: tasks behind one branch do not see
    what another one publishes.
    """

    when: Template | None = None
    """It is taken when this is true; None: always, after a failure too."""
    publish: Assignments = ()
    next: tuple[Transition, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """One `names in list` of a with-items task; several lists are walked in parallel (zipped)."""

    names: tuple[str, ...]
    values: Template


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt after a failure (or, with `continue_on`, after a success). Delay in seconds."""

    count: Template
    delay_s: Template
    break_on: Template | None = None
    continue_on: Template | None = None
    when: Template | None = None
    """Decides alone, after any verdict; None: the other fields decide."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies around the attempts of a task. Times in seconds. None: absent; a template may give the value
    later."""

    pause_before: Template | None = None
    wait_before_s: Template | None = None
    wait_after_s: Template | None = None
    timeout_s: Template | None = None
    """For each round of attempts, from its beginning."""
    limit_s: float | None = None
    """For one action, from when it is first handed out."""
    retry: Retry | None = None
    fail_on: Template | None = None
    concurrency: Template | None = None


class CheckpointPlace(Enum):
    """Where the entry of a checkpoint stands (decision 16)."""

    AFTER = "after"
    """The task has ended well, and its transitions are not evaluated yet."""
    BEFORE = "before"
    """The task is about to begin, and nothing of it is evaluated yet."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much history is kept when a checkpoint is reached: what either of the two keeps (decision 24)."""

    count: int = 0
    """How many of the newest entries are kept, with everything behind the oldest of them; 0: not given."""
    age_s: float | None = None
    """Everything since the oldest of its entries that are not older, in seconds; None: not given."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A named point of the flow, at a task."""

    name: str
    place: CheckpointPlace | None = CheckpointPlace.AFTER
    """None: BEFORE if the task runs a sub-workflow, which is known only when it is about to begin; else AFTER."""
    data: Assignments = ()
    """What each entry of it holds. Each sees what the task sees, and none of the others."""
    retry: int = 0
    """How often a failure that nothing handles goes back to an entry of it and on again (decision 22)."""
    delay_s: Template | None = None
    """How long it waits before it goes on again; None: not at all."""
    keep: Keep | None = None
    """What is discarded when an entry of it is reached; None: nothing."""


class RevertWhen(Enum):
    """After which ends of a task its revert action is called (decision 17)."""

    SUCCESS = "success"
    ALWAYS = "always"
    """After an end in ERROR or CANCELLED too."""


@dataclass(frozen=True, slots=True)
class Revert:
    """The action that undoes what a task did (decision 18)."""

    action: Template
    """Gives the name of an action or ad-hoc action."""
    input: Template | None = None
    """Gives the input, a dict."""
    when: RevertWhen = RevertWhen.SUCCESS
    retry: Retry | None = None
    timeout_s: Template | None = None
    safe_rerun: Template | None = None
    target: Template | None = None
    publish: Template | None = None
    """Gives a dict: an edit of what the entry's task published."""
    concurrency: Template | None = None
    """How many items of the task are reverted at once; None: one."""


@dataclass(frozen=True, slots=True)
class Task:
    """One node of the graph."""

    name: str
    action: Template | None = None
    """Gives the action's name; None together with `workflow` None is std.noop."""
    workflow: Template | None = None
    """Gives the sub-workflow's name."""
    input: Template | None = None
    """Gives the input, a dict."""
    items: tuple[Items, ...] = ()
    join: int | None = None
    """How many of `inbound` must select this task before it starts: JOIN_ALL: all; None: each arrival starts it."""
    inbound: tuple[str, ...] = ()
    """The tasks whose clauses mention this one, without repetition, in the order of the definition."""
    requires: tuple[str, ...] = ()
    """Reverse workflows: the tasks that must have succeeded before."""
    on_success: Clause = Clause()
    on_error: Clause = Clause()
    on_complete: Clause = Clause()
    on_skip: Clause = Clause()
    branches: tuple[Branch, ...] = ()
    """The branches, in languages that have them; the clauses are empty then."""
    is_split: bool = False
    """Whether each arrival opens a route of its own (orquesta/README.md#routes)."""
    is_in_cycle: bool = False
    publish: Template | None = None
    publish_on_error: Template | None = None
    publish_on_skip: Template | None = None
    policies: Policies = Policies()
    keep_result: bool = True
    keep_result_when: Template | None = None
    """An expression that decides whether the result is kept; None: as `keep_result` says."""
    safe_rerun: Template | None = None
    """Whether a lost action may be run again; None: as the action says."""
    target: Template | None = None
    """The label of the executor that should run the action; None: any."""
    secret: bool = False
    """Whether its result is a secret."""
    checkpoint: Checkpoint | None = None
    revert: Revert | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    spec: Mapping[str, object] = field(default_factory=dict, hash=False, compare=False)
    """The task as written, for `task().spec`."""

    @property
    def has_join(self) -> bool:
        return self.join is not None and self.join != 0


JOIN_ALL = -1
"""`join: all`."""


class Merge(Enum):
    """What happens to a variable that several branches published, where they meet."""

    MOST_PUBLISHED = "most published"
    """Leaf by leaf: the one that was published more often along its branch; on a tie that of the branch merged
    first."""
    LAST_ARRIVED = "last arrived"
    """What a branch has published since the fork is merged over what the branches before it brought."""


class PauseRule(Enum):
    """When an action that reports that it is paused pauses its execution."""

    AT_ONCE = "at_once"
    ONCE_QUIET = "once_quiet"
    """Once nothing else runs. An action that has become a delegate does the same."""


@dataclass(frozen=True, slots=True)
class FailureRules:
    """What a failure does to an execution."""

    ends_at_once: bool = False
    """An unhandled failure or a cancelled task ends the execution at once, not when nothing is left to run."""
    routes_when_ended: bool = False
    """Tasks that end after the execution has ended are published and routed at once, not when the execution runs
    again."""
    leaves_joins: bool = False
    """A join that can no longer be filled stays as it is and fails the execution; else the join itself fails."""
    notes_errors: bool = False
    """Errors are collected in a list on the execution, and a failure leaves the output as far as it can be
    evaluated."""


@dataclass(frozen=True, slots=True)
class CallRules:
    """How actions and workflows are called."""

    checks_input: bool = True
    """Input that is missing or not declared refuses the start, and fails a task by the description of its action. Else
    missing input is null, undeclared input is ignored, and the action itself checks its input when it runs."""
    finds_workflows: bool = False
    """`action` may name a workflow: the sub-workflow then runs, and its result is `{output, errors}`."""
    runs_noop: bool = True
    """A task without an action runs std.noop; else it succeeds at once, with nothing to run."""
    begins_together: bool = False
    """Tasks that are about to begin at the same time all begin, or none if what one of them runs cannot be
    evaluated."""


@dataclass(frozen=True, slots=True)
class ItemRules:
    """How a task runs over items."""

    stops_early: bool = False
    """No item begins once one has failed and no other is active."""
    by_function: bool = False
    """An expression gets the item from `item()`, not from a variable; a concurrency of 0 is 1."""


@dataclass(frozen=True, slots=True)
class ContextNames:
    """The variables under which a context tells about its execution; empty: none."""

    execution: str = ""
    caller: str = ""
    """Who has the execution run. A variable of the workflow with this name comes first."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The differences of the languages in how a workflow runs. The machine follows them and never asks for the
    language."""

    merge: Merge = Merge.MOST_PUBLISHED
    pause: PauseRule = PauseRule.AT_ONCE
    failures: FailureRules = FailureRules()
    calls: CallRules = CallRules()
    items: ItemRules = ItemRules()
    names: ContextNames = ContextNames()
    skip_keeps_result: bool = True
    """A task that is skipped with null keeps the result that it failed with; else null is its result."""


MISTRAL_RULES = Rules()
ORQUESTA_RULES = Rules(
    merge=Merge.LAST_ARRIVED,
    pause=PauseRule.ONCE_QUIET,
    failures=FailureRules(ends_at_once=True, routes_when_ended=True, leaves_joins=True, notes_errors=True),
    calls=CallRules(checks_input=False, finds_workflows=True, runs_noop=False, begins_together=True),
    items=ItemRules(stops_early=True, by_function=True),
    names=ContextNames(execution="st2", caller="parent"),
    skip_keeps_result=False,
)


class Then(Enum):
    """What follows when the execution has been reverted."""

    STOP = "stop"
    """It ends as REVERTED."""
    PAUSE = "pause"
    RETRY = "retry"
    """It goes on from the entry, up to `count` times."""


START = "start"
"""The name of the entry that every execution has: behind the creation of its first tasks."""
LAST = "last"
"""In a strategy: the newest entry that stands, `start` if there is none."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """What a failure that nothing handles sets off (decision 22)."""

    to: str = START
    """The name of a checkpoint, START or LAST."""
    then: Then = Then.STOP
    count: int = 1
    """With RETRY: how often an entry is gone back to."""
    delay_s: Template | None = None
    """With RETRY: how long it waits before it goes on; None: not at all."""


@dataclass(frozen=True, eq=False)
class Workflow:
    """One compiled workflow. Compared by identity."""

    name: str
    tasks: Mapping[str, Task]
    starts: tuple[str, ...] = ()
    """The tasks that no task leads to, in the order of the definition (direct workflows)."""
    reverse: bool = False
    """Runs backwards from a target task through `requires`; else forwards through clauses."""
    input: tuple[Parameter, ...] = ()
    vars: Template | None = None
    output: Template | None = None
    output_on_error: Template | None = None
    initial: Assignments = ()
    """Evaluated one by one at the start, after the input; each sees those before it."""
    outputs: Assignments = ()
    """The output's members, evaluated one by one, however the execution ends; each sees those before it."""
    pauses_on_failure: bool = False
    """A task that has failed without a handler pauses the execution instead of failing it."""
    strategy: Strategy | None = None
    """A failure that nothing handles has the execution reverted; None: it does not."""
    secrets: frozenset[str] = frozenset()
    """The inputs, variables and outputs that are secrets whatever they are made of."""
    reveal: frozenset[str] = frozenset()
    """The variables and outputs that are shown though they are made of secrets."""
    rules: Rules = MISTRAL_RULES
    description: str = ""
    tags: tuple[str, ...] = ()
    language: str = "mistral"
    """For display only: the machine never reads it."""
    workbook: str | None = None
    """The workbook this is a member of: its sub-workflows and ad-hoc actions are looked up there first."""
    spec: Mapping[str, object] = field(default_factory=dict, hash=False, compare=False)
    shape: dict[tuple[Any, ...], object] = field(default_factory=dict, compare=False, repr=False)
    """What graph.py has computed from it."""


@dataclass(frozen=True, slots=True)
class AdHocAction:
    """An action that is based on another one: its input is computed from its parameters, its output from the result."""

    name: str
    base: Template
    base_input: Template | None = None
    input: tuple[Parameter, ...] = ()
    output: Template | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    workbook: str | None = None


@dataclass(frozen=True, slots=True)
class ActionDescription:
    """The description of an action that executors run."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    accepts_any: bool = False
    """True for actions that take parameters they do not declare."""
    safe_to_rerun: bool = False
    description: str = ""
    answer_schema: str = ""
    """The parameter with the JSON schema of the answer by which a third party completes it; empty: any answer is
    accepted."""
    answer_key: str = ""
    """The result is then the parameters, with the answer under this key; empty: the answer is the result."""
    digest: str = ""
    """Identifies the whole description; empty for one that was never stored."""
    others: tuple[ActionDescription, ...] = ()
    """Other descriptions of the same action by which executors serve it now, the newest first."""

    def takes(self, given: Collection[str], added: Collection[str] = ()) -> bool:
        """Return whether the action accepts an input of these parameters: it takes each of them, and requires no others
        except those that are `added` to an input."""
        names = {parameter.name for parameter in self.parameters}
        return (self.accepts_any or all(name in names for name in given)) and all(
            parameter.name in given or parameter.name in added for parameter in self.parameters if parameter.required
        )

    def fitting(self, given: Collection[str], added: Collection[str] = ()) -> ActionDescription:
        """Return the newest description of the action that accepts this input; else the newest one."""
        return next((each for each in (self, *self.others) if each.takes(given, added)), self)

    def of_digest(self, digest: str) -> ActionDescription:
        """Return the description with this digest; when it is not known any more, the newest one."""
        return next((each for each in (self, *self.others) if each.digest == digest), self)
