"""Jinja, sandboxed and compiled once. The context is `_` or `ctx()`; the functions are globals and filters alike."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from jinja2 import StrictUndefined, TemplateError, nodes, pass_context
from jinja2.environment import Template, TemplateExpression
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dalsegno.expressions import functions
from dalsegno.expressions.apart import evaluate_apart
from dalsegno.expressions.budget import NUMBER_BITS, TEXT_LENGTH, Budget
from dalsegno.expressions.jinja_cost import is_simple, nodes_of
from dalsegno.expressions.jinja_names import find_unknown
from dalsegno.expressions.language import MISTRAL, Language
from dalsegno.expressions.values import PLAIN, SCALARS, describe, finish
from dalsegno.expressions.yaql.evaluate import NO_NAMES, shorten
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.parse import SyntaxProblem
from dalsegno.expressions.yaql.registry import Builtin
from dalsegno.workflow.scope import EvaluationError, Scope

Path = tuple[str, ...]
RUNNING = "the evaluation"
"""Where Jinja keeps what its functions need: under a name that no template can write."""


class Variables(Mapping[str, Any]):
    """`_` or `ctx()`: asks the scope for single variables, and for all of them only when somebody walks through it.

    The sandbox hides what begins with an underscore.
    """

    __slots__ = ("_budget", "_budgeted", "_language", "_scope")

    def __init__(self, scope: Scope, language: Language, budget: Budget, budgeted: bool) -> None:
        self._scope = scope
        self._language = language
        self._budget = budget
        self._budgeted = budgeted
        """Whether this is the engine itself, where nothing may take long, and not the process apart."""

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str) or self._language.hides(name):
            raise KeyError(name)
        return self._scope.variable(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._everything())

    def __len__(self) -> int:
        return len(self._everything())

    def __repr__(self) -> str:
        return repr(self._everything())

    def _everything(self) -> dict[str, object]:
        return self._language.shown(self._scope)


class NeedsProcess(Exception):
    """What looked like short work is not, so that the process apart has to do it."""


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox; a name after a dot is a key of a dict first, and a method of it only when there is no such key."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Numbers are reckoned with here; texts are repeated and formatted apart."""
        running = _running(context)
        if running._budgeted:
            if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
                raise NeedsProcess
            if operator == "**" and isinstance(left, int) and left.bit_length() * right > NUMBER_BITS:
                raise EvaluationError(f"an integer grows beyond {NUMBER_BITS:,} bits")
        found = super().call_binop(context, operator, left, right)
        return running._budget.reckon(found) if isinstance(found, int) else found

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
        if isinstance(obj, Variables) and isinstance(found, Undefined):
            return self.undefined(f"there is no variable {name!r}")
        return found


def _running(context: Context) -> Variables:
    running = context.parent.get(RUNNING)
    if not isinstance(running, Variables):
        raise EvaluationError("the context is not there")
    return running


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
    """Orquesta's `ctx()`: asks for a variable when it is told which."""
    running = _running(context)
    if key is None:
        return running
    _check_defined(key)
    if not isinstance(key, str):
        raise EvaluationError(f"ctx() needs the name of a variable, not {describe(key)}")
    try:
        return running[key]
    except KeyError:
        raise EvaluationError(f"there is no variable {key!r}") from None


@pass_context
def _choose(context: Context, items: Any) -> object:
    """The filter `random`, from the event's seed."""
    running = _running(context)
    return functions.draw(running._scope, running._budget).choice(items)


