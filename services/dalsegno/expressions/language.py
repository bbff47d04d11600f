"""What an expression may say depends on the workflow language around it: which functions there are beside those of
YAQL and Jinja themselves, how the context is named, and whether keys of dicts are expressions too."""

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
    """What the evaluation process is told."""
    functions: Mapping[str, Builtin]
    """The functions that only this language has, for YAQL and for Jinja."""
    dollar_is_context: bool
    """Whether `$` in YAQL and `_` in Jinja are the context. Otherwise `ctx()` is, and they are nothing."""
    evaluates_keys: bool
    """Whether the keys of dicts may be expressions too."""
    renders_texts: bool
    """Whether Jinja renders a text with expressions in it even if it has no blocks, which takes away the line end and
    comments of the text."""

    def __reduce__(self) -> tuple[Callable[[str], Language], tuple[str]]:
        """A copy, even in another process, is the language itself."""
        return language_named, (self.name,)

    @property
    def context_is_called(self) -> bool:
        """Whether `ctx()` is the context; it hides what begins with two underscores."""
        return not self.dollar_is_context

    def hides(self, name: str) -> bool:
        """Whether a variable of this name is not shown to expressions."""
        return self.context_is_called and name.startswith("__")

    def shown(self, scope: Scope) -> dict[str, object]:
        """All variables that expressions see. (Where the context is a result, as for an ad-hoc action's output, it may
        be no dict at all.)"""
        variables = scope.variables()
        if not self.context_is_called:
            return variables
        return {name: value for name, value in variables.items() if not self.hides(name)}

    @cached_property
    def quick_functions(self) -> frozenset[str]:
        """The functions that the engine may call itself: what they cost is counted."""
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
    """The language of this name. Raises KeyError."""
    return LANGUAGES[name]
