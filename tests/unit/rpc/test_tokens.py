"""Resume tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.rpc.tokens import ResumeTokens
from dalsegno.workflow.refusals import InvalidResumeToken

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TOKENS = ResumeTokens("ab" * 32)
TOKEN = TOKENS.write("WatchExecution", ID, 7)


@given(st.integers(), st.text(), st.floats(allow_nan=False))
def test_a_token_brings_back_where_the_stream_was(number: int, text: str, moment: float) -> None:
    """A token that is written is read again."""
    token = TOKENS.write("WatchExecution", ID, number, text, moment)
    assert TOKENS.read(token, "WatchExecution", ID, (int, str, float)) == [number, text, moment]


@pytest.mark.parametrize(
    ("rpc", "subject", "shape", "reason"),
    [
        ("CancelExecutions", ID, (int,), "is from a stream of WatchExecution, not of CancelExecutions"),
        ("WatchExecution", "another", (int,), "about something else"),
        ("WatchExecution", ID, (int, int), "another version"),
    ],
)
def test_a_token_is_for_one_stream(rpc: str, subject: str, shape: tuple[type, ...], reason: str) -> None:
    """A token of another rpc, execution, filter or form is refused."""
    with pytest.raises(InvalidResumeToken, match=reason):
        TOKENS.read(TOKEN, rpc, subject, shape)


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    """Every other text is refused without a fault."""
    with pytest.raises(InvalidResumeToken, match="not valid"):
        TOKENS.read(text, "WatchExecution", ID, (int,))


def test_a_changed_token_is_refused() -> None:
    """A changed token, or one for a store with another key, is refused."""
    for index, letter in enumerate(TOKEN):
        other = "A" if letter != "A" else "B"
        with pytest.raises(InvalidResumeToken):
            TOKENS.read(TOKEN[:index] + other + TOKEN[index + 1 :], "WatchExecution", ID, (int,))
    with pytest.raises(InvalidResumeToken, match="not valid"):
        ResumeTokens("cd" * 32).read(TOKEN, "WatchExecution", ID, (int,))
