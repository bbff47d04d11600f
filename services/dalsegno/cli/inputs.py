"""Translate typed inputs, `-i key=value` and `--input FILE|JSON`, to the JSON text of the API."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dalsegno.cli.exits import CommandError
from dalsegno.v1 import definition_pb2


@dataclass(frozen=True, slots=True)
class Types:
    """The JSON types of values, by the names of the inputs; an input without a type accepts any value."""

    by_name: Mapping[str, str] = field(default_factory=dict)
    reason: str = "what is asked"
    """The source of the types, for messages."""

    @classmethod
    def of_defaults(cls, parameters: Iterable[definition_pb2.Parameter]) -> Types:
        """Return the types of the default values that parameters declare; a default of null fits everything."""
        kinds = {each.name: _type_of(json.loads(each.default)) for each in parameters if each.default}
        return cls({name: kind for name, kind in kinds.items() if kind != "null"}, "its default")


ANY = Types()


@dataclass(frozen=True, slots=True)
class TypedInput:
    """The input as the user typed it; its values are decoded when the types are known."""

    pairs: Sequence[str]
    whole: Mapping[str, object]

    @classmethod
    def of(cls, pairs: Sequence[str] | None, source: str) -> TypedInput:
        """Read `-i` and `--input`. Raises CommandError for what no type allows."""
        for each in pairs or ():
            _split(each)
        return cls(pairs or (), read_object(source) if source else {})

    def text(self, types: Types = ANY) -> str:
        """Return the input as JSON text. Raises CommandError for a value that does not fit its type."""
        return encode_json({**self.whole, **read_input(self.pairs, "", types)})


def read_input(pairs: Iterable[str], source: str, types: Types = ANY) -> dict[str, object]:
    """Return the input of `--input source`, with the values of `-i key=value` set in it. Raises CommandError."""
    return {**(read_object(source) if source else {}), **dict(read_pair(each, types) for each in pairs)}


def read_pair(text: str, types: Types = ANY) -> tuple[str, object]:
    """Return the key and the value of `key=value`, `key:=JSON`, `key=@file` or `key:=@file`.

    A value is JSON if it is an object, a list, a quoted text, true, false, null, or a number exactly as JSON writes it;
    anything else is a text with these characters. If a type is known, the value fits it.

    >>> [read_pair(each)[1] for each in ("n=3", "n=4.10", "n=007", "n=12345e7", 'n="3"', "n:=4.10", "city=Port Ellis")]
    [3, '4.10', '007', '12345e7', '3', 4.1, 'Port Ellis']
    """
    key, is_json, value = _split(text)
    if value.startswith("@"):
        path = Path(value[1:])
        return key, _read_data(read_document(path), value[1:]) if is_json else read_text(path)
    if is_json:
        try:
            return key, decode_json(value)
        except ValueError as problem:
            raise CommandError(
                f"-i {text}: what follows := is not JSON: {problem}", f"a text is written {key}={value}"
            ) from None
    return key, _fit(key, value, types)


def _split(text: str) -> tuple[str, bool, str]:
    """Return the key, whether `:=` says that JSON follows, and the value. Raises CommandError."""
    key, equals, value = text.partition("=")
    if not equals or not key.removesuffix(":"):
        raise CommandError(
            f"{text}: not of the form key=value", "for instance city=Alderford, days=3, or 'tags:=[\"a\"]' for JSON"
        )
    return key.removesuffix(":"), key.endswith(":"), value


def _fit(key: str, text: str, types: Types) -> object:
    """Return the value of a text, with the type of this key. Raises CommandError if it does not fit."""
    value, kind = typed_value(text), types.by_name.get(key, "")
    if not kind or _fits(value, kind) or value is None:
        return value
    if kind == "string":
        return text
    try:
        exact = decode_json(text)
    except ValueError:
        exact = text
    if not _fits(exact, kind):
        raise CommandError(
            f"{key}={text}: {types.reason} is {_NAMES[kind]}, and this is {_kind_of(exact)}",
            f"to give it anyway: '{key}:={json.dumps(exact, ensure_ascii=False)}'",
        )
    return exact


def typed_value(text: str) -> object:
    """Return the value of a text of unknown type: JSON, but a text for a number that JSON writes differently."""
    try:
        value = decode_json(text)
    except ValueError:
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and json.dumps(value) != text else value


def _fits(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return kind not in _NAMES or _type_of(value) == kind


def _type_of(value: object) -> str:
    """Return the JSON type of a value; whole numbers are numbers too.

    >>> _type_of(4.1), _type_of([]), _type_of(True)
    ('number', 'array', 'boolean')
    """
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"


_NAMES = {
    "boolean": "true or false",
    "number": "a number",
    "integer": "a whole number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}


def read_object(source: str) -> dict[str, object]:
    """Return a JSON object from a file (JSON or YAML), from the text itself, or from standard input (`-`)."""
    text, name = _read_text(source)
    value = _read_data(text, name)
    if not isinstance(value, dict):
        raise CommandError(
            f"{name} holds {_kind_of(value)}, and an input is an object", 'for instance {"city": "Alderford"}'
        )
    return value


def read_labels(pairs: Iterable[str]) -> dict[str, str]:
    """Labels from `name=value`, all of them texts."""
    labels = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandError(
                f"--label {text}: not of the form name=value", "write for instance: --label team=harbour"
            )
        labels[name] = value
    return labels


def read_document(path: Path) -> str:
    """Return the text of a file that is not empty, or of standard input for `-`. Raises CommandError."""
    text = read_text(path)
    if not text.strip():
        raise CommandError(f"{path} is empty", "give the path of a YAML file, or - for standard input")
    return text


def read_text(path: Path) -> str:
    """Return the text of a file, or of standard input for `-`. Raises CommandError if it is not readable UTF-8."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        text.encode()  # standard input may have half characters for bytes that are not UTF-8
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(
            f"{path} cannot be read: {reason}", "give the path of a text file in UTF-8, or - for standard input"
        ) from error
    return text


def decode_json(text: str) -> object:
    """Return the value of a JSON text. Raises ValueError, also for NaN and infinities."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode_json(value: object) -> str:
    """Return the JSON text of a value. Raises CommandError for what JSON does not have (for instance dates)."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()  # half of a pair of surrogates is no character
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise CommandError(f"the input cannot be sent as JSON: {error}", "put quotes around texts") from error


def _read_text(source: str) -> tuple[str, str]:
    if source == "-":
        return read_text(Path(source)), "standard input"
    if source.lstrip()[:1] in {"{", "["}:
        return source, "--input"
    return read_document(Path(source)), source


def _read_data(text: str, name: str) -> object:
    try:
        return decode_json(text)
    except ValueError as problem:
        return _read_yaml(text, name, problem)


def _read_yaml(text: str, name: str, problem: ValueError) -> object:
    if name == "--input":
        raise CommandError(
            f"--input is not JSON: {problem}", 'put it in single quotes: --input \'{"city": "Alderford"}\''
        )
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandError(f"{name} is neither JSON nor YAML: {error}") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _kind_of(value: object) -> str:
    return _NAMES.get(_type_of(value), "nothing")
