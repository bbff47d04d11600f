"""The interface of an action: a decorator for a function, and what the function may return and raise.

    @action("pack.greet", safe_to_rerun=True)
    async def greet(name: str, greeting: str = "Hello") -> str:
        return f"{greeting}, {name}"

The signature gives the parameters: their names, which are required, their defaults; `**anything` accepts any other
name. Inputs are converted to the annotations (signature.py); one that does not fit is a failure, and the function does
not run. A parameter annotated `ActionContext` is not an input: it receives the context of the run. A name that is a
Python keyword has an underscore at its end: `from_` is the input `from`.

How a function runs follows from how it is written:

* `async def`: on the event loop, with all others. It must not block.
* `isolation="process"`: in a process of its own, which is killed when the action is stopped.
* `def`: in a thread; their number is limited (the executor's `--threads`).
* `def` with `blocking=False`: inline on the event loop. Only for what takes microseconds; it may return an awaitable if
  it has to wait.

What it returns is its result, `None` included, except DELEGATED: then a third party completes the action later (P7,
P10). What it raises is its failure; ActionFailed has data, ActionCancelled means that it was stopped.
"""

from __future__ import annotations

import inspect
import keyword
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, ParamSpec, TypeAlias, TypeVar

from dalsegno.actions.limits import Limits, read_limits
from dalsegno.actions.signature import Inputs, read_signature
from dalsegno.workflow.changes import Signature
from dalsegno.workflow.model import ActionDescription

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


@dataclass(frozen=True, slots=True)
class Delegated:
    """Returned by an action that a third party completes: with its task token, its id, or this alias."""

    alias: str = ""
    """Another name by which it may be completed, at most 255 characters; empty for none."""
    completion_timeout_s: float | None = None
    """The action fails unless it is completed within this time; None: it waits without a limit."""
    heartbeat_timeout_s: float | None = None
    """The action fails with `heartbeat missed` when the third party sends no heartbeat for this time, at least a
    second; None: it need not."""
    signature: Signature = Signature.NONE
    """How the third party signs its callbacks, with the `signing_key` of the context. Then those by alias and by token
    are refused without a valid signature."""


DELEGATED = Delegated()
"""The marker without an alias. (A bare None is an ordinary null result.)"""


class ActionFailed(Exception):
    """The action has failed, with this message; `result` is data about the failure that the workflow can read."""

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class ActionCancelled(Exception):
    """The action was stopped before its end: neither a success nor a failure."""


def _tell_nobody(text: str, fraction: float | None) -> None:
    """Ignore a progress report."""


