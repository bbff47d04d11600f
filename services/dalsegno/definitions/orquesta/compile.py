"""Inspect and compile an Orquesta workflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dalsegno.definitions.orquesta.graph import Graph
from dalsegno.definitions.orquesta.inspect import inspect_workflow
from dalsegno.definitions.orquesta.parts import RETRY, Assignment, ReadRevert, ReadTask, Retries, Transition
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import EXPRESSION, Path
from dalsegno.definitions.reverts import OnFailure
from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.expressions.language import ORQUESTA
from dalsegno.workflow import model
from dalsegno.workflow.model import (
    JOIN_ALL,
    ORQUESTA_RULES,
    Branch,
    Checkpoint,
    CheckpointPlace,
    Command,
    Items,
    Parameter,
    Policies,
    Retry,
    Revert,
    Strategy,
    Task,
)
from dalsegno.workflow.scope import Constant, EvaluationError, Scope, Template

COMMAND_RETRIES = 3
"""The number of times that `do: retry` repeats a task."""

_COMMANDS = {command.value: command for command in (Command.NOOP, Command.CONTINUE, Command.FAIL)}


def compile_workflow(reader: Reader, data: dict[str, Any], name: str = "") -> model.Workflow:
    """Compile the workflow of a document; with problems, it is incomplete.

    StackStorm's files do not contain the name of their workflow, so the caller gives it; else it is the document's
    `name`, or "" without one.
    """
    own_name = data.get("name")
    name = name or (own_name if isinstance(own_name, str) else "")
    read, graph = inspect_workflow(reader, data)
    if name:
        reader.workflow_name(name, ("name",))
    compiler = _Compiler(reader, graph)
    description = data.get("description")
    tags = data.get("tags")
    return model.Workflow(
        name=name,
        tasks={task.name: compiler.task(task) for task in read.tasks.values()},
        starts=graph.starts,
        input=compiler.parameters(read.input),
        initial=compiler.assignments(read.vars, ("vars",)),
        outputs=compiler.assignments(read.output, ("output",)),
        pauses_on_failure=read.on_failure.pauses,
        strategy=compiler.strategy(read.on_failure),
        secrets=read.secrets,
        reveal=read.reveal,
        rules=ORQUESTA_RULES,
        description=description if isinstance(description, str) else "",
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        language="orquesta",
        spec={**data, "name": name},
    )


class _Compiler:
    """Compiles the tasks of one inspected workflow."""

    def __init__(self, reader: Reader, graph: Graph) -> None:
        self._reader = reader
        self._graph = graph
        self._was_faultless = reader.is_faultless

    def task(self, read: ReadTask) -> Task:
        call, name = read.call, read.name
        inbound = tuple(dict.fromkeys(self._graph.inbound[name]))
        return Task(
            name=name,
            action=self._optional(call.action or None, call.action_path),
            input=self._optional(call.input, call.input_path),
            items=self._items(read),
            join=_join(read, bool(inbound)),
            inbound=inbound,
            branches=self._branches(read),
            is_split=self._graph.is_split(name),
            is_in_cycle=name in self._graph.cyclic,
            policies=self._policies(read),
            safe_rerun=self._optional(read.safe_rerun, (*read.path, "safe-rerun")),
            target=self._optional(read.target, (*read.path, "target")),
            checkpoint=self._checkpoint(read),
            revert=self._revert(read.revert),
            secret=read.secret,
            spec={**read.data, "name": name},
        )

    def parameters(self, read: Iterable[Assignment]) -> tuple[Parameter, ...]:
        """Return the declared inputs. None is required: a missing one has its default or is null."""
        compiled = self.assignments(read, ("input",))
        return tuple(Parameter(name, required=False, default=default) for name, default in dict(compiled).items())

    def strategy(self, read: OnFailure) -> Strategy | None:
        """Return what a failure sets off; None if nothing is reverted."""
        if not read.to:
            return None
        return Strategy(read.to, read.then, read.count, self._seconds(read.delay, (*read.path, "delay")))

    def assignments(self, read: Iterable[Assignment], path: Path) -> model.Assignments:
        """Compile assignments; items without a name have been refused."""
        return tuple(
            (each.name, self._template(each.value, (*path, index, each.name)))
            for index, each in enumerate(read)
            if each.name
        )

    def _template(self, value: object, path: Path) -> Template:
        return compile_template(value, self._note, path, language=ORQUESTA)

    def _optional(self, value: object, path: Path) -> Template | None:
        return None if value is None else self._template(value, path)

    def _note(self, problem: ExpressionProblem) -> None:
        """Add a problem that the inspection did not find, so that the definition is refused anyway."""
        if self._was_faultless:
            self._reader.fault(problem.path, problem.message, category=EXPRESSION)

    def _items(self, read: ReadTask) -> tuple[Items, ...]:
        if read.items is None:
            return ()
        return (Items(read.items.names, self._template(read.items.text, read.items.path)),)

    def _policies(self, read: ReadTask) -> Policies:
        items = read.items
        return Policies(
            wait_before_s=self._seconds(read.delay, (*read.path, "delay")),
            retry=self._retry(read),
            concurrency=None if items is None else self._concurrency(items.concurrency, (*read.path, "with")),
        )

    def _checkpoint(self, read: ReadTask) -> Checkpoint | None:
        """Compile a checkpoint. Without `when` the machine finds out whether the action is a workflow (decision 16)."""
        written = read.checkpoint
        if written is None:
            return None
        path = (*read.path, "checkpoint", "data")
        data = tuple((name, self._template(value, (*path, name))) for name, value in written.data.items())
        place = written.place if written.place or read.call.action else CheckpointPlace.AFTER
        delay_s = self._seconds(written.delay, (*read.path, "checkpoint", "delay"))
        return Checkpoint(written.name, place, data, written.retry, delay_s, written.keep)

    def _revert(self, read: ReadRevert | None) -> Revert | None:
        if read is None:
            return None
        call, keys, path = read.call, read.keys, read.path
        return Revert(
            action=self._template(call.action, call.action_path),
            input=self._optional(call.input, call.input_path),
            when=read.when,
            retry=self._retry_policy(read.retry),
            timeout_s=self._seconds(keys.get("timeout") or None, (*path, "timeout")),
            safe_rerun=self._optional(keys.get("safe-rerun"), (*path, "safe-rerun")),
            target=self._optional(keys.get("target"), (*path, "target")),
            publish=self._optional(keys.get("publish"), (*path, "publish")),
            concurrency=self._optional(keys.get("concurrency"), (*path, "concurrency")),
        )

    def _concurrency(self, value: object, path: Path) -> Template | None:
        """Compile `concurrency`: in Orquesta a value below one counts as one."""
        template = self._optional(value, (*path, "concurrency"))
        return None if template is None else _at_least(1, template)

    def _seconds(self, value: object, path: Path) -> Template | None:
        """Compile whole seconds. The value of an expression must be that, too, or null."""
        template = self._optional(value, path)
        return template if template is None or isinstance(template, Constant) else _WholeSeconds(template)

    def _retry(self, read: ReadTask) -> Retry | None:
        """Return the retry of the last `do: retry`, else that of `retry`."""
        commands = [each for each in read.transitions if any(target.name == RETRY for target in each.targets)]
        if commands:
            when = self._optional(commands[-1].when, (*commands[-1].path, "when"))
            return Retry(Constant(COMMAND_RETRIES), Constant(0), when=when or Constant(True))
        return self._retry_policy(read.retry)

    def _retry_policy(self, retry: Retries | None) -> Retry | None:
        if retry is None:
            return None
        count = self._optional(retry.count, (*retry.path, "count"))
        return Retry(
            count=Constant(0) if count is None else _at_least(0, count),
            delay_s=self._seconds(retry.delay, (*retry.path, "delay")) or Constant(0),
            when=self._optional(retry.when, (*retry.path, "when")),
        )

    def _branches(self, read: ReadTask) -> tuple[Branch, ...]:
        branches = []
        for transition in read.transitions:
            following = self._next(transition)
            if following:  # a transition that leads only to `retry` is no branch
                when = self._optional(transition.when, (*transition.path, "when"))
                published = self.assignments(transition.publish, (*transition.path, "publish"))
                branches.append(Branch(when, published, following))
        return tuple(branches)

    def _next(self, transition: Transition) -> tuple[model.Transition, ...]:
        """Return the targets ordered by name, as in Orquesta, none twice."""
        names = sorted({target.name for target in transition.targets} - {RETRY})
        return tuple(
            model.Transition(name, command=_COMMANDS.get(name), is_split=self._graph.command_counts.get(name, 0) > 1)
            for name in names
        )


class _AtLeast:
    """A number with a minimum. A value that is not a whole number is unchanged."""

    __slots__ = ("least", "template")

    def __init__(self, least: int, template: Template) -> None:
        self.least = least
        self.template = template

    def evaluate(self, scope: Scope) -> object:
        return _raised(self.least, self.template.evaluate(scope))


def _at_least(least: int, template: Template) -> Template:
    return Constant(_raised(least, template.value)) if isinstance(template, Constant) else _AtLeast(least, template)


def _raised(least: int, value: object) -> object:
    return least if isinstance(value, int) and not isinstance(value, bool) and value < least else value


class _WholeSeconds:
    """A delay from an expression: a whole number; a negative one means no delay."""

    __slots__ = ("template",)

    def __init__(self, template: Template) -> None:
        self.template = template

    def evaluate(self, scope: Scope) -> object:
        value = self.template.evaluate(scope)
        if isinstance(value, bool) or not isinstance(value, int):
            raise EvaluationError(f"a delay must be a whole number of seconds, not {value!r:.100}")
        return max(value, 0)


def _join(read: ReadTask, has_inbound: bool) -> int | None:
    """Return the number of tasks for a join. `join: 0` begins with the first one and, as a join, runs once."""
    if read.join is None or not has_inbound:
        return None
    return JOIN_ALL if isinstance(read.join, str) else max(read.join, 1)
