"""Which functions and methods YAQL has in a language, and which of those that an expression calls it has not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from yaql.language import expressions as tree

from dalsegno.expressions.language import Language
from dalsegno.expressions.unknown import FUNCTION, METHOD, YAQL, Unknown
from dalsegno.expressions.yaql.library import standard_context
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS


@lru_cache(maxsize=8)
def known_names(language: Language, kind: str) -> frozenset[str]:
    """Return all functions, or all methods: those that are compiled, the language's own and the library's."""
    names = set(METHODS) if kind == METHOD else {*FUNCTIONS, *language.functions}
    context: Any = standard_context(language)
    while context is not None:
        for name, definitions in context._functions.items():  # the library's API finds only single names
            if any(each.is_method if kind == METHOD else each.is_function for each in definitions):
                names.add(name)
        context = context.parent
    return frozenset(name for name in names if name.isidentifier())


def is_known(language: Language, kind: str, name: str) -> bool:
    """Return whether there is such a function or method. The library, which takes its time, is asked last."""
    compiled = METHODS if kind == METHOD else FUNCTIONS
    return name in compiled or (kind == FUNCTION and name in language.functions) or name in known_names(language, kind)


def find_unknown(root: Any, language: Language) -> tuple[Unknown, ...]:
    """Return the unknown names that an expression calls, each once. `def(name, ...)` defines a name."""
    called: dict[tuple[str, str], None] = {}
    defined: set[str] = set()
    waiting = [(root, FUNCTION)]
    while waiting:
        node, kind = waiting.pop()
        if isinstance(node, tree.MappingRuleExpression):
            waiting += ((node.destination, FUNCTION), (node.source, FUNCTION))
        elif isinstance(node, tree.Wrap):
            waiting.append((node.expr, FUNCTION))
        elif isinstance(node, tree.Function):
            if type(node) is tree.Function:
                name = node.name.rstrip("_")
                called[kind, name] = None
                if name == "def" and node.args and isinstance(node.args[0], tree.Constant):
                    defined.add(str(node.args[0].value))
            is_dot = isinstance(node, tree.BinaryOperator) and node.operator in (".", "?.")
            kinds = (FUNCTION, METHOD if is_dot else FUNCTION)
            waiting += [(argument, kinds[min(place, 1)]) for place, argument in enumerate(node.args)][::-1]
    return tuple(
        Unknown(YAQL, kind, name) for kind, name in called if name not in defined and not is_known(language, kind, name)
    )
