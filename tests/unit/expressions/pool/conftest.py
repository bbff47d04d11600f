"""A pool of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import yaql

from dalsegno.expressions.pool.pool import Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two processes for evaluations and two for calls, ready."""
    made = Pool(2, calls=2, modules=[planted.MODULE])
    assert made.evaluate(yaql("1 + 1")) == 2
    yield made
    made.close()


@pytest.fixture
def own_pool() -> Iterator[Pool]:
    """One that a single test has, with one process for evaluations, not started."""
    made = Pool(1, modules=[planted.MODULE])
    yield made
    made.close()
