"""Jinja, sandboxed and compiled once. `_` is the context; the functions are globals and filters alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, nodes, pass_context
from jinja2.environment import Template, TemplateExpression
from jinja2.exceptions import TemplateSyntaxError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dalsegno.expressions import functions
from dalsegno.expressions.budget import TEXT_LENGTH, Budget
from dalsegno.expressions.isolation import evaluate_apart
from dalsegno.expressions.jinja_cost import is_simple
from dalsegno.expressions.values import finish
from dalsegno.expressions.yaql.evaluate import shorten
from dalsegno.expressions.yaql.parse import SyntaxProblem
from dalsegno.workflow.scope import EvaluationError, Scope

Path = tuple[str, ...]


class Variables(Mapping[str, Any]):
    """`_`: asks the scope for single variables, and for all of them only when somebody walks through it."""

    __slots__ = ("budget", "scope")

    def __init__(self, scope: Scope, budget: Budget) -> None:
        self.scope = scope
        self.budget = budget

    def __getitem__(self, name: str) -> Any:
        return self.scope.variable(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.scope.variables())

    def __len__(self) -> int:
        return len(self.scope.variables())

    def __repr__(self) -> str:
        return repr(self.scope.variables())


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox; a name after a dot is a key of a dict first, and a method of it only when there is no such key."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)


def _running(context: Context) -> Variables:
    running = context.parent.get("_")
    if not isinstance(running, Variables):
        raise EvaluationError("the context is not there")
    return running


def _on_scope(function: Callable[..., object]) -> Callable[..., object]:
    @pass_context
    def call(context: Context, *values: object, **named: object) -> object:
        running = _running(context)
        return function(running.scope, running.budget, *values, **named)

    return call


def _on_budget(function: Callable[..., object]) -> Callable[..., object]:
    @pass_context
    def call(context: Context, value: object) -> object:
        return function(_running(context).budget, value)

    return call


@pass_context
def _uuid(context: Context) -> str:
    running = _running(context)
    return functions.uuid(running.scope, running.budget)


@pass_context
def _choose(context: Context, items: Any) -> object:
    """The filter `random`, from the event's seed."""
    running = _running(context)
    return functions.draw(running.scope, running.budget).choice(items)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "task": _on_scope(functions.task),
    "tasks": _on_scope(functions.tasks),
    "execution": _on_scope(functions.execution),
    "executions": _on_scope(functions.executions),
    "env": _on_scope(functions.env),
    "global": _on_scope(functions.global_),
    "uuid": _uuid,
    "json_dump": _on_budget(functions.json_dump),
    "json_parse": _on_budget(functions.json_parse),
    "yaml_dump": _on_budget(functions.yaml_dump),
    "yaml_parse": _on_budget(functions.yaml_parse),
}


