"""An outcome that cannot be sent becomes a failure with the reason."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from typing import Any, cast

import msgspec
import pytest

from dalsegno.actions.action import Delegated
from dalsegno.v1.executor_service_pb2 import TASK_OUTCOME_DELEGATED, TASK_OUTCOME_FAILED, TASK_OUTCOME_SUCCEEDED
from dalsegno.worker.outcome import describe_exception, describe_result


@pytest.mark.parametrize(
    ("alias", "completion_timeout_s", "said"),
    [
        ("order\0", None, "the alias holds, as character 6, NUL"),
        ("order\ud800", None, "surrogates not allowed"),
        (17, None, "cannot be sent"),
        ("order", float("nan"), "cannot be sent"),
        ("order", float("inf"), "cannot be sent"),
        ("order", 1e15, "the completion_timeout is not a length of at most 10,000 years"),
    ],
)
def test_a_delegation_that_cannot_be_sent_is_a_failure(
    alias: Any, completion_timeout_s: float | None, said: str
) -> None:
    """An action that names a wrong alias or completion timeout fails; its executor continues."""
    done = describe_result(Delegated(cast(str, alias), completion_timeout_s))
    assert done.outcome == TASK_OUTCOME_FAILED
    assert said in done.error


def test_other_outcomes_are_told_as_they_are() -> None:
    """A correct alias and completion timeout are kept; a result is measured in bytes."""
    done = describe_result(Delegated("order-17", 2.5))
    assert (done.outcome, done.alias, done.completion_timeout.ToMilliseconds()) == (
        TASK_OUTCOME_DELEGATED,
        "order-17",
        2500,
    )
    assert describe_result("ä" * 1_999_999).outcome == TASK_OUTCOME_SUCCEEDED
    large = describe_result("ä" * 2_200_000)
    assert (large.outcome, large.error) == (
        TASK_OUTCOME_FAILED,
        "result too large: 4,400,002 bytes, at most 4,000,000",
    )


class Part(msgspec.Struct):
    """A part."""

    name: str
    made: datetime.date


@dataclasses.dataclass
class Machine:
    """A machine."""

    serial: int
    parts: list[Part]


def test_structs_and_dataclasses_are_results() -> None:
    """Structs and dataclasses are sent as objects, alone and within other data; sets and NaN are still refused."""
    machine = Machine(2**70, [Part("axle", datetime.date(2026, 3, 1))])
    whole = {"serial": 2**70, "parts": [{"name": "axle", "made": "2026-03-01"}]}

    for returned, expected in ((machine, whole), ([machine, {"a": (machine,)}], [whole, {"a": [whole]}])):
        done = describe_result(returned)
        assert json.loads(done.result) == expected
    for returned, words in (
        ([machine, {1}], "$[1]: a set is not JSON"),
        ([machine, math.nan], "$[1]: nan is not JSON"),
    ):
        assert describe_result(returned).error == f"the result is not JSON: {words}"


def test_an_exception_that_cannot_be_shown_is_named() -> None:
    """An exception whose text raises is described by its type."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert describe_exception("test.odd", Odd()).error == "The action raised an exception [action=test.odd, msg='Odd']"
