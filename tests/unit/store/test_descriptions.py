"""Descriptions of actions as stored text."""

from __future__ import annotations

from dalsegno.store.descriptions import digest_of, read_description, write_description
from dalsegno.workflow.model import ActionDescription


def test_a_description_is_stored_with_its_letters_as_they_are() -> None:
    """Its digest goes by the text: engines that write the same description alike do not ask for another executor."""
    text = write_description(ActionDescription("pack.greet", (), description="Grüßt"))
    assert '"description": "Grüßt"' in text
    assert read_description(text).description == "Grüßt"
    assert read_description(text).digest == digest_of(text)
