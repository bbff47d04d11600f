"""Jinja's sandbox: it reads single variables of the context, has the functions of the language as globals and filters,
and counts each operation that takes longer for larger values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import BuiltinMethodType
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.compiler import Frame as CodeFrame
from jinja2.environment import Template
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dalsegno.expressions import functions, jinja_filters, jinja_values
from dalsegno.expressions.budget import Budget
from dalsegno.expressions.language import MISTRAL, Language
from dalsegno.expressions.values import describe, quote, show
from dalsegno.expressions.yaql.evaluate import NO_NAMES
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import Builtin
from dalsegno.workflow.scope import EvaluationError, Scope

RUNNING = "the evaluation"
"""The name of the data for Jinja's functions; no template can write it."""


class Variables(Mapping[str, Any]):
    """`_` or `ctx()`: reads single variables of the scope, and all of them only when it is iterated.

    The sandbox hides what begins with an underscore.
    """

    __slots__ = ("_budget", "_language", "_scope")

    def __init__(self, scope: Scope, language: Language, budget: Budget) -> None:
        self._scope = scope
        self._language = language
        self._budget = budget

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str) or self._language.hides(name):
            raise KeyError(name)
        return self._scope.variable(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._everything())

    def __len__(self) -> int:
        return len(self._everything())

    def __repr__(self) -> str:
        return show(self._everything(), self._budget)

    def _everything(self) -> dict[str, object]:
        shown = self._language.shown(self._scope)
        self._budget.step(len(shown) if isinstance(shown, dict) else 1)  # a result may have any type
        return shown


class Generator(CodeGenerator):
    """Compile these operations, which Jinja compiles to those of Python, to calls that count them."""

    def visit_Compare(self, node: nodes.Compare, frame: CodeFrame) -> None:
        """Compile a chain (`a < b < c`) as in Python: each operand once, none after the first that is false."""
        self.write("environment.compare(context, ")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", {operand.op!r}, lambda: ")
            self.visit(operand.expr, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: CodeFrame) -> None:
        """Compile `a ~ b`."""
        self.write("environment.paste(context, ")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: CodeFrame) -> None:
        """Compile `a[b]` and `a[b:c]`."""
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.cut(context, ")
        self.visit(node.node, frame)
        for bound in (node.arg.start, node.arg.stop, node.arg.step):
            self.write(", ")
            self.visit(nodes.Const(None) if bound is None else bound, frame)
        self.write(")")


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox; a name after a dot is a key of a dict, or a method if there is no such key."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    code_generator_class = Generator

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return jinja_values.calculate(budget_of(context), operator, left, right)

    def compare(self, context: Context, left: Any, *chain: Any) -> Any:
        """`left < right`, where the chain has names of operators and functions that give what is at their right."""
        budget = budget_of(context)
        found: Any = True
        for name, make in zip(chain[::2], chain[1::2], strict=True):
            right = make()
            found = jinja_values.compare(budget, name, left, right)
            if not found:
                break
            left = right
        return found

    def paste(self, context: Context, *parts: Any) -> str:
        budget = budget_of(context)
        texts = [show(part, budget) for part in parts]
        budget.build(sum(map(len, texts)))
        return "".join(texts)

    def cut(self, context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
        return jinja_values.cut(budget_of(context), value, slice(start, stop, step))

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(__obj, BuiltinMethodType):
            jinja_values.pay_for_method(budget_of(__context), __obj, arguments, named)
        return super().call(__context, __obj, *arguments, **named)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except KeyError:
                pass
        return self._explained(obj, attribute, super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._explained(obj, argument, super().getitem(obj, argument))

    def _explained(self, obj: Any, name: Any, found: Any) -> Any:
        if isinstance(found, Undefined):
            if isinstance(obj, Variables):
                return self.undefined(f"there is no variable {quote(name)}")
            if not isinstance(name, (str, int)):
                return self.undefined(f"{describe(obj)} has no element {quote(name)}")
        return found


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    """Return the text of an expression's value in a text."""
    return value if isinstance(value, Undefined) else show(value, budget_of(context))


def start_context(template: Template, variables: Variables) -> Context:
    """Return the context of the template. Jinja's own function copies all globals one by one."""
    variables._budget.unproven = True
    names = {RUNNING: variables}
    if variables._language.dollar_is_context:
        names["_"] = variables
    environment = template.environment
    return environment.context_class(environment, {**environment.globals, **names}, template.name, template.blocks)


def _running(context: Context) -> Variables:
    running = context.parent.get(RUNNING)
    if not isinstance(running, Variables):
        raise EvaluationError("the context is not there")
    return running


def budget_of(context: Context) -> Budget:
    """Return the budget of the current evaluation."""
    budget: Budget = context.parent[RUNNING]._budget
    return budget


def _bind(entry: Builtin) -> Callable[..., object]:
    @pass_context
    def call(context: Context, *values: object, **named: object) -> object:
        running = _running(context)
        _check_defined(*values, *named.values())
        return entry.call(Frame(running._scope, running._budget, NO_NAMES), values, named)

    return call


def _check_defined(*values: object) -> None:
    for value in values:
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()


@pass_context
def _context(context: Context, key: object = None) -> object:
    """Orquesta's `ctx()`: reads one variable if it has a name."""
    running = _running(context)
    if key is None:
        return running
    _check_defined(key)
    if not isinstance(key, str):
        raise EvaluationError(f"ctx() needs the name of a variable, not {describe(key)}")
    try:
        return running[key]
    except KeyError:
        raise EvaluationError(f"there is no variable {quote(key)}") from None


@pass_context
def _choose(context: Context, items: Any) -> object:
    """Return the filter `random`, from the event's seed."""
    running = _running(context)
    return functions.draw(running._scope, running._budget).choice(items)


class Named(dict[str, Any]):
    """Filters or tests by name. As in Mistral, an expression with an unknown one compiles, and fails when it is
    evaluated: the branch that uses it may never run."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, _refuse_unknown)


def _refuse_unknown(*values: object) -> object:
    raise EvaluationError("there is no such filter or test")


@lru_cache(maxsize=4)
def environment(language: Language = MISTRAL) -> Environment:
    # Not optimized: that computes constants during compilation, which may be very large.
    made = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, optimized=False, finalize=_finalize
    )
    functions = {name: _bind(entry) for name, entry in language.functions.items()}
    if language.context_is_called:
        functions["ctx"] = _context
    made.globals.update(functions)
    made.filters = Named(made.filters | jinja_filters.filters(budget_of) | functions | {"random": _choose})
    made.tests = Named(made.tests | jinja_filters.tests(budget_of))
    return made
