"""YAQL's `format`: compiled, by the library and in a process apart, in both languages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.expressions.pool_client import evaluate_in_pool
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.library import evaluate_by_library
from dalsegno.workflow.scope import EvaluationError

Evaluate = Callable[[str, Language], object]

SCOPE = PlainScope({"text": "{0} of {name}"})


def by_closure(text: str, language: Language) -> object:
    """The value as the engine finds it."""
    expression = compile_yaql(text, language)
    assert expression.closure is not None
    return expression.evaluate(SCOPE)


def by_library(text: str, language: Language) -> object:
    """The value as the library finds it."""
    return evaluate_by_library(text, Frame(SCOPE, Budget(), {}), language)


def by_process(text: str, language: Language) -> object:
    """The value as an evaluation process finds it, over the pipe and back."""
    return evaluate_in_pool("yaql", text, SCOPE, "", language.name)


every_way = pytest.mark.parametrize("evaluate", [by_closure, by_library, by_process])
both_languages = pytest.mark.parametrize("language", [MISTRAL, ORQUESTA], ids=["mistral", "orquesta"])


@every_way
@both_languages
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'{0} of {name}'.format(1, name => x)", "1 of x"),
        ("format('{0} of {name}', 1, name => x)", "1 of x"),
        ("'{}-{}'.format(a, b)", "a-b"),
        ("'{1}{0}{1}'.format(a, b)", "bab"),
        (
            "'{camelCase} {snake_case} {text} {frame}'.format(camelCase => 1, snake_case => 2, text => 3, frame => 4)",
            "1 2 3 4",
        ),
        ("'{0} {1} {2} {3}'.format(true, null, 2.5, 12)", "True None 2.5 12"),
        ("'{0} {1}'.format([1, [a]], {k => 1})", "(1, ('a',)) {'k': 1}"),
        ("'{0}'.format(range(3))", "(0, 1, 2)"),
        ("'{0:>4}|{0:<4}|{0:^4}|{0:*^5}|{0:.1}'.format(ab)", "  ab|ab  | ab |*ab**|a"),
        (
            "'{0:05d} {0:+} {0:x} {0:#b} {1:.2f} {1:e} {1:08.3f} {2:,} {1:%}'.format(10, 0.5, 12345)",
            "00010 +10 a 0b1010 0.50 5.000000e-01 0000.500 12,345 50.000000%",
        ),
        ("'{{0}} {0}'.format(1)", "{0} 1"),
        ("'nothing'.format(1, a => 2)", "nothing"),
        ("[1, 2].select('n{0}'.format($))", ["n1", "n2"]),
    ],
)
def test_values(evaluate: Evaluate, language: Language, text: str, value: object) -> None:
    """Fields by place, by name and counted, with Python's formats; lists and dicts look as `str()` shows them."""
    assert evaluate(text, language) == value


@every_way
@both_languages
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'{0.__class__}'.format(1)", "does not look into values for `{0.__class__}`"),
        ("'{name.a}'.format(name => {a => 1})", "does not look into values for `{name.a}`"),
        ("'{0[a]}'.format({a => 1})", "does not look into values for `{0[a]}`"),
        ("'{.a}'.format({a => 1})", "does not look into values for `{.a}`"),
        ("'{a b}'.format(1)", "does not look into values for `{a b}`"),
        ("'{99999}'.format(1)", "does not look into values"),
        ("'{0!r}'.format(1)", "take `!r` out of `{0}`"),
        ("'{0:{1}}'.format(1, 2)", "does not know the format `{1}`"),
        ("'{0:c}'.format(55296)", "does not know the format `c`"),
        ("'{0:n}'.format(1)", "does not know the format `n`"),
        ("'{0:>1001}'.format(1)", "at most 1,000 characters or digits, not `>1001`"),
        ("'{0:.1001f}'.format(1)", "at most 1,000 characters or digits, not `.1001f`"),
        ("'{0:>99999999999999999999}'.format(1)", "at most 1,000 characters"),
        ("'{0:d}'.format(a)", "Unknown format code 'd'"),
        ("'{0:>9}'.format([1])", "`>9` applies to texts and numbers only"),
        ("'{0:>9}'.format(null)", "`>9` applies to texts and numbers only"),
        ("'{1}'.format(1)", "no argument for `{1}`"),
        ("'{x}'.format(1)", "no argument for `{x}`"),
        ("'{0}'.format(x => 1)", "no argument for `{0}`"),
        ("'{}{0}'.format(1)", "all fields have a number or none"),
        ("'{'.format(1)", "Single '{'"),
        ("'{0}'.format(pow(10, 5000))", "an integer grows beyond 4,300 digits"),
    ],
)
def test_refusals(evaluate: Evaluate, language: Language, text: str, said: str) -> None:
    """What looks into a value, is longer than bounds allow, or does not fit, says so."""
    with pytest.raises(EvaluationError) as failure:
        evaluate(text, language)
    assert said in str(failure.value)
    assert "sys." not in str(failure.value)


def test_the_text_may_be_data() -> None:
    """A text of the context is a format like one that stands in the expression."""
    assert by_closure("$.text.format(1, name => x)", MISTRAL) == "1 of x"
    assert by_closure("ctx(text).format(1, name => x)", ORQUESTA) == "1 of x"
    with pytest.raises(EvaluationError, match="needs a string, not an integer"):
        by_closure("1.format(2)", MISTRAL)
