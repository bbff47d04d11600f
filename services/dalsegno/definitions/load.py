"""Load YAML text as plain JSON data, with the line and column of every value.

The YAML of `load` is Mistral's: that of PyYAML's SafeLoader without anchors and aliases: `&x`, `*x` and `@x` are plain
text. So no document can grow while it is read. libyaml reads large documents, but it has anchors; a document in which
it finds one is read again by the slower scanner in Python.

The YAML of `load_with_anchors` is Orquesta's, which has anchors. The value of an alias counts each time it is used, so
that a small text cannot become a large document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from dalsegno.definitions.problems import Path, Place, Problems
from dalsegno.definitions.scalars import UnfitScalar, key_text, scalar_value
from dalsegno.workflow.value import byte_length

_QUICK_PARSER: Any = getattr(yaml, "CSafeLoader", None)
"""libyaml, or None: then PyYAML reads everything, but slower."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The size limits of a definition."""

    bytes_max: int = 4 * 1024 * 1024
    depth_max: int = 100
    keys_max: int = 500_000
    """The number of keys of all mappings together."""
    values_max: int = 1_000_000


DEFAULT_LIMITS = Limits()

QUICK_BYTES = 16 * 1024
"""Up to this size the scanner in Python is fast enough, and its messages are those of Mistral."""

SLOW_BYTES_MAX = 512 * 1024
"""The largest text given to the scanner in Python, which takes some 4 seconds for a megabyte."""


_ANCHOR = re.compile(r"(?:^|[\s\[{,:-])[&*]\w", re.MULTILINE)


_PAIR_OR_BACKSLASH = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\)", re.IGNORECASE)


class Source:
    """A loaded document: its data, and the place of each part."""

    def __init__(self, *, complete: bool = True) -> None:
        self.data: Any = None
        self.complete = complete
        """False if the text was not read to its end, because of a YAML error."""
        self.odd_keys: dict[int, list[str]] = {}
        """Keys that are not text in YAML (`on`, `1`, `~`), by the identity of their mapping."""
        self._places: dict[int, dict[str, Place] | list[Place]] = {}

    def locate(self, path: Path) -> Place:
        """Return the line and column of the value, or of the longest part of the path that the document has."""
        place: Place = (1, 1)
        node = self.data
        for step in path:
            places = self._places.get(id(node))
            if isinstance(places, dict) and isinstance(step, str) and step in places:
                place, node = places[step], node.get(step)
            elif isinstance(places, list) and isinstance(step, int) and step < len(places):
                place, node = places[step], node[step]
            else:
                break
        return place

    def record(self, container: object, places: dict[str, Place] | list[Place]) -> None:
        self._places[id(container)] = places

    def places_of(self, mapping: object) -> dict[str, Place]:
        places = self._places.get(id(mapping))
        return places if isinstance(places, dict) else {}


def load(text: str, problems: Problems, limits: Limits = DEFAULT_LIMITS) -> Source:
    """Read one YAML document. Every error becomes a problem; the data is then incomplete."""
    size = byte_length(text)
    if size > limits.bytes_max:
        problems.add((), f"the definition has {size:,} bytes, at most {limits.bytes_max:,} are allowed", place=(1, 1))
        return Source(complete=False)
    if size > QUICK_BYTES and _QUICK_PARSER is not None:
        quick = _load_quickly(text, size, problems, limits)
        if quick is not None:
            return quick
    source = Source()
    problems.locate = source.locate
    _Builder(source, problems, limits).build(_events(_PlainParser, text))
    return source


def load_with_anchors(text: str, problems: Problems, limits: Limits = DEFAULT_LIMITS) -> Source:
    """Read YAML in which `&x` names a value and `*x` repeats it; the limits are those of `load`."""
    source = Source()
    _Builder(source, problems, limits, {}).build(_events(_QUICK_PARSER or yaml.SafeLoader, _quick_text(text)))
    return source


def may_have_anchors(text: str) -> bool:
    """Return whether something in the text looks like an anchor or an alias."""
    return _ANCHOR.search(text) is not None


def _load_quickly(text: str, size: int, problems: Problems, limits: Limits) -> Source | None:
    """Read with libyaml; None if the text must be read again, because libyaml finds an anchor or an error."""
    source = Source()
    found = Problems()
    try:
        _Builder(source, found, limits).build(_events(_QUICK_PARSER, _quick_text(text)))
    except _AnchorMet as met:
        source.complete = False
        found.add((), "a value starts with `&` or `*` in so large a definition", "put it in quotes", place=met.place)
    if not source.complete and size <= SLOW_BYTES_MAX:
        return None
    problems.locate = source.locate
    problems.take(found)
    return source


