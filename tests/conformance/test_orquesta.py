"""Orquesta's recorded cases agree, but for the differences that definitions/orquesta/README.md lists."""

from __future__ import annotations

import pytest
from tests.conformance import run

# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")


def agree(found: run.Tally, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("", *found.failures, found.closing_line, sep="\n")
    assert not found.failures
    assert found.agree
    assert found.lists_few


def test_orquesta_cases(capsys: pytest.CaptureFixture[str]) -> None:
    """Every run and every inspection agrees or is a listed difference, and at most 3 % of the cases are listed."""
    agree(run.through_core(run.KINDS["orquesta-cases"]), capsys)


def test_orquesta_operations(capsys: pytest.CaptureFixture[str]) -> None:
    """After every step stands what was recorded (O1-O36), or it is a listed difference; at most 3 % are."""
    agree(run.through_core(run.KINDS["orquesta-operations"]), capsys)
