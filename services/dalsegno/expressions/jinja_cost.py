"""Which Jinja has a bound, so that it may run in the engine: everything is counted, without loops and macros."""

from __future__ import annotations

from jinja2 import nodes

from dalsegno.expressions.jinja_filters import FILTERS, TESTS
from dalsegno.expressions.jinja_values import METHODS

NODES = 200
"""Nodes of a template."""
BOUNDED_NODES: tuple[type[nodes.Node], ...] = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Keyword,
    nodes.Pair,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Pos,
    nodes.Add,
    nodes.Sub,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mul,
    nodes.Mod,
    nodes.Pow,
    nodes.Concat,
    nodes.CondExpr,
    nodes.If,
    nodes.List,
    nodes.Tuple,
    nodes.Dict,
    nodes.Filter,
    nodes.Test,
    nodes.Call,
)
CALLING_FILTERS = {"map": FILTERS - {"map"}, "select": TESTS, "reject": TESTS, "selectattr": TESTS, "rejectattr": TESTS}
"""Names that may be given to filters that call another filter or a test for each item."""
NAMING_ARGUMENT = {"selectattr": 1, "rejectattr": 1}
"""The argument that has this name, if it is not the first."""


def nodes_of(tree: nodes.Node) -> list[nodes.Node]:
    """Return the node and all below it."""
    found = [tree]
    for node in found:  # like `iter_child_nodes`, without generators
        for name in node.fields:
            value = getattr(node, name, None)
            if isinstance(value, nodes.Node):
                found.append(value)
            elif isinstance(value, list):
                found += [each for each in value if isinstance(each, nodes.Node)]
    return found


def is_bounded(found: list[nodes.Node], functions: frozenset[str]) -> bool:
    """Return whether the nodes are few and everything that they do is counted, as are the `functions`."""
    return len(found) <= NODES and all(isinstance(node, BOUNDED_NODES) and _is_known(node, functions) for node in found)


def _is_known(node: nodes.Node, functions: frozenset[str]) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in functions or (node.name in FILTERS and _calls_known(node, functions))
    if isinstance(node, nodes.Test):
        return node.name in TESTS
    if isinstance(node, nodes.Call):
        if isinstance(node.node, nodes.Name):
            return node.node.name in functions
        return isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS
    return True


def _calls_known(node: nodes.Filter, functions: frozenset[str]) -> bool:
    """Return whether the filter's function for each item is also counted."""
    known = CALLING_FILTERS.get(node.name)
    if known is None:
        return True
    named = node.args[NAMING_ARGUMENT.get(node.name, 0) :][:1]
    if node.name == "map":
        known |= functions
    return node.dyn_args is None and all(isinstance(each, nodes.Const) and each.value in known for each in named)
