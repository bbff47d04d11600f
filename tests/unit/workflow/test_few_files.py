"""How far a reader goes to follow the core."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest
from tests.unit.workflow.stories.test_course import CHAIN, world

import dalsegno.workflow
from dalsegno.workflow import machine
from dalsegno.workflow.events import Event, TaskDone
from dalsegno.workflow.running.step import Step

CORE = Path(dalsegno.workflow.__file__).parent
FILES_MAX = 12
RETURNS_MAX = 2


def test_what_a_report_decides_is_read_in_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a report to its follow-ups, each function read once, at its first call: at most 12 files, and at most two
    returns to any of them."""
    functions: dict[tuple[str, str], None] = {}
    decide = machine._decide

    def trace(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(CORE):
            functions.setdefault((path.relative_to(CORE).as_posix(), frame.f_code.co_qualname))

    def traced(step: Step, event: Event) -> None:
        if not isinstance(event, TaskDone):
            decide(step, event)
            return
        before = sys.getprofile()
        sys.setprofile(trace)
        try:
            decide(step, event)
        finally:
            sys.setprofile(before)

    monkeypatch.setattr(machine, "_decide", traced)
    here = world(CHAIN)
    here.start("wf", {"n": 1})
    here.run()
    visits = Counter(file for file, _ in groupby(file for file, _ in functions))
    assert visits["running/reporting.py"] == visits["machine.py"] == 1
    assert len(visits) <= FILES_MAX
    assert max(visits.values()) <= 1 + RETURNS_MAX