@dataclass(frozen=True, slots=True)
class ActionContext:
    """The context in which an action runs."""

    action_execution_id: str
    delivery: int = 1
    namespace: str = ""
    execution_id: str = ""
    """Empty for a standalone action."""
    workflow: str = ""
    task_name: str = ""
    task_number: int = 0
    item: int | None = None
    """The index of the item of a with-items task, from 0; None: its task has no items."""
    attempt: int = 1
    safe_to_rerun: bool = False
    deadline_s: float | None = None
    """When it will be stopped, in seconds since 1970 by the engine's clock, which can differ from this machine's.
    None: never."""
    timeout_s: float | None = None
    """The time that it has, from its call; None: no limit."""
    task_token: str = field(default="", repr=False)
    """Everybody who has this secret may complete the action after it is delegated."""
    callback_url: str = field(default="", repr=False)
    """The address where a third party completes the action after it is delegated, by HTTP POST; it has the token in it.
    Empty when the engine has no address for third parties."""
    signing_key: str = field(default="", repr=False)
    """The secret by which the third party signs, for a `Delegated` with a `signature`."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """W3C headers: `traceparent`, `tracestate`."""
    has_secrets: bool = False
    """Whether there are secrets in its input. Log neither that nor the texts of errors then."""
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the outcome is not needed any more, for long blocking actions; an async one is cancelled instead."""
    tell: Callable[[str, float | None], None] = field(default=_tell_nobody, repr=False)
    """See `report`."""

    def report(self, text: str, fraction: float | None = None) -> None:
        """Report the progress of the action: a text of at most 1,000 characters, and a fraction if it is known.

        Call it at any time, from any thread: of several reports within a second the last is shown. Raises ValueError
        for a fraction below 0 or above 1.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"the fraction must be from 0 to 1, not {fraction}")
        self.tell(text, fraction)


class Action(Generic[P, R_co]):
    """A function that workflows can name. It can still be called as a function."""

    __slots__ = (
        "_accepted",
        "_inputs",
        "_renamed",
        "_required",
        "blocking",
        "context_parameter",
        "description",
        "function",
        "isolated",
        "limits",
        "name",
    )

    def __init__(
        self,
        function: Callable[P, R_co],
        description: ActionDescription,
        inputs: Inputs,
        blocking: bool,
        isolated: bool,
        limits: Limits,
    ) -> None:
        self.function = function
        self.name = description.name
        self.description = description
        self.blocking = blocking
        """Whether it uses a thread, if only to wait for its process."""
        self.isolated = isolated
        self.limits = limits
        self.context_parameter = inputs.context
        """The parameter that receives the ActionContext; empty if the function has none."""
        self._inputs = inputs
        self._required = frozenset(each.name for each in description.parameters if each.required)
        self._accepted = frozenset(each.name for each in description.parameters)
        self._renamed = tuple(each.name for each in description.parameters if keyword.iskeyword(each.name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def problem_with(self, given: Mapping[str, object]) -> str:
        """Return the errors of the input: all missing and unknown names; empty if there are none."""
        names = given.keys()
        missing = self._required - names
        unknown = () if self.description.accepts_any else names - self._accepted
        if self.context_parameter in names:
            unknown = {*unknown, self.context_parameter}
        problems = [f"missing: {', '.join(sorted(missing))}"] if missing else []
        problems += [f"unknown: {', '.join(sorted(unknown))}"] if unknown else []
        return "; ".join(problems)

    def arguments(self, given: dict[str, object]) -> dict[str, object]:
        """Convert the input, in place, to the arguments of the function. Raises TypeError if it does not fit."""
        if problem := self.problem_with(given) or self._inputs.convert(given):
            raise TypeError(f"input {problem}")
        for name in self._renamed:
            if name in given:
                given[f"{name}_"] = given.pop(name)
        return given


AnyAction: TypeAlias = Action[..., object]


def action(
    name: str,
    *,
    safe_to_rerun: bool = False,
    description: str = "",
    blocking: bool = True,
    isolation: Literal["none", "process"] = "none",
    concurrency: int | None = None,
    rate: str = "",
    typed: bool = True,
    answer_schema: str = "",
    answer_key: str = "",
) -> Callable[[Callable[P, R_co]], Action[P, R_co]]:
    """Make an action of the function. `safe_to_rerun`: it may run again after the loss of its executor, without harm.

    The default description is the first line of the docstring. `concurrency` is how many of it one executor runs at
    once, `rate` how many it starts in a period, like "10/s", "600/min" or "5/h". Without `typed`, inputs are not
    checked by the annotations. `answer_schema` and `answer_key` are for delegated actions, as in ActionDescription.
    Raises TypeError for an invalid function, name, isolation or limit.
    """

    if not isinstance(name, str):
        raise TypeError('an action needs a name by which workflows call it: @action("pack.name")')
    if not _NAME.fullmatch(name):
        raise TypeError(f"{name!r} is no name for an action: a word, or words joined by dots")
    if isolation not in ("none", "process") or (isolation == "process" and not blocking):
        raise TypeError(f"{name}: the isolation is 'none' or, of an action that may block, 'process'")
    try:
        limits = read_limits(concurrency, rate)
    except ValueError as error:
        raise TypeError(f"{name}: {error}") from None

    def decorate(function: Callable[P, R_co]) -> Action[P, R_co]:
        inputs = read_signature(function, typed=typed)
        parameters, accepts_any = inputs.parameters, inputs.accepts_any
        text = description or (inspect.getdoc(function) or "").partition("\n")[0]
        described = ActionDescription(
            name, parameters, accepts_any, safe_to_rerun, text, answer_schema=answer_schema, answer_key=answer_key
        )
        if answer_schema and answer_schema not in {each.name for each in parameters}:
            raise TypeError(f"{name} has no parameter {answer_schema}, which is to hold the schema of its answer")
        isolated = isolation == "process"
        if isolated and "<" in function.__qualname__:
            raise TypeError(
                f"{name} runs in a process of its own, which must find it: define it at the top of a module"
            )
        in_thread = isolated or (blocking and not inspect.iscoroutinefunction(function))
        return Action(function, described, inputs, in_thread, isolated, limits)

    return decorate
