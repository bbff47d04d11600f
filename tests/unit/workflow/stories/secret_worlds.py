"""Worlds with secrets, and what their executors see."""

from __future__ import annotations

import json
from typing import Any

from tests.world import CIPHERS, Played, World, play_standard

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.secrets import show
from dalsegno.workflow.value import Value

PASSWORD = "correct horse battery/staple?"
CIPHER = CIPHERS.of("")

ECHO = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.echo, input: {output: <% $.password %>}}
"""
"""A workflow that gives its password to an action."""


class Seen:
    """Plays actions as executors do: with their inputs decrypted. Keeps what it saw."""

    def __init__(self, answer: Any = None) -> None:
        self.inputs: list[tuple[str, Any]] = []
        self._answer = answer

    def __call__(self, execution: Execution, attempt: Attempt) -> Played:
        given = show(attempt.input.data, CIPHER)
        task = execution.tasks[attempt.key[0]]
        self.inputs.append((task.name, given))
        if self._answer is not None:
            played = self._answer(task.name, given)
            if played is not None:
                assert isinstance(played, Played)
                return played
        shown = Attempt(attempt.key, attempt.action, Value(data=given), attempt.state)
        return play_standard(execution, shown)


def world(text: str, answer: Any = None) -> tuple[World, Seen]:
    """A world that knows the definitions, and what its executors see."""
    seen = Seen(answer)
    made = World(player=seen)
    made.define(text)
    return made, seen


def written(here: World) -> str:
    """Everything that would be stored or sent: journals, large texts, notices, messages."""
    texts = [line for journal in here.journals.values() for line in journal]
    texts += [notice.payload.text for notice in here.notices]
    texts += [text for text in here.texts.values()] if hasattr(here.texts, "values") else [repr(here.texts)]
    return "\n".join(texts)


def assert_hidden(here: World, *texts: str) -> None:
    """None of these texts is stored anywhere, and each journal gives its execution again."""
    here.check_journals()
    whole = written(here)
    for text in texts:
        assert text not in whole
        assert json.dumps(text)[1:-1] not in whole
