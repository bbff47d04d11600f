"""The size limit of messages, and how larger ones are made to fit.

No message that a service sends is larger than 3.5 MiB, unless one value alone is; then the message has only this
value. So no client and no executor has to raise gRPC's default limit of 4 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.records import Page, Row
from dalsegno.workflow.value import byte_length

MESSAGE_BYTES_MAX = PAGE_BYTES_MAX
"""How large a message may be, in bytes: 3.5 MiB."""

CONTENT_BYTES_MAX = MESSAGE_BYTES_MAX - 8 * 1024
"""How large what a message is about may be: tokens, counts and ids stand beside it, and it may be put into another."""

ALONE_BYTES_MAX = 4 * 1024 * 1024 - 16 * 1024
"""How large a message may be that has one value, which is larger than that by itself: below gRPC's default limit, with
room for the message that it is put into."""

BESIDE_BYTES_MAX = 16 * 1024
"""As much may stand beside a value that is alone in its message: `{}` and the like."""

WORDS_BYTES_MAX = 64 * 1024
"""Words of people and programs that are longer are cut where they would make a message too large."""

FRAME_BYTES = 8
"""What a message takes in a list beside itself, at most."""

AnyMessage = TypeVar("AnyMessage", bound=Message)
Entry = TypeVar("Entry", bound=Message | str)


def fitted(message: AnyMessage, values: Iterable[str], words: Iterable[str] = (), beside_bytes: int = 0) -> AnyMessage:
    """The message without what would make it too large: words (names of fields) are cut where they are long, then the
    largest values go first, and `left_out` names them. `beside_bytes`: what its answer has beside it."""
    bytes_max = CONTENT_BYTES_MAX - beside_bytes
    if message.ByteSize() <= bytes_max:
        return message
    for name in words:
        setattr(message, name, shortened(getattr(message, name)))
    names = list(values)
    sizes = ((_field_bytes(message, name), name) for name in names)
    left = sorted((each for each in sizes if each[0]), reverse=True)
    gone: set[str] = set()
    while left and message.ByteSize() > bytes_max:
        beside = beside_bytes + sum(size for size, _ in left[1:])
        if message.ByteSize() <= ALONE_BYTES_MAX and beside <= BESIDE_BYTES_MAX:
            break
        name = left.pop(0)[1]
        message.ClearField(name)
        gone.add(name)
    message.left_out.extend(name for name in names if name in gone)  # type: ignore[attr-defined]
    return message


def _field_bytes(message: Message, name: str) -> int:
    value: Any = getattr(message, name)
    if isinstance(value, str):
        return byte_length(value)
    return sum(byte_length(each) if isinstance(each, str) else each.ByteSize() for each in value)


def shortened(text: str, bytes_max: int = WORDS_BYTES_MAX) -> str:
    """The text, cut to its beginning and its size when it is long.

    >>> shortened("a" * 12, 8)
    'aaaaaaaa… (12 bytes)'
    """
    size = byte_length(text)
    if size <= bytes_max:
        return text
    return f"{text.encode()[:bytes_max].decode(errors='ignore')}… ({size:,} bytes)"


def first_of(
    messages: Iterable[AnyMessage],
    bytes_max: int = CONTENT_BYTES_MAX,
    count: int = 0,
    frame_bytes: int = FRAME_BYTES,
) -> list[AnyMessage]:
    """As many of these, one at least and at most `count` (0: any number), as go into one message."""
    size = 0
    found: list[AnyMessage] = []
    for message in messages:
        size += message.ByteSize() + frame_bytes
        if found and (size > bytes_max or len(found) == count):
            break
        found.append(message)
    return found


def cut(entries: MutableSequence[Entry], bytes_max: int) -> int:
    """Remove entries of a list of a message from its end until the others are no larger. How many were removed."""
    size = 0
    for index, entry in enumerate(entries):
        size += (byte_length(entry) if isinstance(entry, str) else entry.ByteSize()) + FRAME_BYTES
        if size > bytes_max:
            removed = len(entries) - index
            del entries[index:]
            return removed
    return 0


def page_of(
    page: Page[Row], rows: list[Row], messages: Iterable[AnyMessage], bytes_max: int = CONTENT_BYTES_MAX
) -> tuple[list[AnyMessage], str]:
    """As many messages of a page as go into one, and the token to go on after them. `rows` are what they tell of."""
    shown = first_of(messages, bytes_max)
    return shown, page.next_token if len(shown) == len(rows) else page.token_after(rows[len(shown) - 1])
