"""What is kept with a work from one pass to the next."""

from __future__ import annotations

from tests.unit.engine.test_conductor import Start

from dalsegno.engine.batches.deferred import DeferredWorks, WorkEvaluator
from dalsegno.expressions.pool_client import Attempt


def test_attempts_in_vain_are_those_of_their_work_until_it_is_done() -> None:
    """The next pass of the same work knows them; another work does not, and nobody does in the end."""
    evaluator = WorkEvaluator(lambda work: None)
    first, second = Start(0), Start(1)
    moment, attempt = ("text", "place", 200_000), Attempt(20_000, is_moved=True)
    evaluator.begin(first)
    evaluator.keep_attempt(moment, attempt)
    evaluator.end()
    evaluator.begin(second)
    assert moment not in evaluator.attempts
    evaluator.end()
    evaluator.begin(first)
    assert evaluator.attempts[moment] == attempt
    evaluator.end()
    assert moment not in evaluator.attempts
    DeferredWorks(lambda work: None).forget(first)
    evaluator.begin(first)
    assert moment not in evaluator.attempts
