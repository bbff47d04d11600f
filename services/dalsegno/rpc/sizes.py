"""The size limit of messages, and how larger ones are reduced.

No message of a service is larger than 3.5 MiB, unless one value alone is; then the message has only this value. So no
client and no executor has to raise gRPC's default limit of 4 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.records import Page, Row
from dalsegno.workflow.value import BYTES_MAX, byte_length

MESSAGE_BYTES_MAX = PAGE_BYTES_MAX
"""The maximum size of a message, in bytes: 3.5 MiB."""

CONTENT_BYTES_MAX = MESSAGE_BYTES_MAX - 8 * 1024
"""The maximum size of the content of a message, without tokens, counts, ids and an outer message."""

ALONE_BYTES_MAX = 4 * 1024 * 1024 - 16 * 1024
"""The maximum size of a message with one value that is larger than that: below gRPC's default limit, with room for an
outer message."""

BESIDE_BYTES_MAX = 16 * 1024
"""The maximum size of other values, such as `{}`, beside a value that is alone in its message."""

WORDS_BYTES_MAX = 64 * 1024
"""Texts for people that are longer are cut if they make a message too large."""

FRAME_BYTES = 8
"""The maximum overhead of a message in a list."""

AnyMessage = TypeVar("AnyMessage", bound=Message)
Entry = TypeVar("Entry", bound=Message | str)


def fitted(message: AnyMessage, values: Iterable[str], words: Iterable[str] = (), beside_bytes: int = 0) -> AnyMessage:
    """Reduce a message to the maximum size: cut long texts (the fields `words`), then remove the largest values first,
    and name them in `left_out`. `beside_bytes`: the size of the rest of its answer."""
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
    """Return the text; a long text is cut to its beginning and its size.

    >>> shortened("a" * 12, 8)
    'aaaaaaaa… (12 bytes)'
    """
    if len(text) * BYTES_MAX <= bytes_max or (size := byte_length(text)) <= bytes_max:
        return text
    return f"{text.encode()[:bytes_max].decode(errors='ignore')}… ({size:,} bytes)"


def first_of(
    messages: Iterable[AnyMessage],
    bytes_max: int = CONTENT_BYTES_MAX,
    count: int = 0,
    frame_bytes: int = FRAME_BYTES,
) -> list[AnyMessage]:
    """Return the first of these that fit into one message: at least one, at most `count` (0: any number)."""
    size = 0
    found: list[AnyMessage] = []
    for message in messages:
        size += message.ByteSize() + frame_bytes
        if found and (size > bytes_max or len(found) == count):
            break
        found.append(message)
    return found


def cut(entries: MutableSequence[Entry], bytes_max: int) -> int:
    """Remove entries from the end of a message's list until the rest has at most `bytes_max`. Return their number."""
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
    """Return the messages of a page that fit into one message, and the token to continue. `rows`: their rows."""
    shown = first_of(messages, bytes_max)
    return shown, page.next_token if len(shown) == len(rows) else page.token_after(rows[len(shown) - 1])
