"""Finding expressions in a text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dalsegno.expressions.marks import find_marked


@given(st.text(alphabet="<%>a\n", max_size=40))
@example("<%>%><%%>")
@example("<%\n<%a%>")
def test_same_as_the_pattern(text: str) -> None:
    """The parts found are those of the regular expression `<%.*?%>`."""
    assert list(find_marked(text, "<%", "%>")) == [match.span() for match in re.finditer("<%.*?%>", text)]


@pytest.mark.parametrize("text", ["<%" * 500_000, "<%\n" * 300_000 + "%>", "<% %>" * 200_000, "<%" * 400_000 + "\n%>"])
def test_no_text_is_slow(text: str) -> None:
    """A megabyte of marks is read in less than a second."""
    began = time.process_time()
    list(find_marked(text, "<%", "%>"))
    assert time.process_time() - began < 1
