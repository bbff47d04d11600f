"""The actions are tested without an engine."""

from orders import pack

from dalsegno.worker.testing import call

NUTS = {"article": "nuts", "count": 2, "weight_kg": 1.5}


def test_an_order_is_packed() -> None:
    """The result is what the workflow sees, the progress what people see."""
    outcome = call(pack, {"lines": [NUTS]})

    assert outcome.result == {"articles": 2, "weight_kg": 3.0}
    assert outcome.progress == (("packed nuts", 1.0),)


def test_what_is_too_heavy_is_not_packed() -> None:
    """A failure has a message and data."""
    outcome = call(pack, {"lines": [NUTS], "limit_kg": 2})

    assert (outcome.word, outcome.error) == ("failed", "too heavy: 3 kg, at most 2")
    assert outcome.result == {"weight_kg": 3.0}


def test_an_input_that_does_not_fit_is_refused() -> None:
    """The function does not run; the error names the field with its path."""
    outcome = call(pack, {"lines": [{**NUTS, "count": "two"}]})

    assert outcome.error == "orders.pack: input $.lines[0].count: expected `int`, got `str`"


def test_a_cancel_reaches_the_action() -> None:
    """A deadline (`timeout_s`) does the same."""
    assert call(pack, {"lines": [NUTS] * 99, "limit_kg": 999}, cancel_after_s=0.2).word == "cancelled"
