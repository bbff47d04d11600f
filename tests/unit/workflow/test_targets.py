"""Targets: which executors they mean, and which texts are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.workflow.targets import UnfitTarget, is_meant, parse_target

LABELS = {"zone": "north", "disk": "ssd", "gpu": "", "example.com/rack": "r-7"}


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("", True),
        ("worker-1", True),
        ("worker-2", False),
        ("north", True),
        ("zone=north", True),
        ("zone == north", True),
        ("zone=south", False),
        ("zone!=south", True),
        ("zone!=north", False),
        ("colour!=red", True),
        ("zone in (south, north)", True),
        ("zone in (south,west)", False),
        ("zone notin (south, west)", True),
        ("colour notin (red)", True),
        ("zone notin (north)", False),
        ("gpu=*", True),
        ("gpu=", True),
        ("zone=", False),
        ("colour=*", False),
        ("!colour", True),
        ("! zone", False),
        ("zone=north, disk in (ssd, nvme),!colour", True),
        ("zone=north,disk=hdd", False),
        ("worker-1,zone=south", False),
        ("worker-1,zone=north", True),
        ("example.com/rack=r-7", True),
    ],
)
def test_a_target_means_executors_by_name_or_labels(target: str, meant: bool) -> None:
    """A name, the value of a label, and conditions on labels of which all must hold."""
    parse_target(target)
    assert is_meant(target, "worker-1", LABELS) is meant


@pytest.mark.parametrize("target", [",", "zone=north,", "zone in north", "zone in ()", "zone in (a,,b)", "=north", "!",
                                    "zone=north=east", "a!b", "zone in (north", "zone is (north)"])  # fmt: skip
def test_a_text_that_means_nothing_is_refused(target: str) -> None:
    """The error says what a target is."""
    with pytest.raises(UnfitTarget, match="it is a name, or label=value"):
        parse_target(target)


@given(st.text(min_size=1, max_size=40))
def test_an_executor_of_exactly_this_name_is_always_meant(name: str) -> None:
    """Whatever the name of an executor is, a target that is the same means it, and no text breaks the question."""
    assert is_meant(name, name, {})
    is_meant(name, "another", LABELS)
