"""A function's signature describes its action."""

from __future__ import annotations

import inspect

import pytest

from dalsegno.actions import action as port
from dalsegno.actions.action import Action, ActionContext, action
from dalsegno.workflow.model import Parameter
from dalsegno.workflow.scope import Constant


def test_the_signature_gives_the_parameters() -> None:
    """The signature gives names, defaults and which are required; the docstring's first line is the description."""

    @action("pack.greet", safe_to_rerun=True)
    async def greet(name: str, *, greeting: str = "Hello") -> str:
        """Greets somebody.

        At length.
        """
        return f"{greeting}, {name}"

    described = greet.description

    assert described.name == "pack.greet"
    assert described.parameters == (
        Parameter("name"),
        Parameter("greeting", required=False, default=Constant("Hello")),
    )
    assert (described.safe_to_rerun, described.accepts_any) == (True, False)
    assert described.description == "Greets somebody."


def test_an_action_is_not_safe_to_rerun_unless_it_says_so() -> None:
    """An action is not safe to rerun by default."""

    @action("pack.pay")
    def pay(amount: int) -> None: ...

    assert not pay.description.safe_to_rerun


def test_an_action_is_still_the_function() -> None:
    """Other actions and tests can call the function."""

    @action("pack.double")
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8


def test_any_other_name_is_accepted_with_keywords() -> None:
    """`**anything` takes every input that no parameter names."""

    @action("pack.collect")
    def collect(first: int, **anything: object) -> object:
        return anything

    assert collect.description.accepts_any
    assert collect.problem_with({"first": 1, "second": 2}) == ""
    assert collect.problem_with({"second": 2}) == "missing: first"


def test_all_that_is_wrong_with_an_input_is_named() -> None:
    """The error names every wrong input."""

    @action("pack.measure")
    def measure(width: int, height: int, unit: str = "m") -> None: ...

    assert measure.problem_with({"depth": 1, "colour": 2}) == "missing: height, width; unknown: colour, depth"
    assert measure.problem_with({"width": 1, "height": 2, "unit": "cm"}) == ""


def test_the_context_is_no_parameter() -> None:
    """The executor gives the context, for every form of the annotation; a workflow cannot."""

    @action("pack.where")
    def where(context: ActionContext, word: str = "") -> None: ...

    @action("pack.where_else")
    def where_else(context: port.ActionContext) -> None: ...

    assert [each.name for each in where.description.parameters] == ["word"]
    assert (where.context_parameter, where_else.context_parameter) == ("context", "context")
    assert where.problem_with({"context": {}}) == "unknown: context"


def test_an_annotation_only_for_type_checkers_does_no_harm() -> None:
    """An annotation that does not exist at run time does no harm, and the context is still found."""

    def send(context: ActionContext, order: Order) -> None: ...  # type: ignore[name-defined] # noqa: F821

    made = action("pack.send")(send)

    assert made.context_parameter == "context"
    assert [each.name for each in made.description.parameters] == ["order"]


@pytest.mark.parametrize("name", ["", "two words", ".pack", "pack.", "9lives", "pack..x"])
def test_a_name_must_be_one(name: str) -> None:
    """The name of an action is one that a workflow can write."""
    with pytest.raises(TypeError, match="no name for an action"):
        action(name)(lambda: None)


@pytest.mark.parametrize("function", [lambda *numbers: None, eval("lambda a, /: None")])
def test_parameters_that_cannot_be_named_are_refused(function: object) -> None:
    """A positional-only parameter is refused, since a workflow gives inputs by name."""
    assert callable(function)
    with pytest.raises(TypeError, match="cannot be given by name"):
        action("pack.sum")(function)


def test_only_plain_functions_take_a_thread() -> None:
    """Async actions and those that do not block run on the event loop."""

    async def wait() -> None: ...

    def work() -> None: ...

    assert not action("pack.wait")(wait).blocking
    assert action("pack.work")(work).blocking
    assert not action("pack.work", blocking=False)(work).blocking
    assert inspect.iscoroutinefunction(action("pack.wait")(wait).function)
    assert isinstance(action("pack.wait")(wait), Action)


def test_a_word_of_python_may_be_an_input() -> None:
    """A parameter that is a keyword of Python ends with an underscore; the input does not."""

    @action("pack.mail")
    def mail(from_: str, to_: str, class_: str = "first") -> str:
        return f"{from_} {to_} {class_}"

    assert [each.name for each in mail.description.parameters] == ["from", "to_", "class"]
    given: dict[str, object] = {"from": "a", "to_": "b", "class": "second"}
    assert mail.problem_with(given) == ""
    assert mail.problem_with({"from_": "a", "to_": "b"}) == "missing: from; unknown: from_"
    assert mail.function(**mail.arguments(given)) == "a b second"  # type: ignore[arg-type]


def test_an_answer_may_have_a_schema() -> None:
    """One of the parameters may hold the schema of an answer; another place is refused."""

    def ask(question: object = None) -> None: ...

    made = action("pack.ask", answer_schema="question", answer_key="reply")(ask)
    assert (made.description.answer_schema, made.description.answer_key) == ("question", "reply")
    with pytest.raises(TypeError, match=r"pack\.ask has no parameter schema"):
        action("pack.ask", answer_schema="schema")(ask)
