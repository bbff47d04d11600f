"""Calls of functions and methods: the special forms here, everything else by the table of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from yaql.language import expressions as tree
from yaql.language.utils import NO_VALUE

from dalsegno.expressions.unknown import FUNCTION, METHOD
from dalsegno.expressions.values import describe
from dalsegno.expressions.yaql import (  # noqa: F401 - their import fills the registry
    collections,
    formatting,
    mathematics,
    queries,
    strings,
)
from dalsegno.expressions.yaql.context import (
    ABSENT,
    context_closure,
    variable_at_closure,
    variable_closure,
    variable_or,
)
from dalsegno.expressions.yaql.frame import Closure, Frame, NotCompiled
from dalsegno.expressions.yaql.names import is_known
from dalsegno.expressions.yaql.operators import merge
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS, Builtin
from dalsegno.workflow.scope import EvaluationError

if TYPE_CHECKING:
    from dalsegno.expressions.yaql.compile import Compiler

CALL_NODES = 4
"""The time of a call, in nodes of other kinds."""


def compile_call(compiler: Compiler, node: Any, receiver: Closure | None, is_root: bool = False) -> Closure:
    """Return the closure of `name(arguments)` or `receiver.name(arguments)`. Raises NotCompiled."""
    name = node.name.rstrip("_")
    arguments = list(node.args)
    compiler.nodes += CALL_NODES
    if any(argument is NO_VALUE for argument in arguments):
        raise NotCompiled("a skipped argument")
    special = _compile_special(compiler, name, arguments, receiver, is_root)
    if special is not None:
        return special
    entry = _find(compiler, name, receiver)
    if entry is not None and entry.apart:
        raise NotCompiled(name)
    by_name = any(type(argument) is tree.MappingRuleExpression for argument in arguments)
    if entry is not None and entry.named and by_name:
        return _compile_named(compiler, entry, arguments, receiver)
    if by_name:
        raise NotCompiled("an argument by name")
    if entry is None:
        return _unknown(compiler, name, receiver)
    return _compile_builtin(compiler, entry, arguments, receiver)


def _find(compiler: Compiler, name: str, receiver: Closure | None) -> Builtin | None:
    if receiver is not None:
        return METHODS.get(name)
    return compiler.language.functions.get(name) or FUNCTIONS.get(name)


def _unknown(compiler: Compiler, name: str, receiver: Closure | None) -> Closure:
    """Return a closure that fails: an unknown function fails when it is called, as in the library."""
    kind = METHOD if receiver else FUNCTION
    if is_known(compiler.language, kind, name):
        raise NotCompiled(name)

    def fail(frame: Frame, dollar: object) -> object:
        raise EvaluationError(f"there is no {kind} {name}()")

    return fail


def _compile_builtin(compiler: Compiler, entry: Builtin, arguments: list[Any], receiver: Closure | None) -> Closure:
    closures = [] if receiver is None else [receiver]
    for argument in arguments:
        arity = entry.lambdas.get(len(closures))
        closures.append(compiler.compile(argument) if arity is None else compiler.compile_lambda(argument, arity))
    if not entry.least <= len(closures) <= entry.most:
        return _miscounted(entry, len(closures))
    return _call(entry, closures)


def _miscounted(entry: Builtin, count: int) -> Closure:
    def fail(frame: Frame, dollar: object) -> object:
        raise EvaluationError(f"{entry.name}() does not take {count} arguments")

    return fail


def _call(entry: Builtin, closures: list[Closure]) -> Closure:
    """Return the call, unrolled for few arguments, because compiled expressions spend most of their time here."""
    implementation = entry.implementation
    if not closures:
        return lambda frame, dollar: implementation(frame)
    if len(closures) == 1:
        only = closures[0]
        return lambda frame, dollar: implementation(frame, only(frame, dollar))
    if len(closures) == 2:
        first, second = closures
        return lambda frame, dollar: implementation(frame, first(frame, dollar), second(frame, dollar))

    def call(frame: Frame, dollar: object) -> object:
        return implementation(frame, *[closure(frame, dollar) for closure in closures])

    return call


def _compile_named(compiler: Compiler, entry: Builtin, arguments: list[Any], receiver: Closure | None) -> Closure:
    """Return a function or method that takes arguments by name."""
    named = [argument for argument in arguments if type(argument) is tree.MappingRuleExpression]
    if not all(type(rule.source) is tree.KeywordConstant for rule in named):
        raise NotCompiled("an argument by an odd name")
    by_name = {rule.source.value: compiler.compile(rule.destination) for rule in named}
    by_place = [] if receiver is None else [receiver]
    by_place += [compiler.compile(argument) for argument in arguments if argument not in named]

    def call(frame: Frame, dollar: object) -> object:
        placed = [closure(frame, dollar) for closure in by_place]
        return entry.call(frame, placed, {name: closure(frame, dollar) for name, closure in by_name.items()})

    return call


def _compile_special(
    compiler: Compiler, name: str, arguments: list[Any], receiver: Closure | None, is_root: bool
) -> Closure | None:
    """Return the closure of a form whose arguments are not ordinary values; None if the call is not such a form."""
    rules = [argument for argument in arguments if type(argument) is tree.MappingRuleExpression]
    if receiver is None:
        if name == "switch" and len(rules) == len(arguments):
            return _switch(compiler, rules)
        if name == "dict" and len(rules) == len(arguments):
            return compiler.rules(rules)
        if name in ("let", "def", "with"):
            raise NotCompiled(name)
        return _compile_context(compiler, arguments) if name == "ctx" else None
    if name == "set" and rules and len(rules) == len(arguments):
        return _set_rules(receiver, compiler.rules(rules))
    if is_root and not rules:
        return _compile_root(compiler, name, arguments)
    return None


def _switch(compiler: Compiler, rules: list[Any]) -> Closure:
    pairs = [(compiler.compile(rule.source), compiler.compile(rule.destination)) for rule in rules]

    def run(frame: Frame, dollar: object) -> object:
        for condition, value in pairs:
            if condition(frame, dollar):
                return value(frame, dollar)
        return None

    return run


def _set_rules(receiver: Closure, rules: Closure) -> Closure:
    def run(frame: Frame, dollar: object) -> object:
        target = receiver(frame, dollar)
        if not isinstance(target, Mapping):
            raise EvaluationError(f"set() needs a dict, not {describe(target)}")
        return merge(frame, target, rules(frame, dollar))  # type: ignore[arg-type]

    return run


def _compile_root(compiler: Compiler, name: str, arguments: list[Any]) -> Closure | None:
    """Compile `$.get(name)` and `$.containsKey(name)` to a read of one variable, not of the whole context."""
    language = compiler.language
    if name == "get" and 1 <= len(arguments) <= 2:
        key = compiler.compile(arguments[0])
        default = compiler.compile(arguments[1] if len(arguments) == 2 else tree.Constant(None))
        return lambda frame, dollar: variable_or(frame, language, key(frame, dollar), default(frame, dollar))
    if name == "containsKey" and len(arguments) == 1:
        key = compiler.compile(arguments[0])
        return lambda frame, dollar: variable_or(frame, language, key(frame, dollar), ABSENT) is not ABSENT
    return None


def _compile_context(compiler: Compiler, arguments: list[Any]) -> Closure | None:
    """Compile Orquesta's `ctx(name)` to a read of one variable. None if this language has no `ctx()`."""
    if compiler.language.dollar_is_context or len(arguments) > 1:
        return None
    if not arguments:
        return context_closure(compiler.language)
    if type(arguments[0]) in (tree.Constant, tree.KeywordConstant) and isinstance(arguments[0].value, str):
        return variable_closure(arguments[0].value, compiler.language)
    return variable_at_closure(compiler.compile(arguments[0]), compiler.language)
