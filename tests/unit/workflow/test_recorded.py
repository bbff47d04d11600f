"""What older versions have written is read for ever: recorded journals and messages, one line for each kind.

A line is never changed. Whoever adds a kind adds a line with all its fields and one with those that it must have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_changes, decode_event, encode_changes, encode_event
from dalsegno.workflow.events import AnyEvent

RECORDED = Path(__file__).parent / "recorded"
CHANGES = (RECORDED / "changes.jsonl").read_text(encoding="utf-8").splitlines()
EVENTS = (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", CHANGES)
def test_a_recorded_change_is_read_and_written_as_it_was(line: str) -> None:
    """An old journal decodes, and nothing of it is lost or written otherwise."""
    assert encode_changes(decode_changes(f"[{line}]", Texts()), Texts()) == f"[{line}]"


@pytest.mark.parametrize("line", EVENTS)
def test_a_recorded_message_is_read_and_written_as_it_was(line: str) -> None:
    """An old message decodes, and nothing of it is lost or written otherwise."""
    assert encode_event(decode_event(line, Texts()), Texts()) == line


def test_every_kind_of_change_and_event_is_recorded() -> None:
    """No kind goes without a record."""
    assert {json.loads(line)["type"] for line in CHANGES} == {kind.__name__ for kind in get_args(AnyChange)}
    assert {json.loads(line)["type"] for line in EVENTS} == {kind.__name__ for kind in get_args(AnyEvent)}
