"""Tests of a group stay together (tests/conftest.py)."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("together")
def test_the_scheduler_learns_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """The id that the scheduler gets names the group; without several processes it names the test only."""
    is_grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@together") == is_grouped
