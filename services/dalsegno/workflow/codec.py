"""Changes and events as JSON, for the journal and the messages.

A Value is written as a JSON string with its text. A large one is written as `{"$": digest}`, and its text is kept
apart, to be stored once per execution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import AnyEvent, Event
from dalsegno.workflow.value import Value


class Texts(dict[str, str]):
    """Large texts by digest: those that an encoding has kept apart, or those that a decoding may need."""


def encode_changes(changes: Sequence[AnyChange | Consolidated], aside: Texts) -> str:
    """Return the JSON text of a journal row. Add large values to `aside`."""
    return _encoded(changes, aside)


def decode_changes(text: str, texts: Texts) -> list[AnyChange | Consolidated]:
    """Return the changes of a journal row. Raise KeyError when a large value is not in `texts`."""
    return _changes_decoder(texts).decode(text) if texts else _CHANGES.decode(text)


def encode_event(event: Event, aside: Texts) -> str:
    """Return the JSON text of a message. Add large values to `aside`."""
    return _encoded(event, aside)


def decode_event(text: str, texts: Texts) -> AnyEvent:
    """Return the event of a message. Raise KeyError when a large value is not in `texts`."""
    return _event_decoder(texts).decode(text) if texts else _EVENT.decode(text)


def reference(value: Value, aside: Texts) -> object:
    """Return what a row has for the value: its text, or a reference to it."""
    inline = value.inline
    if inline is not None:
        return inline
    aside[value.digest] = value.text
    return {"$": value.digest}


def _encoded(record: object, aside: Texts) -> str:
    def write(value: object) -> object:
        if isinstance(value, Value):
            return reference(value, aside)
        if isinstance(value, range):
            return [*value]
        raise TypeError(f"a {type(value).__name__} does not go into the store")

    return msgspec.json.encode(record, enc_hook=write).decode()


def _reader(texts: Texts) -> Callable[[type, object], object]:
    def read(kind: type, written: object) -> object:
        if kind is not Value:
            raise TypeError(f"a {kind.__name__} does not come from the store")
        if isinstance(written, dict):
            return Value(text=texts[written["$"]])
        assert isinstance(written, str)
        return Value(text=written)

    return read


def _changes_decoder(texts: Texts) -> msgspec.json.Decoder[list[AnyChange | Consolidated]]:
    return msgspec.json.Decoder(list[AnyChange | Consolidated], dec_hook=_reader(texts))


def _event_decoder(texts: Texts) -> msgspec.json.Decoder[AnyEvent]:
    return msgspec.json.Decoder(AnyEvent, dec_hook=_reader(texts))


# Most texts have no large values. To make a decoder takes ten times as long as to read a short journal with it.
_CHANGES = _changes_decoder(Texts())
_EVENT = _event_decoder(Texts())
