"""The types of inputs: what an action says by its annotations, and what happens to an input that does not fit."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from dalsegno.actions.action import Action, ActionContext, action


class Line(msgspec.Struct):
    """A line of an order."""

    article: str
    count: Annotated[int, msgspec.Meta(ge=1)]


@dataclasses.dataclass
class Order:
    """An order."""

    lines: list[Line]
    due: datetime.date | None = None


@action("test.send")
def send(order: Order, weight: float = 0, from_: str = "", anything: Any = None) -> object:
    """Returns what it is given."""
    return order, weight, from_


def problem_of(made: Action[..., object], **given: object) -> str:
    """Return the error of an input that does not fit."""
    with pytest.raises(TypeError) as caught:
        made.arguments(given)
    return str(caught.value)


def test_an_input_is_converted_to_its_annotation() -> None:
    """An object becomes a dataclass or a Struct, a text a date, an int a float."""
    given: dict[str, object] = {"order": {"lines": [{"article": "nut", "count": 2}], "due": "2026-03-01"}, "weight": 3}

    arguments = send.arguments({**given, "from": "Port Ellis"})

    assert arguments["order"] == Order([Line("nut", 2)], datetime.date(2026, 3, 1))
    assert type(arguments["weight"]) is float
    assert arguments["from_"] == "Port Ellis"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"order": {"lines": [{"article": "nut", "count": 1}, {"article": "bolt", "count": "two"}]}},
            "input $.order.lines[1].count: expected `int`, got `str`",
        ),
        ({"order": {"lines": [{"article": "nut", "count": 0}]}}, "input $.order.lines[0].count: expected `int` >= 1"),
        ({"order": {"lines": [{}]}}, "input $.order.lines[0]: object missing required field `article`"),
        ({"order": 7}, "input $.order: expected `object`, got `int`"),
        (
            {"order": [], "weight": "heavy", "from": None},
            "input $.order: expected `object`, got `array`; $.weight: expected `float`, got `str`; "
            "$.from: expected `str`, got `null`",
        ),
        ({"order": {"lines": [], "due": "soon"}}, "input $.order.due: invalid RFC3339 encoded date"),
        ({"oder": {}}, "input missing: order; unknown: oder"),
    ],
)
def test_an_input_that_does_not_fit_is_named_with_its_path(given: dict[str, object], words: str) -> None:
    """The error has the path of each value that does not fit; missing and unknown names come first."""
    assert problem_of(send, **given) == words


def test_null_is_taken_where_it_is_the_default() -> None:
    """`count: int = None` takes null, as it is written so often; a parameter without that default does not."""

    @action("test.count")
    def count(first: int, second: int = None, third: list[int] = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013

    given = {"first": 1, "second": None, "third": None}
    assert count.arguments(dict(given)) == given
    assert problem_of(count, first=None, second="2") == (
        "input $.first: expected `int`, got `null`; $.second: expected `int | null`, got `str`"
    )


def test_without_annotation_everything_fits() -> None:
    """`object`, `Any`, no annotation and `typed=False` take every input; exact integers stay exact."""

    @action("test.open")
    def take(one, two: Any, three: object, four: Mapping[str, object]) -> None: ...  # type: ignore[no-untyped-def]

    @action("test.lenient", typed=False)
    def wait(seconds: float) -> None: ...

    given = {"one": 2**70, "two": [None], "three": "x", "four": {"a": [1, {"b": None}]}}
    assert take.arguments(dict(given)) == given
    assert wait.arguments({"seconds": "2"}) == {"seconds": "2"}


def test_other_inputs_have_the_type_of_the_keywords() -> None:
    """`**anything: int` takes other inputs that are integers, and not the context."""

    @action("test.sum")
    def total(context: ActionContext, first: int, **others: int) -> None: ...

    assert total.arguments({"first": 1, "second": 2}) == {"first": 1, "second": 2}
    assert problem_of(total, first=1, second="2") == "input $.second: expected `int`, got `str`"
    assert problem_of(total, first=1, context=2) == "input unknown: context"


def test_a_type_that_no_input_has_is_refused_when_the_action_is_made() -> None:
    """The error says what to annotate instead."""

    def copy(source: Path) -> None: ...

    def call(function: Callable[[], None] = print) -> None: ...

    with pytest.raises(TypeError, match="source: no JSON value is a Path; annotate what the workflow sends"):
        action("test.copy")(copy)
    with pytest.raises(TypeError, match="function: "):
        action("test.call")(call)


def test_a_default_is_one_that_workflows_can_read() -> None:
    """A default that is a dataclass is described as the object it stands for; one that is not JSON is refused."""

    @action("test.order")
    def place(order: Order = Order([Line("nut", 1)])) -> None: ...  # noqa: B008

    def wait(seconds: float = float("nan")) -> None: ...

    (parameter,) = place.description.parameters
    assert parameter.default is not None
    assert parameter.default.value == {"lines": [{"article": "nut", "count": 1}], "due": None}  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="seconds: the default is not JSON: "):
        action("test.wait")(wait)


def test_an_action_without_a_name_is_refused() -> None:
    """`@action` alone says what to write."""

    def greet() -> None: ...

    with pytest.raises(TypeError, match="an action needs a name"):
        action(greet)  # type: ignore[arg-type]
