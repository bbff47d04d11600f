"""Find names that a Jinja template calls and its environment does not have: functions, filters and tests."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TypeGuard

from jinja2 import Environment, nodes

from dalsegno.expressions.unknown import FILTER, FUNCTION, JINJA, TEST, Unknown

CONTEXT_FUNCTION = "ctx"

_ALWAYS = ("caller", "loop", "self", "super", "varargs", "kwargs")
"""Names that a template may call without a definition."""
_BY_NAME = {
    "map": (0, FILTER),
    "select": (0, TEST),
    "reject": (0, TEST),
    "selectattr": (1, TEST),
    "rejectattr": (1, TEST),
}
"""Filters that take the name of a filter or test: in which argument, and which of the two."""


def find_unknown(template: Iterable[nodes.Node], environment: Environment) -> tuple[Unknown, ...]:
    """Return the names that a template calls and that neither the environment nor the template defines, each once."""
    found = list(template)
    known: dict[str, Container[str]] = {
        FUNCTION: environment.globals,
        FILTER: environment.filters,
        TEST: environment.tests,
    }
    called = dict.fromkeys(call for node in found for call in _called(node))
    strange = [(kind, name) for kind, name in called if name not in known[kind]]
    if not strange:
        return ()
    made = {*_ALWAYS, *_made(found)}
    return tuple(Unknown(JINJA, kind, name) for kind, name in strange if kind != FUNCTION or name not in made)


def variables(root: nodes.Node) -> Iterator[str]:
    """Return the variables of the context in literal references: `ctx(x)`, `ctx('x')` and `ctx().x`."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            # A method: its receiver may be `ctx()`, but its name is not a variable.
            waiting += [*node.args, *(argument.value for argument in node.kwargs), node.node.node]
            continue
        name = _variable(node)
        if name is not None:
            yield name
        waiting += reversed(list(node.iter_child_nodes()))


def _variable(node: nodes.Node) -> str | None:
    if _is_context(node) and len(node.args) == 1:
        argument = node.args[0]
        if isinstance(argument, nodes.Name):
            return argument.name
        return argument.value if isinstance(argument, nodes.Const) and isinstance(argument.value, str) else None
    if isinstance(node, nodes.Getattr) and _is_context(node.node) and not node.node.args:
        return node.attr
    return None


def _is_context(node: nodes.Node) -> TypeGuard[nodes.Call]:
    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == CONTEXT_FUNCTION


def _called(node: nodes.Node) -> Iterator[tuple[str, str]]:
    """Yield the kinds and names of the calls of this node."""
    if isinstance(node, nodes.Test):
        yield TEST, node.name
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
        yield FUNCTION, node.node.name
    elif isinstance(node, nodes.Filter):
        yield FILTER, node.name
        place, kind = _BY_NAME.get(node.name, (0, ""))
        if kind and len(node.args) > place:
            argument = node.args[place]
            if isinstance(argument, nodes.Const) and isinstance(argument.value, str):
                yield kind, argument.value


def _made(template: Iterable[nodes.Node]) -> Iterator[str]:
    """Return the names that the template defines."""
    for node in template:
        if (isinstance(node, nodes.Name) and node.ctx != "load") or isinstance(node, nodes.Macro):
            yield node.name
        elif isinstance(node, nodes.Import):
            yield node.target
        elif isinstance(node, nodes.FromImport):
            yield from (name if isinstance(name, str) else name[1] for name in node.names)