def _quick_text(text: str) -> str:
    """Replace JSON's escapes of characters beyond 16 bits, pairs of surrogates, which libyaml refuses.

    Only in JSON every backslash is in a string. The rest of the line moves by two columns.
    """
    if _PAIR_OR_BACKSLASH.search(text) is None:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _PAIR_OR_BACKSLASH.sub(_join_pair, text)


def _join_pair(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]
    high, low = int(match[1], 16), int(match[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08X}"


class _PlainParser(Reader, Scanner, Parser):
    """PyYAML's scanner and parser, for which `&`, `*` and `@` are letters."""

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)

    def fetch_alias(self) -> None:
        self.fetch_plain()

    def fetch_anchor(self) -> None:
        self.fetch_plain()

    def check_plain(self) -> bool:
        return self.peek() == "@" or bool(super().check_plain())


class _AnchorMet(Exception):
    """libyaml has found an anchor or an alias, which Mistral's YAML does not have."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


def _events(parser: Any, text: str) -> Iterator[Any]:
    stream = parser(text)
    while stream.check_event():
        yield stream.get_event()


_MISSING = "\0missing"
_MERGE = "\0merge"
"""Represent a missing key, and YAML's merge key `<<`: no key can contain a NUL."""


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A value with a name, the number of its values, and the depth of its nesting."""

    value: Any
    values: int = 1
    height: int = 0


class _Frame:
    """A mapping or a list under construction."""

    __slots__ = ("anchor", "container", "height", "key", "merges", "path", "places", "values_before")

    def __init__(self, container: dict[str, Any] | list[Any], path: Path, anchor: str | None, values_before: int):
        self.container = container
        self.path = path
        self.anchor = anchor
        self.values_before = values_before
        self.height = 1
        self.places: Any = {} if isinstance(container, dict) else []
        self.key = _MISSING
        self.merges: list[Any] = []


class _Stop(Exception):
    """A limit is reached; reading stops."""


class _Builder:
    """Builds data from events, without recursion."""

    def __init__(
        self, source: Source, problems: Problems, limits: Limits, anchors: dict[str, _Anchored] | None = None
    ) -> None:
        self._source = source
        self._problems = problems
        self._anchors = anchors
        self._limits = limits
        self._stack: list[_Frame] = []
        self._keys = 0
        self._values = 0
        self._documents = 0

    def build(self, events: Iterator[Any]) -> None:
        """Consume the events. YAML's errors and exceeded limits become problems."""
        self._problems.locate = self._source.locate
        try:
            for event in events:
                self._take(event)
        except _Stop:
            self._source.complete = False
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            context = f" {error.context}" if error.context else ""
            self._fail(f"not YAML: {error.problem or 'cannot be read'}{context}", place)
        except yaml.YAMLError as error:
            self._fail(f"not YAML: {getattr(error, 'reason', None) or 'cannot be read'}", (1, 1))
        except UnicodeError:
            self._fail("not YAML: holds a lone surrogate", (1, 1))

    def _fail(self, message: str, place: Place) -> None:
        self._source.complete = False
        self._problems.add(self._path(), message, _yaml_hint(message), place=place)

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._refuse_anchor(event)
            self._take_scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._refuse_anchor(event)
            self._open(event, {} if kind is yaml.MappingStartEvent else [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._close()
        elif kind is yaml.AliasEvent:
            self._repeat(event)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self._fail("more than one YAML document", _place(event))
                raise _Stop

    def _refuse_anchor(self, event: Any) -> None:
        if event.anchor is not None and self._anchors is None:
            raise _AnchorMet(_place(event))

    def _repeat(self, event: Any) -> None:
        """Insert the value of an alias, and count it."""
        place = _place(event)
        if self._anchors is None:
            raise _AnchorMet(place)
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            self._fail(f"`*{event.anchor}` stands for nothing: there is no `&{event.anchor}` before it", place)
            raise _Stop
        if len(self._stack) + anchored.height > self._limits.depth_max:
            self._fail(f"nested more than {self._limits.depth_max} levels deep", place)
            raise _Stop
        self._values += anchored.values - 1
        frame = self._stack[-1]
        if frame.key == _MISSING and isinstance(frame.container, dict) and isinstance(anchored.value, str):
            self._take_key(frame, anchored.value, place)
            return
        self._attach(anchored.value, place)
        frame.height = max(frame.height, anchored.height + 1)

    def _open(self, event: Any, container: dict[str, Any] | list[Any]) -> None:
        place = _place(event)
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._problems.add(self._path(), f"the tag `{_tag_text(event.tag)}` is not allowed here", place=place)
        if len(self._stack) >= self._limits.depth_max:
            self._fail(f"nested more than {self._limits.depth_max} levels deep", place)
            raise _Stop
        frame = _Frame(container, self._path(), event.anchor, self._values)
        self._attach(container, place)
        self._stack.append(frame)

    def _close(self) -> None:
        frame = self._stack[-1]
        if frame.merges:
            self._merge(frame)
        self._stack.pop()
        self._source.record(frame.container, frame.places)
        if self._stack:
            self._stack[-1].height = max(self._stack[-1].height, frame.height + 1)
        if frame.anchor is not None and self._anchors is not None:
            self._anchors[frame.anchor] = _Anchored(frame.container, self._values - frame.values_before, frame.height)

    def _take_scalar(self, event: Any) -> None:
        place = _place(event)
        frame = self._stack[-1] if self._stack else None
        is_key = frame is not None and frame.key == _MISSING and isinstance(frame.container, dict)
        if is_key and event.value == "<<" and event.implicit[0]:
            assert frame is not None
            frame.key = _MERGE
            return
        try:
            value = scalar_value(event)
        except UnfitScalar as error:
            self._problems.add(self._path(), str(error), error.hint, place=place)
            value = _shown_key(event.value) if is_key else None
        if event.anchor is not None and self._anchors is not None:
            self._anchors[event.anchor] = _Anchored(value)
        if is_key:
            assert frame is not None
            self._take_key(frame, value, place)
        else:
            self._attach(value, place)

    def _take_key(self, frame: _Frame, value: object, place: Place) -> None:
        self._keys += 1
        if self._keys > self._limits.keys_max:
            self._fail(f"more than {self._limits.keys_max:,} keys", place)
            raise _Stop
        key = key_text(value)
        if not isinstance(value, str):
            self._source.odd_keys.setdefault(id(frame.container), []).append(key)
        if key in frame.places:
            first = frame.places[key][0]
            path = (*self._path(), key)
            self._problems.add(path, f"the key `{key}` is defined twice, first in line {first}", place=place)
        frame.places[key] = place
        frame.key = key

    def _attach(self, value: Any, place: Place) -> None:
        self._values += 1
        if self._values > self._limits.values_max:
            self._fail(f"more than {self._limits.values_max:,} values", place)
            raise _Stop
        if not self._stack:
            self._source.data = value
            return
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            frame.places.append(place)
            frame.container.append(value)
        elif frame.key == _MISSING:
            self._problems.add(self._path(), "a key must be text, not a list or a mapping", place=place)
            frame.key = f"\0key {self._values}"
        elif frame.key == _MERGE:
            frame.merges.append((value, place))
            frame.key = _MISSING
        else:
            if not frame.key.startswith("\0"):
                frame.container[frame.key] = value
            frame.key = _MISSING

    def _merge(self, frame: _Frame) -> None:
        assert isinstance(frame.container, dict)
        merged: dict[str, Any] = {}
        for value, place in frame.merges:
            for part in reversed(value) if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    merged |= part
                    frame.places = self._source.places_of(part) | frame.places
                else:
                    self._problems.add(self._path(), "`<<` takes a mapping or a list of mappings", place=place)
        merged |= frame.container
        frame.container.clear()
        frame.container.update(merged)

    def _path(self) -> Path:
        """Return the path of the next value; that of the mapping, if its key is not read yet."""
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            return (*frame.path, len(frame.container))
        return frame.path if frame.key.startswith("\0") else (*frame.path, frame.key)


def _place(event: Any) -> Place:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _shown_key(text: str) -> str:
    """Return the text of an invalid key for messages."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _tag_text(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


_HINTS = (
    (re.compile("mapping values are not allowed"), "quote a value that holds `: `, and look at the indentation"),
    (re.compile("'\\\\t'|found a tab"), "YAML wants spaces, not tabs"),
    (re.compile("but found '<scalar>'|did not find expected ',' or '[}\\]]'"), "quote an expression inside { } or [ ]"),
    (re.compile("cannot start any token"), "quote the value"),
)


def _yaml_hint(message: str) -> str:
    return next((hint for pattern, hint in _HINTS if pattern.search(message)), "")
