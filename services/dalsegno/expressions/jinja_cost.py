"""Which Jinja is sure to be short work, so that it may run in the engine itself."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import nodes

NODES = 200
"""Nodes of a template."""
BUILDERS = 20
"""Nodes that put values together: each may double what there is."""

PLAIN_NODES: tuple[type[nodes.Node], ...] = (
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
    nodes.Sub,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mul,
    nodes.Mod,
    nodes.Pow,
    nodes.CondExpr,
    nodes.If,
    nodes.Test,
)
BUILDING_NODES: tuple[type[nodes.Node], ...] = (
    nodes.Add, nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict, nodes.Filter, nodes.Call,
)  # fmt: skip
FILTERS = frozenset(
    {
        "default", "d", "length", "count", "upper", "lower", "trim", "string", "int", "float", "first",
        "last", "title", "capitalize", "abs", "list", "sum", "min", "max", "sort", "unique", "reverse",
        "bool", "join", "map", "select", "reject", "selectattr", "rejectattr",
    }
)  # fmt: skip
METHODS = frozenset(
    {
        "get", "keys", "values", "items", "split", "rsplit", "strip", "lstrip", "rstrip", "upper", "lower",
        "startswith", "endswith", "title", "isdigit",
    }
)  # fmt: skip
TESTS = frozenset(
    {
        "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
        "sequence", "iterable", "true", "false", "odd", "even", "eq", "equalto", "ne", "lt", "le", "gt",
        "ge", "in",
    }
)  # fmt: skip
SEPARATOR = 16
"""Characters of a separator in `join`."""


def is_simple(found: Sequence[nodes.Node], functions: frozenset[str]) -> bool:
    """Whether a template of these nodes has no loops, no macros and nothing that makes much out of little. What the
    `functions` cost is counted."""
    builders = sum(isinstance(node, BUILDING_NODES) for node in found)
    if len(found) > NODES or builders > BUILDERS:
        return False
    return all(isinstance(node, PLAIN_NODES + BUILDING_NODES) and _is_known(node, functions) for node in found)


def nodes_of(tree: nodes.Node) -> list[nodes.Node]:
    """The node and all that is in it."""
    found: list[nodes.Node] = [tree]
    for node in found:
        found.extend(node.iter_child_nodes())
    return found


def _is_known(node: nodes.Node, functions: frozenset[str]) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in functions or (node.name in FILTERS and _is_short(node, functions))
    if isinstance(node, nodes.Test):
        return node.name in TESTS
    if isinstance(node, nodes.Call):
        if isinstance(node.node, nodes.Name):
            return node.node.name in functions
        return isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS
    return True


def _is_short(node: nodes.Filter, functions: frozenset[str]) -> bool:
    """Whether what the filter is told to do to each item is short work too."""
    words = [argument.value if isinstance(argument, nodes.Const) else None for argument in node.args]
    if node.name == "join":
        return all(isinstance(word, str) and len(word) <= SEPARATOR for word in words)
    if node.name == "map":
        return not words or (words == [words[0]] and words[0] in (FILTERS | functions) - {"join", "map"})
    if node.name in ("select", "reject"):
        return not words or words[0] in TESTS
    if node.name in ("selectattr", "rejectattr"):
        return len(words) < 2 or words[1] in TESTS
    return True
