"""What is kept with a work from one pass to the next."""

from __future__ import annotations

from tests.unit.engine.test_conductor import Start

from dalsegno.engine.batches.deferred import DeferredWorks, WorkEvaluator
from dalsegno.expressions.pool_client import Overrun


def test_overruns_are_those_of_their_work_until_it_is_done() -> None:
    """The next pass of the same work knows them; another work does not, and nobody does in the end."""
    evaluator = WorkEvaluator(lambda work: None)
    first, second = Start(0), Start(1)
    moment, overrun = ("text", "place", 200_000), Overrun(20_000, is_moved=True)
    evaluator.begin(first)
    evaluator.keep_overrun(moment, overrun)
    evaluator.end()
    evaluator.begin(second)
    assert moment not in evaluator.overruns
    evaluator.end()
    evaluator.begin(first)
    assert evaluator.overruns[moment] == overrun
    evaluator.end()
    assert moment not in evaluator.overruns
    DeferredWorks(lambda work: None).forget(first)
    evaluator.begin(first)
    assert moment not in evaluator.overruns