class Named(dict[str, Any]):
    """Filters or tests by name. Jinja compiles an expression with an unknown one, as Mistral has it, and it fails when
    it is evaluated: the branch that uses it may never run."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, _refuse_unknown)


def _refuse_unknown(*values: object) -> object:
    raise EvaluationError("there is no such filter or test")


@lru_cache(maxsize=4)
def environment(language: Language = MISTRAL) -> Environment:
    # Not optimized: that would compute constants while compiling, a billion characters if somebody says so.
    made = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, optimized=False)
    functions = {name: _bind(entry) for name, entry in language.functions.items()}
    if language.context_is_called:
        functions["ctx"] = _context
    made.globals.update(functions)
    made.filters = Named(made.filters | functions | {"random": _choose})
    made.tests = Named(made.tests)
    return made


class _Source(ABC):
    """What a Jinja text and a Jinja expression have in common: how they are evaluated, here or apart."""

    __slots__ = ("language", "simple", "text", "unknown")

    notation: ClassVar[str]
    """What the evaluation process is told that it is."""

    def __init__(self, text: str, language: Language, tree: nodes.Template | None) -> None:
        found = [] if tree is None else nodes_of(tree)
        self.text = text
        self.language = language
        self.simple = is_simple(found, language.quick_functions)
        self.unknown = find_unknown(found, environment(language)) if found else ()
        """What it calls that there is not."""

    def evaluate(self, scope: Scope, place: str = "") -> object:
        """The value as plain JSON data. Raises EvaluationError."""
        if self.simple:
            try:
                return self._evaluate(scope, place, budgeted=True)
            except NeedsProcess:
                pass
        return evaluate_apart(self.notation, self.text, scope, place, self.language.name)

    def evaluate_here(self, scope: Scope, place: str) -> object:
        """The same in this process, whatever it takes. Raises EvaluationError."""
        return self._evaluate(scope, place, budgeted=False)

    def _evaluate(self, scope: Scope, place: str, budgeted: bool) -> object:
        variables = Variables(scope, self.language, Budget(place), budgeted)
        return _evaluate(self.text, variables, self._value, self._plain())

    def _plain(self) -> frozenset[type]:
        """The types of values that need no look at what they hold."""
        return SCALARS

    @abstractmethod
    def _value(self, variables: Variables) -> object:
        """The value as Jinja gives it."""


class JinjaExpression(_Source):
    """`{{ … }}` alone: its value keeps its type. Compiled when it is evaluated first, unless it is only a path."""

    __slots__ = ("compiled", "path")

    notation = "jinja"

    def __init__(self, text: str, language: Language, path: Path | None, tree: nodes.Template | None = None) -> None:
        super().__init__(text, language, tree)
        self.path = path
        self.compiled: TemplateExpression | None = None

    def _plain(self) -> frozenset[type]:
        return SCALARS if self.path is None else PLAIN

    def _value(self, variables: Variables) -> object:
        if self.path is not None:
            return _follow(variables, self.path)
        if self.compiled is None:
            self.compiled = environment(self.language).compile_expression(_inner(self.text), undefined_to_none=False)
        value = self.compiled(_names(variables))
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        return value


class JinjaText(_Source):
    """A text with expressions and blocks in it: its value is text. Compiled when it is rendered first."""

    __slots__ = ("compiled",)

    notation = "jinja text"

    def __init__(self, text: str, language: Language, tree: nodes.Template) -> None:
        super().__init__(text, language, tree)
        self.compiled: Template | None = None

    def _value(self, variables: Variables) -> object:
        if self.compiled is None:
            self.compiled = environment(self.language).from_string(self.text)
        parts = []
        for part in self.compiled.generate(_names(variables)):
            variables._budget.build(len(part))
            parts.append(part)
        return "".join(parts)


def _names(variables: Variables) -> dict[str, Variables]:
    """The names that a template starts with."""
    if variables._language.dollar_is_context:
        return {RUNNING: variables, "_": variables}
    return {RUNNING: variables}


def _evaluate(text: str, variables: Variables, value: Callable[[Variables], object], plain: frozenset[type]) -> object:
    """The finished value. Raises EvaluationError and NeedsProcess."""
    try:
        found = value(variables)
        if isinstance(found, Variables):
            return variables._everything()
        return finish(found, variables._budget, plain=plain)
    except EvaluationError as error:
        cause = str(error)
    except TemplateError as error:
        cause = error.message or type(error).__name__
    except RecursionError:
        cause = "it nests too deeply"
    except (MemoryError, NeedsProcess):
        raise
    except Exception as error:
        # Filters and methods raise whatever they like, and all of it is the expression's fault.
        cause = f"{type(error).__name__}: {error}"
    raise EvaluationError(f"{shorten(text, 200)}: {shorten(cause, 1_000)}")


def _follow(variables: Variables, path: Path) -> object:
    """A variable and keys in it, without the detour through Jinja. Raises EvaluationError."""
    try:
        value: Any = variables[path[0]]
    except KeyError:
        raise EvaluationError(f"there is no variable {path[0]!r}") from None
    for name in path[1:]:
        if type(value) is dict and name in value:
            value = value[name]
        else:
            value = environment(variables._language).getattr(value, name)
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
    return value


_KEY = r"\.[^\W\d_]\w*"
_DOLLAR_PATH = re.compile(rf"_((?:{_KEY})+)", re.ASCII)
_CONTEXT_PATH = re.compile(rf"""ctx\(\s*(?:'(\w+)'|"(\w+)")?\s*\)(?:\[(?:'(\w+)'|"(\w+)")\])?((?:{_KEY})*)""", re.ASCII)
"""`ctx().a.b`, `ctx('a').b` and `ctx()['a'].b`."""


def _find_path(source: str, language: Language) -> Path | None:
    """The variable and the keys in it that the expression asks for, when it does nothing else."""
    found = (_DOLLAR_PATH if language.dollar_is_context else _CONTEXT_PATH).fullmatch(source)
    if found is None:
        return None
    path = tuple(part for group in found.groups() if group for part in group.strip(".").split("."))
    return path or None


def _inner(text: str) -> str:
    """The expression without its marks."""
    return text[2:-2].strip("-+ \t")


@lru_cache(maxsize=16_384)
def compile_jinja_expression(text: str, language: Language = MISTRAL) -> JinjaExpression:
    """The expression of this text, with its marks. Raises SyntaxProblem."""
    path = _find_path(_inner(text), language)
    if path is not None:
        return JinjaExpression(text, language, path)
    return JinjaExpression(text, language, None, _parse(text, language, as_expression=True))


@lru_cache(maxsize=16_384)
def compile_jinja_text(text: str, language: Language = MISTRAL) -> JinjaText:
    """The template of this text. Raises SyntaxProblem."""
    return JinjaText(text, language, _parse(text, language, as_expression=False))


def _parse(text: str, language: Language, as_expression: bool) -> nodes.Template:
    _check_length(text)
    try:
        if as_expression:
            parser = Parser(environment(language), _inner(text), state="variable")
            expression = parser.parse_expression()
            if not parser.stream.eos:
                raise TemplateSyntaxError("chunk after expression", parser.stream.current.lineno)
            return nodes.Template([nodes.Output([expression], lineno=1)], lineno=1)
        return environment(language).parse(text)
    except (TemplateError, RecursionError, ValueError, ArithmeticError) as error:
        raise SyntaxProblem(_explain(error)) from None


def _check_length(text: str) -> None:
    if len(text) > TEXT_LENGTH:
        raise SyntaxProblem(f"the expression is longer than {TEXT_LENGTH:,} characters")


def _explain(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        line = f" (line {error.lineno} of the text)" if error.lineno > 1 else ""
        return f"{error.message}{line}"
    return str(error) or type(error).__name__
