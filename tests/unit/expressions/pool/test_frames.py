"""Messages and what they are made of."""

from __future__ import annotations

import pytest

from dalsegno.expressions.pool import limits
from dalsegno.expressions.pool.frames import HEADER, Frame, Inbox, Kind, TooLong, parts_of
from dalsegno.expressions.pool.jobs import Question
from dalsegno.expressions.pool.replies import KEPT_BYTES, Replies


@pytest.mark.parametrize("piece", [1, 3, 7, 100, 100_000])
def test_messages_arrive_whole(piece: int) -> None:
    """However they are cut on the way."""
    sent = [Frame(Kind.VALUE, b"", 0), Frame(Kind.QUESTION, b"x" * 20_000, 17), Frame(Kind.ERROR, b"why", 70_000)]
    data = b"".join(part for frame in sent for part in parts_of(frame.kind, frame.payload, frame.grown_mib))
    inbox = Inbox()
    arrived = [frame for at in range(0, len(data), piece) for frame in inbox.feed(data[at : at + piece])]
    assert arrived == [*sent[:2], Frame(Kind.ERROR, b"why", 65_535)]


def test_no_message_is_too_long() -> None:
    """Neither is one sent nor is one received; and the first bytes of one tell."""
    with pytest.raises(TooLong):
        parts_of(Kind.VALUE, bytes(limits.MESSAGE_BYTES + 1))
    with pytest.raises(TooLong):
        list(Inbox().feed(HEADER.pack(limits.MESSAGE_BYTES + 1, Kind.VALUE, 0)))


def test_a_message_of_no_kind_is_an_error() -> None:
    """It is not ignored."""
    with pytest.raises(ValueError, match="77"):
        list(Inbox().feed(HEADER.pack(0, 77, 0)))


class Counting:
    """Answers with the same data each time."""

    def __init__(self, data: object) -> None:
        self.data = data

    def answer(self, question: str, arguments: object, named: object) -> object:
        """The data."""
        return self.data


def test_large_replies_are_kept_and_forgotten() -> None:
    """The same data gives the same reply, up to some bytes of all of them; small ones are made again."""
    replies, question = Replies(), Question("variable", ["x"])
    large = [Counting("x" * (KEPT_BYTES // 4)) for _ in range(3)]
    first = [replies.look_up(each, question) for each in large]
    assert all(replies.look_up(each, question) is reply for each, reply in zip(large, first, strict=True))
    more = [Counting("y" * (KEPT_BYTES // 4)) for _ in range(3)]
    for each in more:
        replies.look_up(each, question)
    assert replies.look_up(large[0], question) is not first[0]
    small = Counting("x")
    assert replies.look_up(small, question) == replies.look_up(small, question)
    assert replies.look_up(small, question) is not replies.look_up(small, question)
    kept = replies.look_up(more[2], question)
    replies.clear()
    assert replies.look_up(more[2], question) is not kept


def test_what_was_forgotten_takes_no_room() -> None:
    """After that, as much is kept as before."""
    replies, question = Replies(), Question("variable", ["x"])
    for data in ("x", "y"):
        large = Counting(data * (KEPT_BYTES * 3 // 4))
        first = replies.look_up(large, question)
        assert replies.look_up(large, question) is first
        replies.clear()


def test_an_answer_may_be_as_long_as_a_message() -> None:
    """One that is longer is refused."""
    for length, kind in ((limits.MESSAGE_BYTES, Kind.VALUE), (limits.MESSAGE_BYTES + 1, Kind.ERROR)):
        reply = Replies().look_up(Counting("x" * (length - 2)), Question("variable", ["x"]))
        assert reply.kind is kind
