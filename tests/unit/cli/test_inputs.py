"""The command line reads inputs."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import Types, encode_json, read_document, read_input, read_labels
from dalsegno.v1 import definition_pb2


def test_pairs_are_json_or_texts() -> None:
    """`-i key=value` reads JSON as a value and everything else as a text, equals signs included."""
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
    """An integer beyond 64 bits is sent exactly."""
    assert encode_json(read_input(["n=123456789012345678901234567890"], "")) == '{"n": 123456789012345678901234567890}'


@pytest.mark.parametrize("text", ['{"a": 1, "b": [2]}', "a: 1\nb: [2]\n"])
def test_a_file_may_be_json_or_yaml(tmp_path: Path, text: str) -> None:
    """`--input FILE` reads JSON and YAML."""
    file = tmp_path / "input"
    file.write_text(text)

    assert read_input((), str(file)) == {"a": 1, "b": [2]}


def test_pairs_are_laid_over_the_file() -> None:
    """A pair in the command line replaces that of the file."""
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
    """An error names the mistake and says what is right."""
    with pytest.raises(CommandError, match=told) as caught:
        read_input(pairs, source)

    assert caught.value.advice


def test_labels_are_texts() -> None:
    """The value of a label is always a text."""
    assert read_labels(["n=3", "team=a=b"]) == {"n": "3", "team": "a=b"}
    with pytest.raises(CommandError, match="name=value"):
        read_labels(["team"])


def test_a_document_that_is_no_text_is_said(tmp_path: Path) -> None:
    """A binary file is refused before it is sent."""
    file = tmp_path / "workflow.yaml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(CommandError, match="cannot be read"):
        read_document(file)


def test_dates_of_yaml_are_refused_in_words(tmp_path: Path) -> None:
    """A YAML date is refused, since JSON has no dates, and the error says what to write instead."""
    file = tmp_path / "input.yaml"
    file.write_text("day: 2026-01-01\n")

    with pytest.raises(CommandError, match="cannot be sent as JSON") as caught:
        encode_json(read_input((), str(file)))

    assert "quotes" in caught.value.advice


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("4.10", "4.10"),
        ("4.1", 4.1),
        ("12345e7", "12345e7"),
        ("1e400", "1e400"),
        ("007", "007"),
        ("-0", "-0"),
        ("7", 7),
        ("-7", -7),
        ('"4.10"', "4.10"),
        ("true", True),
        ("True", "True"),
        ("[4.10]", [4.1]),
        ('{"a": 1}', {"a": 1}),
        ("{not json}", "{not json}"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_a_value_means_what_was_typed(typed: str, meant: object) -> None:
    """A value is a number only if it is written back with the same characters: versions and commits stay texts."""
    assert read_input([f"release={typed}"], "") == {"release": meant}


def parameters(**defaults: str) -> Types:
    """Return the types of inputs with these defaults, as JSON texts."""
    return Types.of_defaults(definition_pb2.Parameter(name=name, default=text) for name, text in defaults.items())


@pytest.mark.parametrize(
    ("default", "typed", "meant"),
    [
        ('"1.0"', "4", "4"),
        ('"1.0"', "true", "true"),
        ('"1.0"', '"4"', "4"),
        ('"1.0"', "null", None),
        ("1", "4.10", 4.1),
        ("1", "12e3", 12e3),
        ("null", "4.10", "4.10"),
        ("[]", "[1]", [1]),
        ("false", "true", True),
        ("", "4", 4),
    ],
)
def test_a_value_fits_the_default(default: str, typed: str, meant: object) -> None:
    """With a declared default a value has its type: a text stays a text, a number is a number."""
    assert read_input([f"x={typed}"], "", parameters(x=default)) == {"x": meant}


@pytest.mark.parametrize(
    ("default", "typed", "told"),
    [
        ("1", "many", "x=many: its default is a number, and this is a text"),
        ("false", "yes", "x=yes: its default is true or false, and this is a text"),
        ("[]", "3", "x=3: its default is a list, and this is a number"),
    ],
)
def test_a_value_that_cannot_fit_is_refused(default: str, typed: str, told: str) -> None:
    """A value that cannot have the type of the default is refused, and the error says how to send it anyway."""
    with pytest.raises(CommandError, match=re.escape(told)) as refused:
        read_input([f"x={typed}"], "", parameters(x=default))

    assert f"x:={json.dumps(decoded(typed))}" in refused.value.advice
    assert read_input([f"x:={json.dumps(decoded(typed))}"], "", parameters(x=default)) == {"x": decoded(typed)}


def decoded(text: str) -> object:
    """Return the JSON value of a text, or the text."""
    return int(text) if text.isdigit() else text


def test_values_are_taken_from_files(tmp_path: Path) -> None:
    """`name=@file` takes the text of the file, `name:=@file` the JSON or YAML in it."""
    file = tmp_path / "cities.yaml"
    file.write_text("- Alderford\n- Holmsey\n")

    assert read_input([f"text=@{file}", f"list:=@{file}"], "") == {
        "text": "- Alderford\n- Holmsey\n",
        "list": ["Alderford", "Holmsey"],
    }


def test_json_is_asked_for_by_a_colon() -> None:
    """`name:=JSON` takes JSON and refuses everything else."""
    assert read_input(["release:=4.10", "a.b:=[1]"], "") == {"release": 4.1, "a.b": [1]}
    with pytest.raises(CommandError, match="what follows := is not JSON"):
        read_input(["release:=four"], "")


def test_deep_nesting_is_refused_in_words(tmp_path: Path) -> None:
    """JSON or YAML that is nested too deep is refused from every source."""
    deep = "[" * 100_000
    file = tmp_path / "deep.yaml"
    file.write_text(deep)

    with pytest.raises(CommandError, match="nested too deeply"):
        read_input([f"n:={deep}"], "")
    with pytest.raises(CommandError, match="neither JSON nor YAML"):
        read_input([f"n:=@{file}"], "")
    assert read_input([f"n={deep}"], "") == {"n": deep}


def test_a_date_that_does_not_exist_is_refused_in_words(tmp_path: Path) -> None:
    """A date of YAML that does not exist is refused."""
    file = tmp_path / "input.yaml"
    file.write_text("day: 2001-99-99\n")

    with pytest.raises(CommandError, match="neither JSON nor YAML: month must be in"):
        read_input((), str(file))


@pytest.mark.parametrize("pair", ['n:="\\ud800"', 'n="\\ud800"', 'n:=["\\udfff"]'])
def test_half_of_a_surrogate_pair_is_refused_in_words(pair: str) -> None:
    """Half of an escaped surrogate pair is refused, since no message can carry it."""
    with pytest.raises(CommandError, match="cannot be sent as JSON"):
        encode_json(read_input([pair], ""))


def test_an_empty_file_is_an_empty_text(tmp_path: Path) -> None:
    """`-i key=@FILE` takes the text of an empty file."""
    file = tmp_path / "empty"
    file.write_text("")

    assert read_input([f"text=@{file}"], "") == {"text": ""}


def test_standard_input_is_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input that is not UTF-8 is refused with a message."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": "\udcff"}'))

    with pytest.raises(CommandError, match="- cannot be read: "):
        read_input((), "-")
