"""An outcome that cannot be sent becomes a failure with the reason."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dalsegno.actions.action import Delegated
from dalsegno.v1.executor_service_pb2 import TASK_OUTCOME_DELEGATED, TASK_OUTCOME_FAILED, TASK_OUTCOME_SUCCEEDED
from dalsegno.worker.outcome import describe_result


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
