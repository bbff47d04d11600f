"""The port that an action is written against: a decorator on a function, and what the function may return and raise.

    @action("pack.greet", safe_to_rerun=True)
    async def greet(name: str, greeting: str = "Hello") -> str:
        return f"{greeting}, {name}"

The signature gives the parameters: their names, which are required, their defaults; `**anything` accepts any other
name. A parameter annotated `ActionContext` is not an input: it receives where the action runs. A name that is a word of
Python's is written with an underscore behind it: `from_` is the input `from`.

How a function runs follows from how it is written:

* `async def`: on the event loop, beside all others. It must not block.
* `def`: in a thread, of which there are few (the executor's `--threads`).
* `def` with `blocking=False`: inline on the event loop. Only for what is done in microseconds; it may return an
  awaitable when it finds that it has to wait after all.

What it returns is its result, `None` included, except DELEGATED: then a third party completes the action later (P7,
P10). What it raises is its failure; ActionFailed carries data along, ActionCancelled says that it was stopped.
"""

from __future__ import annotations

import inspect
import keyword
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, TypeVar

from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.scope import Constant

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


@dataclass(frozen=True, slots=True)
class Delegated:
    """Returned by an action that a third party completes: with its task token, its id, or this alias."""

    alias: str = ""
    """Another name by which it may be completed, at most 255 characters; empty for none."""
    completion_timeout_s: float | None = None
    """The action fails unless it has been completed within this time; None: it waits for ever."""


DELEGATED = Delegated()
"""The marker without an alias. (A bare None is an ordinary null result.)"""


class ActionFailed(Exception):
    """The action has failed, in these words; `result` is data about the failure that the workflow can read."""

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class ActionCancelled(Exception):
    """The action was stopped before its end: neither a success nor a failure."""


def _tell_nobody(text: str, fraction: float | None) -> None:
    """Where an action is called by nobody who shows its progress."""


@dataclass(frozen=True, slots=True)
class ActionContext:
    """Where an action runs."""

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
    """When it will be stopped, in seconds since 1970 by the engine's clock, which need not be this machine's: for
    people. None: never."""
    timeout_s: float | None = None
    """How long it may take, from when it is called; None: any time."""
    task_token: str = field(default="", repr=False)
    """With this anyone may complete the action once it is delegated. A secret."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """W3C headers: `traceparent`, `tracestate`."""
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the outcome no longer counts. A long blocking action looks at it; an async one is cancelled instead."""
    tell: Callable[[str, float | None], None] = field(default=_tell_nobody, repr=False)
    """See `report`."""

    def report(self, text: str, fraction: float | None = None) -> None:
        """Say how far the action has come: in a few words (at most 1,000 characters), and from 0 to 1 if that is known.

        As often as it likes, from any thread: of several within a second the last is shown. Raises ValueError for a
        fraction beyond 0 and 1.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"the fraction must be from 0 to 1, not {fraction}")
        self.tell(text, fraction)


class Action(Generic[P, R_co]):
    """A function that workflows can name. Still callable as the function it was."""

    __slots__ = (
        "_accepted", "_renamed", "_required", "blocking", "context_parameter", "description", "function", "name",
    )  # fmt: skip

    def __init__(
        self, function: Callable[P, R_co], description: ActionDescription, blocking: bool, context: str
    ) -> None:
        self.function = function
        self.name = description.name
        self.description = description
        self.blocking = blocking
        self.context_parameter = context
        """The parameter that receives the ActionContext; empty when the function does not ask for it."""
        self._required = frozenset(each.name for each in description.parameters if each.required)
        self._accepted = frozenset(each.name for each in description.parameters)
        self._renamed = tuple(each.name for each in description.parameters if keyword.iskeyword(each.name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def problem_with(self, given: Mapping[str, object]) -> str:
        """What is wrong with the input: names that are missing or unknown, all of them; empty when nothing is."""
        names = given.keys()
        missing = self._required - names
        unknown = () if self.description.accepts_any else names - self._accepted
        if self.context_parameter in names:
            unknown = {*unknown, self.context_parameter}
        problems = [f"missing: {', '.join(sorted(missing))}"] if missing else []
        problems += [f"unknown: {', '.join(sorted(unknown))}"] if unknown else []
        return "; ".join(problems)

    def arguments(self, given: dict[str, object]) -> dict[str, object]:
        """The input, which is altered, as the function takes it."""
        for name in self._renamed:
            if name in given:
                given[f"{name}_"] = given.pop(name)
        return given


def action(
    name: str,
    *,
    safe_to_rerun: bool = False,
    description: str = "",
    blocking: bool = True,
    answer_schema: str = "",
    answer_key: str = "",
) -> Callable[[Callable[P, R_co]], Action[P, R_co]]:
    """Make an action of the function. `safe_to_rerun`: running it twice does no harm, so it may be when it was lost.

    The description is the first line of the docstring when none is given. `answer_schema` and `answer_key` are for
    what a third party completes, as in ActionDescription. Raises TypeError for a function or name that cannot be one.
    """

    def decorate(function: Callable[P, R_co]) -> Action[P, R_co]:
        if not _NAME.fullmatch(name):
            raise TypeError(f"{name!r} is no name for an action: a word, or words joined by dots")
        parameters, accepts_any, context = _read_signature(function)
        text = description or (inspect.getdoc(function) or "").partition("\n")[0]
        described = ActionDescription(
            name, parameters, accepts_any, safe_to_rerun, text, answer_schema=answer_schema, answer_key=answer_key
        )
        if answer_schema and answer_schema not in {each.name for each in parameters}:
            raise TypeError(f"{name} has no parameter {answer_schema}, which is to hold the schema of its answer")
        in_thread = blocking and not inspect.iscoroutinefunction(function)
        return Action(function, described, in_thread, context)

    return decorate


def _read_signature(function: Callable[..., object]) -> tuple[tuple[Parameter, ...], bool, str]:
    """The parameters, whether any other is accepted, and the name of the one that takes the context."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # an annotation that exists for type checkers only
        signature = inspect.signature(function)
    parameters: list[Parameter] = []
    accepts_any, context = False, ""
    for each in signature.parameters.values():
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise TypeError(f"{function.__qualname__}: {each} cannot be given by name")
        if each.kind is each.VAR_KEYWORD:
            accepts_any = True
        elif each.annotation is ActionContext or str(each.annotation).rpartition(".")[2] == "ActionContext":
            context = each.name
        elif each.default is each.empty:
            parameters.append(Parameter(_input_name(each.name)))
        else:
            default = list(each.default) if isinstance(each.default, tuple) else each.default
            parameters.append(Parameter(_input_name(each.name), required=False, default=Constant(default)))
    return tuple(parameters), accepts_any, context


def _input_name(parameter: str) -> str:
    """What the input is called: `from_` is `from`, for Python has no parameter of that name."""
    return parameter[:-1] if parameter.endswith("_") and keyword.iskeyword(parameter[:-1]) else parameter
