"""Descriptions of actions as stored text."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from dalsegno.store import descriptions
from dalsegno.store.descriptions import Serving, digest_of, read_description, write_description
from dalsegno.store.records import AttemptRow, DescriptionRow, SessionRow
from dalsegno.store.store import Queries
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.scope import Constant


def test_a_description_is_stored_with_its_letters_as_they_are() -> None:
    """Its digest goes by the text: engines that write the same description alike do not ask for another executor."""
    text = write_description(ActionDescription("pack.greet", (), description="Grüßt"))
    assert '"description": "Grüßt"' in text
    assert read_description(text).description == "Grüßt"
    assert read_description(text).digest == digest_of(text)


def test_a_description_is_read_as_it_was_written() -> None:
    """With its parameters, of which some are required and some have defaults, and what its answers are checked by."""
    action = ActionDescription(
        "pack.ask",
        (Parameter("a"), Parameter("b", required=False, default=Constant([1])), Parameter("c", required=False)),
        accepts_any=True,
        safe_to_rerun=True,
        answer_schema="c",
        answer_key="answer",
    )
    text = write_description(action)
    assert read_description(text) == replace(action, digest=digest_of(text))
    plain = ActionDescription("pack.plain", ())
    assert "answer" not in write_description(plain)
    assert read_description(write_description(plain)).answer_schema == ""


class Sessions:
    """What the store says of sessions and descriptions, and how often inputs were read."""

    def __init__(self, **served: str) -> None:
        """`served`: the digests of the action by the ids of executors."""
        self.rows = [SessionRow(each, each, "engine", 1.0, actions={"pack.a": served[each]}) for each in served]
        one = write_description(ActionDescription("pack.a", (Parameter("x"), Parameter("y", required=False))))
        two = write_description(ActionDescription("pack.a", (Parameter("x"),), accepts_any=True))
        self.texts = {"one": one, "two": two}
        self.read: list[str] = []

    def sessions(self) -> list[SessionRow]:
        self.read.append("sessions")
        return self.rows

    def descriptions(self, names: list[str]) -> list[DescriptionRow]:
        self.read.append("descriptions")
        return [DescriptionRow(digest, "pack.a", text, 1.0) for digest, text in self.texts.items()]

    def attempt(self, execution_id: str, key: AttemptKey) -> object:
        self.read.append("input")
        return SimpleNamespace(input='{"x": 1, "z": 2}')


def awaited(sessions: Sessions, *rows: SimpleNamespace) -> list[str]:
    serving = Serving(cast(Queries, sessions))
    return [serving.awaited(cast(AttemptRow, row)) for row in rows]


def ready(digest: str = "one", target: str = "", given: str | None = '{"x": 1}') -> SimpleNamespace:
    return SimpleNamespace(execution_id="e", key=(1, 0, 1), action="pack.a", digest=digest, target=target, input=given)


def test_what_waits_says_for_whom() -> None:
    """For any executor that is free, where one serves it; else for one that serves it, as described if others serve
    it otherwise, and with its target."""
    assert awaited(Sessions(), ready(), ready(target="zone=a")) == [
        "executor of pack.a",
        "executor of pack.a at zone=a",
    ]
    rows = ready(), ready("two"), ready(""), ready("three"), ready(target="other")
    assert awaited(Sessions(here="one"), *rows) == [
        "executor",
        "executor",
        "executor",
        "executor",
        "executor of pack.a(x, [y]) as described by one at other",
    ]
    unfit = ready("two", given='{"x": 1, "z": 2}'), ready("two", given="[1]"), ready("two", given=None)
    assert awaited(Sessions(here="one"), *unfit) == ["executor of pack.a(x, ...) as described by two"] * 3
    assert awaited(Sessions(here="unknown"), ready("three")) == ["executor of pack.a"]


def test_few_inputs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions and descriptions are read once, and inputs of so many attempts: the others are taken to fit."""
    monkeypatch.setattr(descriptions, "INPUTS_READ", 2)
    sessions = Sessions(here="one")
    rows = [ready("two", given=None)] * 3
    assert awaited(sessions, *rows) == [*["executor of pack.a(x, ...) as described by two"] * 2, "executor"]
    assert sessions.read == ["sessions", "input", "descriptions", "input"]
    sessions = Sessions(here="two")
    assert awaited(sessions, ready("one", given=None)) == ["executor"]
    assert sessions.read == ["sessions", "input", "descriptions"]
