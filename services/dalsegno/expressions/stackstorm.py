"""The functions on plain values of Orquesta's expressions: its own two, and those that StackStorm adds.

Arguments have StackStorm's names and defaults, because workflows give them by name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest

from semver import Version

from dalsegno.expressions import functions
from dalsegno.expressions.texts import pay_for_split
from dalsegno.expressions.values import CONTAINER_COST, BuiltList, describe, finish, quote, show
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import collect, is_number, walk
from dalsegno.expressions.yaql.registry import ANY, Builtin, builtin
from dalsegno.expressions.yaql.strings import need_string
from dalsegno.workflow.scope import EvaluationError

FUNCTIONS: dict[str, Builtin] = {}
"""By name."""

NO_VALUE = "%*****__%NONE%__*****%"
"""StackStorm's text for null."""
HUMAN_TIME_COST = 20
"""Steps of writing a duration for people."""
INDENT_MAX = 16
"""Spaces of an indentation."""
SEPARATOR_LENGTH = 16
"""Characters between members of a written list."""
VERSION_LENGTH = 256
"""Characters of a version."""
VERSION_COST = 50
"""Steps of reading one."""


@builtin("json", function=True, table=FUNCTIONS, named=True)
def json(frame: Frame, s: object) -> object:
    """Return the value of a JSON text; a dict is returned unchanged."""
    return s if isinstance(s, Mapping) else functions.parse_json(frame.budget, s, "json()")


