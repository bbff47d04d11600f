"""Compile the library's syntax tree to Python closures: common nodes here, functions in the other modules.

An unknown node raises NotCompiled, and the library evaluates the whole expression.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yaql.language import expressions as tree
from yaql.language.utils import NO_VALUE

from dalsegno.expressions.budget import CHARACTERS_PER_STEP, Budget
from dalsegno.expressions.integers import SHORT, bounded
from dalsegno.expressions.language import Language
from dalsegno.expressions.values import CONTAINER_COST, MEMBER_COST, BuiltDict, BuiltList
from dalsegno.expressions.yaql import calls
from dalsegno.expressions.yaql.collections import put
from dalsegno.expressions.yaql.context import (
    context_closure,
    path_closure,
    refusal,
    variable_at_closure,
    variable_closure,
)
from dalsegno.expressions.yaql.frame import Closure, Frame, NotCompiled, TooDeep
from dalsegno.expressions.yaql.operators import BINARY, TESTS, UNARY, attribute, index, index_or

DEPTH = 200
"""Levels of nesting in one expression: each is a Python call or two when it runs."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled expression."""

    closure: Closure
    nodes: int
    """The number of its nodes."""
    path: tuple[str, ...] | None
    """A variable and keys in it, if the expression reads nothing else."""


def compile_statement(statement: Any, language: Language) -> Compiled:
    """Return the closure of a parsed expression. Raises NotCompiled and TooDeep."""
    compiler = Compiler(language)
    closure = compiler.compile(statement.expression)
    return Compiled(closure, compiler.nodes, compiler.path_of(statement.expression))


NODES_PER_STEP = 3
"""A body of more nodes than this costs more than one step each time."""


