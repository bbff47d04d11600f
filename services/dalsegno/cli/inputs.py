"""Inputs as they are typed: `-i key=value` and `--input FILE|JSON`, to the JSON text that the contract carries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from dalsegno.cli.exits import Complaint


def read_input(pairs: Iterable[str], source: str) -> dict[str, object]:
    """The input of `--input source` with each `-i key=value` laid over it. Raises Complaint for what is neither."""
    return {**(read_object(source) if source else {}), **dict(map(read_pair, pairs))}


def read_pair(text: str) -> tuple[str, object]:
    """`key=value`, the value decoded when it is JSON and taken as a text when it is not.

    >>> read_pair("n=3"), read_pair("city=Port Ellis"), read_pair('id="3"')
    (('n', 3), ('city', 'Port Ellis'), ('id', '3'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Complaint(f"-i {text}: not of the form key=value", "write for instance: -i city=Alderford -i days=3")
    try:
        return key, decode_json(value)
    except ValueError:
        return key, value


def read_object(source: str) -> dict[str, object]:
    """A JSON object from a file (JSON or YAML), from the text itself, or from standard input (`-`)."""
    text, name = _read_text(source)
    try:
        value = decode_json(text)
    except ValueError as problem:
        value = _read_yaml(text, name, problem)
    if not isinstance(value, dict):
        raise Complaint(
            f"{name} holds {_kind_of(value)}, and an input is an object", 'for instance {"city": "Alderford"}'
        )
    return value


def read_labels(pairs: Iterable[str]) -> dict[str, str]:
    """Labels from `name=value`, all of them texts."""
    labels = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Complaint(f"--label {text}: not of the form name=value", "write for instance: --label team=harbour")
        labels[name] = value
    return labels


def read_document(path: Path) -> str:
    """A text file, or standard input for `-`. Raises Complaint when it cannot be read."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Complaint(
            f"{path} cannot be read: {reason}", "give the path of a YAML file, or - for standard input"
        ) from error
    if not text.strip():
        raise Complaint(f"{path} is empty", "give the path of a YAML file, or - for standard input")
    return text


def decode_json(text: str) -> object:
    """The value of a JSON text, NaN and infinities refused. Raises ValueError."""
    return json.loads(text, parse_constant=_refuse_constant)


def encode_json(value: object) -> str:
    """The JSON text of a value. Raises Complaint for what JSON cannot say (dates in YAML, for instance)."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Complaint(
            f"the input cannot be sent as JSON: {error}", "put quotes round what is meant as a text"
        ) from error


def _read_text(source: str) -> tuple[str, str]:
    if source == "-":
        return sys.stdin.read(), "standard input"
    if source.lstrip()[:1] in {"{", "["}:
        return source, "--input"
    return read_document(Path(source)), source


def _read_yaml(text: str, name: str, problem: ValueError) -> object:
    if name == "--input":
        raise Complaint(
            f"--input is not JSON: {problem}", 'mind the shell\'s quotes: --input \'{"city": "Alderford"}\''
        )
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Complaint(f"{name} is neither JSON nor YAML: {error}") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _kind_of(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return kinds.get(type(value), "nothing")
