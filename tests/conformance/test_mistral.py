"""Mistral's recorded cases agree, but for the differences that definitions/mistral/README.md lists."""

from __future__ import annotations

import pytest
from tests.conformance import run


def test_mistral_cases(capsys: pytest.CaptureFixture[str]) -> None:
    """Every case agrees or is a listed difference, and at most 3 % of the cases are listed."""
    found = run.through_core(run.KINDS["mistral-cases"])
    with capsys.disabled():
        print("", *found.failures, found.closing_line, sep="\n")
    assert not found.failures
    assert found.agree
    assert found.lists_few


def test_mistral_operations(capsys: pytest.CaptureFixture[str]) -> None:
    """R5, R7, R13, R19, O6: every recorded operation agrees or is a listed difference, with a decision or a BUG."""
    found = run.through_core(run.KINDS["mistral-operations"])
    with capsys.disabled():
        print("", *found.failures, found.closing_line, sep="\n")
    assert not found.failures
    assert found.agree
