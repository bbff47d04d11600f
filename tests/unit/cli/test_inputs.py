"""What is typed as input, and what becomes of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dalsegno.cli.exits import Complaint
from dalsegno.cli.inputs import encode_json, read_document, read_input, read_labels


def test_pairs_are_json_or_texts() -> None:
    """`-i key=value` takes JSON for what it is and everything else for a text, equals signs included."""
    pairs = ["n=3", "on=true", "none=null", "list=[1, 2]", "name=Port Ellis", 'id="3"', "url=http://x/?a=b", "e="]

    assert read_input(pairs, "") == {
        "n": 3,
        "on": True,
        "none": None,
        "list": [1, 2],
        "name": "Port Ellis",
        "id": "3",
        "url": "http://x/?a=b",
        "e": "",
    }


def test_big_integers_stay_exact() -> None:
    """An integer beyond 64 bits arrives as it was typed."""
    assert encode_json(read_input(["n=123456789012345678901234567890"], "")) == '{"n": 123456789012345678901234567890}'


@pytest.mark.parametrize("text", ['{"a": 1, "b": [2]}', "a: 1\nb: [2]\n"])
def test_a_file_may_be_json_or_yaml(tmp_path: Path, text: str) -> None:
    """`--input FILE` reads either."""
    file = tmp_path / "input"
    file.write_text(text)

    assert read_input((), str(file)) == {"a": 1, "b": [2]}


def test_pairs_are_laid_over_the_file() -> None:
    """What is typed on the line wins over what the file says."""
    assert read_input(["b=3"], '{"a": 1, "b": 2}') == {"a": 1, "b": 3}


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--input -` reads standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))

    assert read_input((), "-") == {"a": 1}


@pytest.mark.parametrize(
    ("pairs", "source", "told"),
    [
        (["novalue"], "", "not of the form key=value"),
        (["=3"], "", "not of the form key=value"),
        ([], "[1, 2]", "holds a list, and an input is an object"),
        ([], "{oops", "not JSON"),
        ([], '{"a": NaN}', "NaN is not JSON"),
        ([], "no/such/file", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(pairs: list[str], source: str, told: str) -> None:
    """A mistake is a complaint that names it, and says what would be right."""
    with pytest.raises(Complaint, match=told) as caught:
        read_input(pairs, source)

    assert caught.value.advice


def test_labels_are_texts() -> None:
    """A label's value is a text, whatever it looks like."""
    assert read_labels(["n=3", "team=a=b"]) == {"n": "3", "team": "a=b"}
    with pytest.raises(Complaint, match="name=value"):
        read_labels(["team"])


def test_a_document_that_is_no_text_is_said(tmp_path: Path) -> None:
    """A binary file is refused before it is sent."""
    file = tmp_path / "workflow.yaml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(Complaint, match="cannot be read"):
        read_document(file)


def test_dates_of_yaml_are_refused_in_words(tmp_path: Path) -> None:
    """YAML knows dates and JSON does not: the complaint says what to do."""
    file = tmp_path / "input.yaml"
    file.write_text("day: 2026-01-01\n")

    with pytest.raises(Complaint, match="cannot be sent as JSON") as caught:
        encode_json(read_input((), str(file)))

    assert "quotes" in caught.value.advice