class Named(dict[str, Any]):
    """Filters or tests by name. Jinja compiles an expression with an unknown one, as Mistral has it, and it fails when
    it is evaluated: the branch that uses it may never run."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, _refuse_unknown)


def _refuse_unknown(*values: object) -> object:
    raise EvaluationError("there is no such filter or test")


@lru_cache(maxsize=1)
def environment() -> Environment:
    # Not optimized: that would compute constants while compiling, a billion characters if somebody says so.
    made = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, optimized=False)
    made.globals.update(FUNCTIONS)
    made.filters = Named(made.filters | FUNCTIONS)
    made.tests = Named(made.tests)
    return made


class JinjaExpression:
    """`{{ … }}` alone: its value keeps its type."""

    __slots__ = ("compiled", "path", "simple", "text")

    def __init__(self, text: str, compiled: TemplateExpression, path: Path | None, simple: bool) -> None:
        self.text = text
        self.compiled = compiled
        self.path = path
        self.simple = simple

    def evaluate(self, scope: Scope, place: str = "") -> object:
        """The value as plain JSON data. Raises EvaluationError."""
        if not self.simple:
            return evaluate_apart("jinja", self.text, scope, place)
        return self.evaluate_here(scope, place)

    def evaluate_here(self, scope: Scope, place: str) -> object:
        """The same in this process, whatever it takes. Raises EvaluationError."""
        return _evaluate(self.text, scope, place, self._value)

    def _value(self, variables: Variables) -> object:
        if self.path is not None:
            return _follow(variables, self.path)
        value = self.compiled(_=variables)
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        return value


class JinjaText:
    """A text with expressions and blocks in it: its value is text."""

    __slots__ = ("compiled", "simple", "text")

    def __init__(self, text: str, compiled: Template, simple: bool) -> None:
        self.text = text
        self.compiled = compiled
        self.simple = simple

    def evaluate(self, scope: Scope, place: str = "") -> object:
        """The rendered text. Raises EvaluationError."""
        if not self.simple:
            return evaluate_apart("jinja text", self.text, scope, place)
        return self.evaluate_here(scope, place)

    def evaluate_here(self, scope: Scope, place: str) -> object:
        """The same in this process, whatever it takes. Raises EvaluationError."""
        return _evaluate(self.text, scope, place, self._value)

    def _value(self, variables: Variables) -> object:
        parts = []
        for part in self.compiled.generate(_=variables):
            variables.budget.build(len(part))
            parts.append(part)
        return "".join(parts)


def _evaluate(text: str, scope: Scope, place: str, value: Callable[[Variables], object]) -> object:
    budget = Budget(place)
    try:
        found = value(Variables(scope, budget))
        return finish(scope.variables() if isinstance(found, Variables) else found, budget)
    except EvaluationError as error:
        cause = str(error)
    except TemplateError as error:
        cause = error.message or type(error).__name__
    except RecursionError:
        cause = "it nests too deeply"
    except MemoryError:
        raise
    except Exception as error:
        # Filters and methods raise whatever they like, and all of it is the expression's fault.
        cause = f"{type(error).__name__}: {error}"
    raise EvaluationError(f"{shorten(text, 200)}: {shorten(cause, 1_000)}")


def _follow(variables: Variables, path: Path) -> object:
    """`_.a.b`, without the detour through Jinja. Raises EvaluationError."""
    try:
        value: Any = variables.scope.variable(path[0])
    except KeyError:
        raise EvaluationError(f"there is no variable {path[0]!r}") from None
    for name in path[1:]:
        if type(value) is dict and name in value:
            value = value[name]
        else:
            value = environment().getattr(value, name)
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
    return value


@lru_cache(maxsize=16_384)
def compile_jinja_expression(text: str) -> JinjaExpression:
    """The expression of this text, with its marks. Raises SyntaxProblem."""
    _check_length(text)
    source = text[2:-2].strip("-+ \t")
    try:
        compiled = environment().compile_expression(source, undefined_to_none=False)
        tree = environment().parse("{{ " + source + " }}")
        return JinjaExpression(text, compiled, _dotted(tree), is_simple(tree))
    except (TemplateError, RecursionError) as error:
        raise SyntaxProblem(_explain(error)) from None


@lru_cache(maxsize=16_384)
def compile_jinja_text(text: str) -> JinjaText:
    """The template of this text. Raises SyntaxProblem."""
    _check_length(text)
    try:
        return JinjaText(text, environment().from_string(text), is_simple(environment().parse(text)))
    except (TemplateError, RecursionError) as error:
        raise SyntaxProblem(_explain(error)) from None


def _check_length(text: str) -> None:
    if len(text) > TEXT_LENGTH:
        raise SyntaxProblem(f"the expression is longer than {TEXT_LENGTH:,} characters")


def _explain(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        line = f" (line {error.lineno} of the text)" if error.lineno > 1 else ""
        return f"{error.message}{line}"
    return str(error) or type(error).__name__


def _dotted(tree: nodes.Template) -> Path | None:
    """The names of `_.a.b`, None for any other expression."""
    output = tree.body[0] if len(tree.body) == 1 else None
    node = output.nodes[0] if isinstance(output, nodes.Output) and len(output.nodes) == 1 else None
    names: list[str] = []
    while isinstance(node, nodes.Getattr):
        names.append(node.attr)
        node = node.node
    if not names or not isinstance(node, nodes.Name) or node.name != "_":
        return None
    return tuple(reversed(names))