class Compiler:
    """One pass over one tree. `inside` says that `$` is an item of a list rather than the whole context."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.inside = False
        self.depth = 0
        self.nodes = 0

    def compile(self, node: Any) -> Closure:
        method = _NODES.get(type(node))
        if method is None:
            raise NotCompiled(type(node).__name__)
        self.nodes += 1
        self.depth += 1
        if self.depth > DEPTH:
            raise TooDeep
        try:
            return method(self, node)
        finally:
            self.depth -= 1

    def compile_lambda(self, node: Any, arity: int) -> Closure:
        """Return a closure that returns a Python function of `arity` values; each of its calls is a step."""
        if arity == 1 and _is_item_key(node):
            return _lambda_key(node.args[1].value)
        outer, self.inside = self.inside, self.inside or arity > 0
        nodes = self.nodes
        try:
            body = self.compile(node)
        finally:
            self.inside = outer
        return _LAMBDAS[arity](body, 1 + (self.nodes - nodes) // NODES_PER_STEP)

    def _constant(self, node: Any) -> Closure:
        value = node.value
        bounded(Budget(), value)
        return lambda frame, dollar: value

    def _wrap(self, node: Any) -> Closure:
        return self.compile(node.expr)

    def _variable(self, node: Any) -> Closure:
        name = node.path.value[1:]
        if name in ("", "1"):
            return context_closure(self.language) if self.is_root(node) else _item
        if name == "__env" and self.language.dollar_is_context:
            return lambda frame, dollar: frame.scope.environment()
        if name == "__execution" and self.language.dollar_is_context:
            return lambda frame, dollar: frame.scope.execution()
        return lambda frame, dollar: frame.names.get(name)

    def _binary(self, node: Any) -> Closure:
        sign = node.operator
        if sign in (".", "?."):
            return self._member(node, sign == "?.")
        if sign == "->":
            return self._let(node)
        left = self.compile(node.args[0])
        right = self.compile(node.args[1])
        if sign in TESTS and type(node.args[1]) is tree.Constant and _is_short(node.args[1].value):
            name = node.args[0].args[1].value if self.inside and _is_item_key(node.args[0]) else None
            return _constant_comparison_closure(sign, left, name, node.args[1].value)
        if sign == "and":
            return lambda frame, dollar: left(frame, dollar) and right(frame, dollar)
        if sign == "or":
            return lambda frame, dollar: left(frame, dollar) or right(frame, dollar)
        return _binary_closure(sign, left, right)

    def _unary(self, node: Any) -> Closure:
        operation = UNARY.get(node.operator)
        if operation is None:
            raise NotCompiled(node.operator)
        value = self.compile(node.args[0])
        return lambda frame, dollar: operation(frame, value(frame, dollar))

    def _member(self, node: Any, elvis: bool) -> Closure:
        """Compile `left.right`: a key, or a method with `left` as its receiver."""
        receiver, right = node.args
        if type(right) is tree.KeywordConstant:
            return self._key(node, elvis)
        if type(right) is not tree.Function:
            raise NotCompiled("an operand of '.' that is neither a name nor a call")
        if elvis:
            raise NotCompiled("a method after '?.'")
        return calls.compile_call(self, right, self.compile(receiver), is_root=self.is_root(receiver))

    def _key(self, node: Any, elvis: bool) -> Closure:
        receiver, name = node.args[0], node.args[1].value
        if self.is_root(receiver):
            return variable_closure(name, self.language)
        path = self.path_of(node)
        if path is not None:
            self.nodes += len(path)
            return path_closure(path)
        if self.language.context_is_called and not self.inside and _is_dollar(receiver):
            return refusal("'$' is nothing here, the context is ctx()")
        left = self.compile(receiver)
        if elvis:
            return _elvis_closure(left, name)
        if left is _item:
            return _item_key_closure(name)
        return _key_closure(left, name)

    def path_of(self, node: Any) -> tuple[str, ...] | None:
        """Return the variable and the keys in it that the node reads; None if it does something else."""
        names: list[str] = []
        while type(node) is tree.BinaryOperator and node.operator == "." and _is_key(node.args[1]):
            names.insert(0, node.args[1].value)
            node = node.args[0]
        if self.language.context_is_called and type(node) is tree.Function and node.name == "ctx":
            names[:0] = [argument.value for argument in node.args if _is_name(argument)]
            is_context = len(node.args) <= 1 and all(map(_is_name, node.args))
        else:
            is_context = self.is_root(node)
        return tuple(names) if is_context and names and not self.language.hides(names[0]) else None

    def is_root(self, node: Any) -> bool:
        """Return whether the node is the whole context, of which single variables can be read without building it."""
        if self.language.context_is_called:
            return type(node) is tree.Function and node.name == "ctx" and not node.args
        return _is_dollar(node) and not self.inside

    def _index(self, node: Any) -> Closure:
        value, *keys = node.args
        if not 1 <= len(keys) <= 2 or any(_is_odd(key) for key in keys):
            raise NotCompiled("an index")
        compiled = [self.compile(key) for key in keys]
        if self.is_root(value) and len(keys) == 1:
            return variable_at_closure(compiled[0], self.language)
        left = self.compile(value)
        if len(keys) == 2:
            key, default = compiled
            return lambda frame, dollar: index_or(
                frame, left(frame, dollar), key(frame, dollar), default(frame, dollar)
            )
        return _index_closure(left, compiled[0])

    def _list(self, node: Any) -> Closure:
        if any(_is_odd(item) for item in node.args):
            raise NotCompiled("a list")
        items = [self.compile(item) for item in node.args]
        cost = CONTAINER_COST + len(items)

        def build(frame: Frame, dollar: object) -> object:
            frame.budget.build(cost)
            return BuiltList([item(frame, dollar) for item in items])

        return build

    def _map(self, node: Any) -> Closure:
        return self.rules(node.args)

    def rules(self, nodes: Any) -> Closure:
        """Return a dict of `key => value` arguments."""
        if not all(type(node) is tree.MappingRuleExpression for node in nodes):
            raise NotCompiled("a dict")
        pairs = [(self.compile(node.source), self.compile(node.destination)) for node in nodes]
        if all(_is_name(node.source) and _is_short(node.source.value) for node in nodes):
            return _named_closure([(node.source.value, value) for node, (_, value) in zip(nodes, pairs, strict=True)])

        def build(frame: Frame, dollar: object) -> object:
            frame.budget.build(CONTAINER_COST)
            built = BuiltDict()
            for key, value in pairs:
                put(frame, built, key(frame, dollar), value(frame, dollar))
            return built

        return build

    def _function(self, node: Any) -> Closure:
        return calls.compile_call(self, node, None)

    def _let(self, node: Any) -> Closure:
        """Compile `let(name => value, ...) -> body`."""
        left, right = node.args
        if type(left) is not tree.Function or left.name != "let" or not all(map(_is_named, left.args)):
            raise NotCompiled("'->' after something else than let(name => value)")
        values = [(rule.source.value, self.compile(rule.destination)) for rule in left.args]
        if any(name.isdigit() for name, _ in values):
            raise NotCompiled("let() with a number as a name")
        body = self.compile(right)

        def run(frame: Frame, dollar: object) -> object:
            frame.budget.build(CONTAINER_COST)
            names = {name: value(frame, dollar) for name, value in values}
            return body(frame.with_names(names), dollar)

        return run


def _is_odd(node: Any) -> bool:
    return node is NO_VALUE or type(node) is tree.MappingRuleExpression


def _is_dollar(node: Any) -> bool:
    return type(node) is tree.GetContextValue and node.path.value in ("$", "$1")


def _is_item_key(node: Any) -> bool:
    """Return whether the node is `$.name`."""
    if type(node) is not tree.BinaryOperator or node.operator != ".":
        return False
    left, right = node.args
    return _is_dollar(left) and type(right) is tree.KeywordConstant


def _is_key(node: Any) -> bool:
    return type(node) is tree.KeywordConstant


def _is_name(node: Any) -> bool:
    return type(node) in (tree.Constant, tree.KeywordConstant) and isinstance(node.value, str)


def _is_short(value: object) -> bool:
    """Return whether the comparison is immediate: an integer, or a short text."""
    kind = type(value)
    return len(value) < CHARACTERS_PER_STEP if kind is str else kind is int  # type: ignore[arg-type]


def _is_named(node: Any) -> bool:
    return type(node) is tree.MappingRuleExpression and type(node.source) is tree.KeywordConstant


def _item(frame: Frame, dollar: object) -> object:
    return dollar


def _key_closure(left: Closure, name: str) -> Closure:
    def closure(frame: Frame, dollar: object) -> object:
        value = left(frame, dollar)
        if type(value) is dict and name in value:
            return value[name]
        return attribute(frame, value, name)

    return closure


def _item_key_closure(name: str) -> Closure:
    def closure(frame: Frame, dollar: object) -> object:
        if type(dollar) is dict and name in dollar:
            return dollar[name]
        return attribute(frame, dollar, name)

    return closure


def _index_closure(left: Closure, key: Closure) -> Closure:
    return lambda frame, dollar: index(frame, left(frame, dollar), key(frame, dollar))


def _elvis_closure(left: Closure, name: str) -> Closure:
    """Compile `left?.name`: null if the left side is null, else as `.`."""

    def closure(frame: Frame, dollar: object) -> object:
        value = left(frame, dollar)
        return None if value is None else attribute(frame, value, name)

    return closure


def _binary_closure(sign: str, left: Closure, right: Closure) -> Closure:
    operation = BINARY.get(sign)
    if operation is None:
        raise NotCompiled(sign)
    test = TESTS.get(sign)
    if test is not None:
        return _comparison_closure(operation, test, left, right)
    if sign in ("=", "!="):
        return _equality_closure(operation, sign == "=", left, right)
    quick = QUICK.get(sign)
    if quick is not None:
        return _quick_closure(operation, quick, left, right)
    return lambda frame, dollar: operation(frame, left(frame, dollar), right(frame, dollar))


def _equality_closure(
    operation: Callable[[Frame, Any, Any], object], is_equal: bool, left: Closure, right: Closure
) -> Closure:
    """Compile a comparison with a fast path for short values of the same type."""

    def closure(frame: Frame, dollar: object) -> object:
        first, second = left(frame, dollar), right(frame, dollar)
        if type(first) is type(second) and _is_short(first):
            return (first == second) is is_equal
        return operation(frame, first, second)

    return closure


def _named_closure(members: list[tuple[str, Closure]]) -> Closure:
    """Return a dict with known keys."""
    cost, size = len(members), CONTAINER_COST + MEMBER_COST * len(members)

    def build(frame: Frame, dollar: object) -> object:
        budget = frame.budget
        budget.steps -= cost
        if budget.steps < 0:
            budget.exhaust()
        budget.build(size)
        built = BuiltDict()
        for name, value in members:
            built[name] = value(frame, dollar)
        return built

    return build


QUICK: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
"""Operators with a fast path for two short integers."""


def _quick_closure(
    operation: Callable[[Frame, Any, Any], object], quick: Callable[[Any, Any], Any], left: Closure, right: Closure
) -> Closure:
    """Compile an addition with a fast path for two short integers, without extra cost."""

    def closure(frame: Frame, dollar: object) -> object:
        first, second = left(frame, dollar), right(frame, dollar)
        kind = type(first)
        if kind is type(second) and kind is int:
            found = quick(first, second)
            if -SHORT < found < SHORT:
                return found
        return operation(frame, first, second)

    return closure


def _comparison_closure(
    operation: Callable[[Frame, Any, Any], object], test: Callable[[Any, Any], bool], left: Closure, right: Closure
) -> Closure:
    """Compile a comparison with a fast path for two integers, the most frequent case."""

    def closure(frame: Frame, dollar: object) -> object:
        first, second = left(frame, dollar), right(frame, dollar)
        kind = type(first)
        if kind is int and type(second) is int:
            return test(first, second)
        return operation(frame, first, second)

    return closure


def _constant_comparison_closure(sign: str, left: Closure, name: str | None, constant: int | str) -> Closure:
    """Return a comparison with a constant; with a name the left side is that key of `$`, which saves a call."""
    operation, test, kind = BINARY[sign], TESTS[sign], type(constant)

    def closure(frame: Frame, dollar: object) -> object:
        value = left(frame, dollar)
        return test(value, constant) if type(value) is kind else operation(frame, value, constant)

    def key_closure(frame: Frame, dollar: object) -> object:
        value = dollar[name] if type(dollar) is dict and name in dollar else left(frame, dollar)
        return test(value, constant) if type(value) is kind else operation(frame, value, constant)

    return closure if name is None else key_closure


def _lambda_0(body: Closure, cost: int) -> Closure:
    def make(frame: Frame, dollar: object) -> object:
        def call() -> object:
            frame.budget.step(cost)
            return body(frame, dollar)

        return call

    return make


def _lambda_1(body: Closure, cost: int) -> Closure:
    def make(frame: Frame, dollar: object) -> object:
        budget = frame.budget

        def call(item: object) -> object:
            budget.steps -= cost
            if budget.steps < 0:
                budget.exhaust()
            return body(frame, item)

        return call

    return make


def _lambda_key(name: str) -> Closure:
    """Return the body `$.name`, the most frequent one."""

    def make(frame: Frame, dollar: object) -> object:
        budget = frame.budget

        def call(item: object) -> object:
            budget.steps -= 1
            if budget.steps < 0:
                budget.exhaust()
            return item[name] if type(item) is dict and name in item else attribute(frame, item, name)

        return call

    return make


def _lambda_2(body: Closure, cost: int) -> Closure:
    def make(frame: Frame, dollar: object) -> object:
        def call(first: object, second: object) -> object:
            frame.budget.step(1 + cost)
            return body(frame.with_names({"2": second}), first)

        return call

    return make


_LAMBDAS: dict[int, Callable[[Closure, int], Closure]] = {0: _lambda_0, 1: _lambda_1, 2: _lambda_2}

_NODES: dict[type, Callable[[Compiler, Any], Closure]] = {
    tree.Constant: Compiler._constant,
    tree.KeywordConstant: Compiler._constant,
    tree.Wrap: Compiler._wrap,
    tree.GetContextValue: Compiler._variable,
    tree.BinaryOperator: Compiler._binary,
    tree.UnaryOperator: Compiler._unary,
    tree.IndexExpression: Compiler._index,
    tree.ListExpression: Compiler._list,
    tree.MapExpression: Compiler._map,
    tree.Function: Compiler._function,
}
