"""Messages as they leave a server: without the encrypted values of secrets, in whatever field they are.

This is the only place that does so for answers, so that no method can forget it. A message without a secret costs one
search of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from dalsegno.workflow.secrets import MARK, mask

_MARK = MARK.encode()

Serializer = Callable[[Any], bytes]


def without_secrets(serialize: Serializer | None) -> Serializer | None:
    """Return the serializer of a method, so that each text of its answers has MASK in place of secrets."""
    if serialize is None:
        return None

    def written(message: Any) -> bytes:
        data = serialize(message)
        if _MARK not in data or not isinstance(message, Message):
            return data
        shown = type(message)()
        shown.CopyFrom(message)
        hide_secrets(shown)
        return serialize(shown)

    return written


def hide_secrets(message: Message) -> None:
    """Put MASK in place of each secret in the texts of a message, and of those in it."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _hide_below(field, value)
        elif field.type == FieldDescriptor.TYPE_STRING:
            shown = [mask(text) for text in value] if field.is_repeated else mask(value)
            if field.is_repeated:
                value[:] = shown
            else:
                setattr(message, field.name, shown)


def _hide_below(field: FieldDescriptor, value: Any) -> None:
    entry = field.message_type
    assert entry is not None
    if not entry.GetOptions().map_entry:
        for each in value if field.is_repeated else (value,):
            hide_secrets(each)
        return
    if entry.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
        for each in value.values():
            hide_secrets(each)
    elif entry.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
        for name in value:
            value[name] = mask(value[name])
