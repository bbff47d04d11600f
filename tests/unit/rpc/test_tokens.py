"""Resume tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalsegno.rpc.tokens import read_resume_token, write_resume_token
from dalsegno.workflow.refusals import InvalidResumeToken

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_token_brings_its_revision_back(revision: int) -> None:
    """What was written is read."""
    assert read_resume_token(write_resume_token(ID, revision), ID) == revision


def test_a_token_is_for_one_execution() -> None:
    """The token of another execution is refused."""
    with pytest.raises(InvalidResumeToken, match=ID):
        read_resume_token(write_resume_token(ID, 7), "another")


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    """Whatever a caller makes up is a refusal, never a fault."""
    with pytest.raises(InvalidResumeToken):
        read_resume_token(text, ID)
