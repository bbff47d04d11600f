"""The differences of expressions between the workflow languages: their functions beside those of YAQL and Jinja, the
name of the context, and whether keys of dicts are expressions, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from dalsegno.expressions import mistral, orquesta, stackstorm
from dalsegno.expressions.yaql.registry import Builtin
from dalsegno.workflow.scope import Scope


@dataclass(frozen=True, eq=False)
class Language:
    """The expressions of one workflow language. There are two of them, compared by identity."""

    name: str
    """Its name for the evaluation processes."""
    functions: Mapping[str, Builtin]
    """The functions that only this language has, for YAQL and for Jinja."""
    dollar_is_context: bool
    """Whether `$` in YAQL and `_` in Jinja are the context; otherwise it is `ctx()`."""
    evaluates_keys: bool
    """Whether the keys of dicts may be expressions too."""
    renders_texts: bool
    """Whether Jinja renders a text with expressions even without blocks, which removes the line end and comments of the
    text."""

    def __reduce__(self) -> tuple[Callable[[str], Language], tuple[str]]:
        """Return a name, so that a copy, even in another process, is the same object."""
        return language_named, (self.name,)

    @property
    def context_is_called(self) -> bool:
        """Return whether `ctx()` is the context; it hides what begins with two underscores."""
        return not self.dollar_is_context

    def hides(self, name: str) -> bool:
        """Return whether a variable of this name is not shown to expressions."""
        return self.context_is_called and name.startswith("__")

    def shown(self, scope: Scope) -> dict[str, object]:
        """Return all variables that expressions can read. (It may not be a dict if the context is a result, as for the
        output of an ad-hoc action.)"""
        variables = scope.variables()
        if not self.context_is_called:
            return variables
        return {name: value for name, value in variables.items() if not self.hides(name)}

    @cached_property
    def quick_functions(self) -> frozenset[str]:
        """Return the functions that the engine may call: their costs are counted."""
        return frozenset(name for name, entry in self.functions.items() if not entry.apart)


MISTRAL = Language("mistral", mistral.FUNCTIONS, dollar_is_context=True, evaluates_keys=False, renders_texts=True)
ORQUESTA = Language(
    "orquesta",
    stackstorm.FUNCTIONS | orquesta.FUNCTIONS,
    dollar_is_context=False,
    evaluates_keys=True,
    renders_texts=False,
)
LANGUAGES = {language.name: language for language in (MISTRAL, ORQUESTA)}


def language_named(name: str) -> Language:
    """Return the language of this name. Raises KeyError."""
    return LANGUAGES[name]
