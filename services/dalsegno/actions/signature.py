"""The signature of an action: its parameters for workflows, and the types that inputs must fit.

An input fits when msgspec converts it to the annotation of its parameter: an int is also a float, an object is a Struct
or a dataclass, a text is a datetime. A parameter without an annotation, or with `object` or `Any`, takes everything; so
does one whose annotation exists for type checkers only.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import msgspec

from dalsegno.actions.plain import plain
from dalsegno.workflow.model import Parameter
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import UnfitValue, encode

CONTEXT = "ActionContext"
"""The name of the annotation of a parameter that receives the context."""

_ANYTHING = (inspect.Parameter.empty, object, Any)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a function takes as an action."""

    parameters: tuple[Parameter, ...]
    accepts_any: bool
    """Whether it takes inputs that no parameter names."""
    context: str
    """The parameter that receives the context; empty if there is none."""
    types: Mapping[str, object]
    """The types of inputs, by the name of the input, as far as they are checked."""
    type_of_others: object = object
    """The type of inputs that no parameter names."""

    def convert(self, given: dict[str, object]) -> str:
        """Convert inputs to the types of their parameters, in place. Return what does not fit; empty if all fit.

        Each problem names the place: `$.order.lines[2].count: expected `int`, got `str``.
        """
        if not self.types and self.type_of_others is object:
            return ""
        problems = []
        for name, kind in self._types_of(given):
            try:
                given[name] = msgspec.convert(given[name], kind)
            except msgspec.ValidationError as error:
                problems.append(_told(name, error))
        return "; ".join(problems)

    def _types_of(self, given: Mapping[str, object]) -> list[tuple[str, object]]:
        found = [(name, kind) for name, kind in self.types.items() if name in given]
        if self.type_of_others is not object:
            known = {each.name for each in self.parameters}
            found += [(name, self.type_of_others) for name in given if name not in known and name != self.context]
        return found


def read_signature(function: Callable[..., object], *, typed: bool) -> Inputs:
    """Read the signature of a function; without `typed`, all inputs fit.

    Raises TypeError for a parameter that cannot be given by name, a type that no JSON value has, or a default that is
    not JSON.
    """
    parameters: list[Parameter] = []
    types: dict[str, object] = {}
    accepts_any, context, others = False, "", object
    for each in inspect.signature(function).parameters.values():
        place = f"{function.__qualname__}: {each.name}"
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise TypeError(f"{function.__qualname__}: {each} cannot be given by name")
        if str(getattr(each.annotation, "__name__", each.annotation)).rpartition(".")[2] == CONTEXT:
            context = each.name
            continue
        kind = _read_type(function, each.annotation, place) if typed else object
        if each.default is None and kind not in _ANYTHING:
            kind = Optional[kind]  # noqa: UP045 (`|` is not for every annotation)
        if each.kind is each.VAR_KEYWORD:
            accepts_any, others = True, kind
            continue
        name = input_name(each.name)
        if kind not in _ANYTHING:
            types[name] = kind
        parameters.append(_read_parameter(name, each.default, place))
    return Inputs(tuple(parameters), accepts_any, context, types, others)


def input_name(parameter: str) -> str:
    """Return the name of the input: `from_` is `from`, because Python has no such parameter."""
    return parameter[:-1] if parameter.endswith("_") and keyword.iskeyword(parameter[:-1]) else parameter


def _read_parameter(name: str, default: object, place: str) -> Parameter:
    if default is inspect.Parameter.empty:
        return Parameter(name)
    value = plain(list(default) if isinstance(default, tuple) else default)
    try:
        encode(value)
    except UnfitValue as error:
        raise TypeError(f"{place}: the default is not JSON: {error}") from None
    return Parameter(name, required=False, default=Constant(value))


def _read_type(function: Callable[..., object], annotation: object, place: str) -> Any:
    """Return the type by which an input is checked; `object`: it is not checked. Raises TypeError."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
        except (NameError, AttributeError):  # it exists for type checkers only
            return object
    if annotation in _ANYTHING:
        return object
    try:
        kind = msgspec.inspect.type_info(annotation)
    except (TypeError, NameError) as error:
        raise TypeError(f"{place}: inputs cannot be checked by its annotation: {error}") from None
    if isinstance(kind, msgspec.inspect.CustomType):
        raise TypeError(
            f"{place}: no JSON value is a {kind.cls.__qualname__}; annotate what the workflow sends (str, a dataclass, "
            "object ...) and convert it in the function"
        )
    return annotation


def _told(name: str, error: msgspec.ValidationError) -> str:
    """Return a problem with its place: msgspec names it from the value on, and not at all if it is the value."""
    words, _, path = str(error).partition(" - at `$")
    return f"$.{name}{path.removesuffix('`')}: {words[:1].lower()}{words[1:]}"