@builtin("zip", least=0, most=ANY, function=True, table=FUNCTIONS, named=True)
def zip_lists(frame: Frame, *lists: object, pad: object = None) -> object:
    """Return the first items of all lists, the second, and so on; shorter lists are filled. One argument is returned
    unchanged; null is an empty list, a text its characters, a dict its keys."""
    given = [BuiltList() if each is None else each for each in lists]
    if len(given) == 1:
        return given[0]
    columns = [_column(frame, each) for each in given]
    count = max(map(len, columns), default=0)
    frame.budget.step(count * (1 + len(columns) // 8))
    frame.budget.build((CONTAINER_COST + len(columns)) * count)
    return BuiltList(BuiltList(row) for row in zip_longest(*columns, fillvalue=pad))


def _column(frame: Frame, value: object) -> list[object]:
    if isinstance(value, str):
        pay_for_split(frame.budget, value, None)
        return list(value)
    if isinstance(value, Mapping):
        frame.budget.step(len(value))
        frame.budget.build(len(value))
        return list(value)
    return collect(frame, walk(frame, value, "zip()"))


@builtin("from_json_string", "json_parse", function=True, table=FUNCTIONS, named=True)
def from_json_string(frame: Frame, value: object) -> object:
    return functions.parse_json(frame.budget, _source(frame, value, "from_json_string()"), "from_json_string()")


@builtin("from_yaml_string", "yaml_parse", function=True, table=FUNCTIONS, named=True)
def from_yaml_string(frame: Frame, value: object) -> object:
    return functions.parse_yaml(frame.budget, _source(frame, value, "from_yaml_string()"), "from_yaml_string()")


@builtin("to_json_string", "json_dump", least=1, most=4, function=True, table=FUNCTIONS, named=True)
def to_json_string(
    frame: Frame,
    value: object,
    indent: object = None,
    sort_keys: object = False,
    separators: object = (",", ": "),
) -> str:
    """Return the value as JSON, without a space after a comma unless `separators` has one."""
    marks = separators if isinstance(separators, Sequence) else ()
    texts = [mark for mark in marks if isinstance(mark, str) and len(mark) <= SEPARATOR_LENGTH]
    if separators is not None and (len(texts) != 2 or len(marks) != 2):
        raise EvaluationError("to_json_string() needs two short strings as separators")
    return functions.dump_json(
        frame.budget,
        value,
        indent=_indent(indent, "to_json_string()"),
        sort_keys=bool(sort_keys),
        separators=(texts[0], texts[1]) if texts else None,
    )


@builtin("to_yaml_string", "yaml_dump", least=1, most=3, function=True, table=FUNCTIONS, named=True)
def to_yaml_string(frame: Frame, value: object, indent: object = None, allow_unicode: object = True) -> str:
    """Return the value as YAML in block style."""
    return functions.dump_yaml(
        frame.budget, value, indent=_indent(indent, "to_yaml_string()"), allow_unicode=bool(allow_unicode)
    )


@builtin("json_escape", function=True, table=FUNCTIONS, named=True)
def json_escape(frame: Frame, value: object) -> str:
    """Return the text between the quotes of its JSON string."""
    return functions.dump_json(frame.budget, value).strip('"')


@builtin("jsonpath_query", least=2, function=True, table=FUNCTIONS, apart=True)
def jsonpath_query(frame: Frame, value: object, query: object) -> object:
    """Return all that the query finds in the value; null when it finds nothing."""
    # Imported here: only evaluation processes need the library.
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.parser import parse

    try:
        found = parse(need_string(frame, query, "jsonpath_query()")).find(finish(value, frame.budget))
    except JSONPathError as error:
        raise EvaluationError(f"jsonpath_query(): {error}") from None
    return [match.value for match in found] or None


@builtin("use_none", function=True, table=FUNCTIONS, named=True)
def use_none(frame: Frame, value: object) -> object:
    """Return the value, or the text that stands for null."""
    return NO_VALUE if value is None else value


@builtin("basename", function=True, table=FUNCTIONS, named=True)
def basename(frame: Frame, path: object) -> str:
    return posixpath.basename(_path(frame, path, "basename()"))


@builtin("dirname", function=True, table=FUNCTIONS, named=True)
def dirname(frame: Frame, path: object) -> str:
    return posixpath.dirname(_path(frame, path, "dirname()"))


def _path(frame: Frame, path: object, what: str) -> str:
    text = need_string(frame, path, what)
    frame.budget.build(len(text))
    return text


@builtin("regex_match", least=2, most=3, function=True, table=FUNCTIONS, apart=True)
def regex_match(frame: Frame, value: object, pattern: object, ignorecase: object = False) -> bool:
    """Return whether the pattern matches at the beginning of the text."""
    return bool(_pattern(frame, pattern, ignorecase).match(_as_text(frame, value)))


@builtin("regex_search", least=2, most=3, function=True, table=FUNCTIONS, apart=True)
def regex_search(frame: Frame, value: object, pattern: object, ignorecase: object = False) -> bool:
    """Return whether the pattern matches anywhere in the text."""
    return bool(_pattern(frame, pattern, ignorecase).search(_as_text(frame, value)))


@builtin("regex_replace", least=3, most=4, function=True, table=FUNCTIONS, apart=True)
def regex_replace(frame: Frame, value: object, pattern: object, replacement: object, ignorecase: object = False) -> str:
    """Return the text with all matches of the pattern replaced."""
    try:
        return _pattern(frame, pattern, ignorecase).sub(
            need_string(frame, replacement, "regex_replace()"), _as_text(frame, value)
        )
    except (re.error, IndexError) as error:
        raise EvaluationError(f"the replacement does not fit: {error}") from None


@builtin("regex_substring", least=2, most=4, function=True, table=FUNCTIONS, apart=True)
def regex_substring(
    frame: Frame, value: object, pattern: object, result_index: object = 0, ignorecase: object = False
) -> object:
    """Return a match of the pattern in the text, by default the first: its group, or a list of its groups."""
    if not isinstance(result_index, int):
        raise EvaluationError(f"regex_substring() needs an integer as index, not {describe(result_index)}")
    found = _pattern(frame, pattern, ignorecase).findall(_as_text(frame, value))
    if not -len(found) <= result_index < len(found):
        raise EvaluationError(f"regex_substring() finds {len(found)}, there is no number {quote(result_index)}")
    return found[result_index]


@builtin("to_human_time_from_seconds", function=True, table=FUNCTIONS, named=True)
def to_human_time_from_seconds(frame: Frame, seconds: object) -> str:
    """Return a duration as `3h25m45s`, from its largest unit (years, days, hours, minutes) to seconds."""
    if not isinstance(seconds, (int, float)) or not is_number(seconds):
        raise EvaluationError(f"to_human_time_from_seconds() needs a number, not {describe(seconds)}")
    frame.budget.step(HUMAN_TIME_COST)
    if seconds < 1:
        return f"{seconds}\u03bcs" if seconds else "0s"
    try:
        ended = datetime(1, 1, 1) + timedelta(seconds=round(seconds))
    except (OverflowError, ValueError):
        raise EvaluationError("to_human_time_from_seconds() counts up to 9998 years") from None
    counts = [ended.year - 1, ended.timetuple().tm_yday - 1, ended.hour, ended.minute, ended.second]
    first = next(place for place, count in enumerate(counts) if count)
    return "".join(f"{count}{unit}" for count, unit in list(zip(counts, "ydhms", strict=True))[first:])


@builtin("version_compare", least=2, function=True, table=FUNCTIONS, named=True)
def version_compare(frame: Frame, value: object, pattern: object) -> int:
    """Return -1, 0 or 1: the version is older, the same, or newer."""
    return _version(frame, value).compare(_version(frame, pattern))


@builtin("version_more_than", least=2, function=True, table=FUNCTIONS, named=True)
def version_more_than(frame: Frame, value: object, pattern: object) -> bool:
    return version_compare(frame, value, pattern) == 1


@builtin("version_less_than", least=2, function=True, table=FUNCTIONS, named=True)
def version_less_than(frame: Frame, value: object, pattern: object) -> bool:
    return version_compare(frame, value, pattern) == -1


@builtin("version_equal", least=2, function=True, table=FUNCTIONS, named=True)
def version_equal(frame: Frame, value: object, pattern: object) -> bool:
    return version_compare(frame, value, pattern) == 0


@builtin("version_match", least=2, function=True, table=FUNCTIONS, named=True)
def version_match(frame: Frame, value: object, pattern: object) -> bool:
    """Return whether the version fits a comparison as `>=1.2.0`."""
    try:
        return _version(frame, value).match(_short(frame, pattern))
    except ValueError as error:
        raise EvaluationError(f"version_match(): {error}") from None


@builtin("version_bump_major", function=True, table=FUNCTIONS, named=True)
def version_bump_major(frame: Frame, value: object) -> str:
    return str(_version(frame, value).bump_major())


@builtin("version_bump_minor", function=True, table=FUNCTIONS, named=True)
def version_bump_minor(frame: Frame, value: object) -> str:
    return str(_version(frame, value).bump_minor())


@builtin("version_bump_patch", function=True, table=FUNCTIONS, named=True)
def version_bump_patch(frame: Frame, value: object) -> str:
    return str(_version(frame, value).bump_patch())


@builtin("version_strip_patch", function=True, table=FUNCTIONS, named=True)
def version_strip_patch(frame: Frame, value: object) -> str:
    """Return the major and minor numbers alone."""
    version = _version(frame, value)
    return f"{version.major}.{version.minor}"


def _version(frame: Frame, value: object) -> Version:
    try:
        return Version.parse(_short(frame, value))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _short(frame: Frame, value: object) -> str:
    text = need_string(frame, value, "a version function")
    frame.budget.step(VERSION_COST)
    if len(text) > VERSION_LENGTH:
        raise EvaluationError(f"a version has at most {VERSION_LENGTH} characters")
    return text


def _pattern(frame: Frame, pattern: object, ignorecase: object) -> re.Pattern[str]:
    try:
        return re.compile(need_string(frame, pattern, "a regex function"), re.IGNORECASE if ignorecase else 0)
    except (re.error, OverflowError) as error:
        raise EvaluationError(f"the pattern is none: {error}") from None


def _as_text(frame: Frame, value: object) -> str:
    """Return the text in which a pattern is searched: the value as Python shows it."""
    text = value if isinstance(value, str) else show(value, frame.budget)
    frame.budget.read(text)
    return text


def _source(frame: Frame, value: object, what: str) -> str:
    """Return the text to parse; other values are converted to text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) or value is None:
        return show(value, frame.budget)
    raise EvaluationError(f"{what} needs a string, not {describe(value)}")


def _indent(indent: object, what: str) -> int | None:
    if indent is None or (isinstance(indent, int) and 0 <= indent <= INDENT_MAX):
        return indent
    raise EvaluationError(f"{what} indents by 0 to {INDENT_MAX} spaces")
