"""Read one task of an Orquesta workflow."""

from __future__ import annotations

import re
from typing import Any

from dalsegno.definitions.orquesta.calls import read_call
from dalsegno.definitions.orquesta.inline import Inline
from dalsegno.definitions.orquesta.parts import (
    CONTINUE,
    Assignment,
    ItemSource,
    ReadTask,
    Reference,
    Target,
    Transition,
)
from dalsegno.definitions.orquesta.policies import read_condition, read_retry, read_safe_rerun
from dalsegno.definitions.orquesta.reverts import read_checkpoint, read_revert
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Path, shown
from dalsegno.definitions.secrets import SECRET, read_secret

_KEYS = dict.fromkeys(
    (
        *("action", "input", "with", "join", "delay", "retry", "next"),
        *("safe-rerun", "target", "checkpoint", "revert", SECRET),
    )
)
"""Orquesta's keys, and five that only this engine has."""

_ITEMS_KEYS = dict.fromkeys(("items", "concurrency"))
_TRANSITION_KEYS = dict.fromkeys(("when", "publish", "do"))

_NAME = re.compile(r"\w+")
_WORD = re.compile(r"\w+")
_ITEM_NAMES = re.compile(r"(?:\w+,\s*)*\w+\s+in\s+")


def read_task(reader: Reader, name: str, data: object, path: Path) -> ReadTask:
    """Read one task; with problems, it is incomplete."""
    if not _NAME.fullmatch(name):
        reader.fault(path, f"the name {shown(name)} may have letters, digits and `_` only")
    if not isinstance(data, dict) or not data:
        reader.fault(path, f"a task must be a mapping that is not empty, not {shown(data)}", "action: core.noop")
        return ReadTask(name, path)
    reader.known_keys(data, _KEYS, path, "task")
    references: list[Reference] = []
    items = None
    if "delay" in data:
        references += reader.number(data["delay"], (*path, "delay"))
    if "with" in data:
        items, found = _read_items(reader, data["with"], (*path, "with"))
        references += found
    call, named = read_call(reader, data, path, (*path, "action"))
    if "safe-rerun" in data:
        named += read_safe_rerun(reader, data["safe-rerun"], (*path, "safe-rerun"))
    if "target" in data:
        reader.target(data["target"], (*path, "target"))
        named += reader.references(data["target"], (*path, "target"))
    checkpoint, of_checkpoint = read_checkpoint(reader, data, path)
    revert, of_revert = read_revert(reader, data, path)
    return ReadTask(
        name=name,
        path=path,
        call=call,
        join=_read_join(reader, data["join"], (*path, "join")) if "join" in data else None,
        has_items="with" in data,
        items=items,
        delay=data.get("delay"),
        retry=read_retry(reader, data["retry"], (*path, "retry")) if "retry" in data else None,
        safe_rerun=data.get("safe-rerun"),
        target=data.get("target"),
        checkpoint=checkpoint,
        revert=revert,
        secret=read_secret(reader, data, path),
        references=(*references, *named, *of_checkpoint, *of_revert),
        transitions=_read_next(reader, data["next"], (*path, "next")) if "next" in data else (),
        data=data,
    )


def _read_join(reader: Reader, value: object, path: Path) -> int | str:
    """Return what a join waits for; all if it is invalid, so that the task remains a join."""
    if value == "all":
        return "all"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    hint = "remove the quotes" if isinstance(value, str) and value.isdigit() else ""
    reader.fault(path, f"must be all or a whole number from 0 on, not {shown(value)}", hint)
    return "all"


def _read_items(reader: Reader, value: object, path: Path) -> tuple[ItemSource | None, tuple[Reference, ...]]:
    """Read `with`, as a text or with its keys."""
    if isinstance(value, str):
        return _read_item_source(reader, value, path), reader.references(value, path)
    if not isinstance(value, dict):
        reader.fault(path, f"must be a text or a mapping of items and concurrency, not {shown(value)}")
        return None, ()
    reader.known_keys(value, _ITEMS_KEYS, path, "with")
    items = None
    references: tuple[Reference, ...] = ()
    place = (*path, "items")
    if "items" not in value:
        reader.fault(path, "`items` is missing", "items: <% ctx(list) %>")
    elif not isinstance(value["items"], str):
        reader.fault(place, f"must be text, not {shown(value['items'])}")
    else:
        items = _read_item_source(reader, value["items"], place, value.get("concurrency"))
        references = reader.references(value["items"], place)
    if "concurrency" in value:
        references += reader.number(value["concurrency"], (*path, "concurrency"))
    return items, references


def _read_item_source(reader: Reader, value: str, path: Path, concurrency: Any = None) -> ItemSource | None:
    """Read `<% list %>`, `a in <% list %>` or `a, b in <% list %>`."""
    text = value.strip()
    names = _ITEM_NAMES.match(text)
    source = text[names.end() :] if names else text
    if not _is_one_expression(source):
        reader.fault(path, f"{shown(value)} is not of the form `<% ... %>` or `a, b in <% ... %>`")
        return None
    named = _WORD.findall(names.group())[:-1] if names else ()  # the last word is `in`
    return ItemSource(tuple(named), source, path, concurrency)


def _is_one_expression(text: str) -> bool:
    is_marked = any(
        len(text) >= 4 and text.startswith(opening) and text.endswith(closing)
        for opening, closing in (("<%", "%>"), ("{{", "}}"))
    )
    return is_marked and "\n" not in text


def _read_next(reader: Reader, value: object, path: Path) -> tuple[Transition, ...]:
    if not isinstance(value, list):
        hint = "begin each transition with `- `" if isinstance(value, dict) else ""
        reader.fault(path, f"must be a list of transitions, not {shown(value)}", hint)
        return ()
    return tuple(_read_transition(reader, item, (*path, index)) for index, item in enumerate(value))


def _read_transition(reader: Reader, value: object, path: Path) -> Transition:
    if not isinstance(value, dict) or not value:
        message = f"a transition must be a mapping of when, publish and do that is not empty, not {shown(value)}"
        reader.fault(path, message, f"do: {value}" if isinstance(value, str) and _NAME.fullmatch(value) else "")
        return Transition(targets=())
    reader.known_keys(value, _TRANSITION_KEYS, path, "transition")
    when = value.get("when")
    return Transition(
        targets=(
            _read_targets(reader, value["do"], (*path, "do")) if "do" in value else (Target(CONTINUE, (*path, "do")),)
        ),
        path=path,
        publish=_read_publish(reader, value["publish"], (*path, "publish")) if "publish" in value else (),
        when=when if isinstance(when, str) else None,
        references=read_condition(reader, when, (*path, "when")) if "when" in value else (),
    )


def _read_publish(reader: Reader, value: object, path: Path) -> tuple[Assignment, ...]:
    """Read a list of one-key mappings, or the same in one line."""
    if not isinstance(value, str):
        return reader.assignments(value, path)
    text = reader.text(value, path)
    read: list[Assignment] = []
    inline = reader.inline(text, path) if text else Inline()
    reader.warn_of_unparsed(inline.unparsed, path)
    for name, part in inline.parameters:
        found = reader.references(part, path)
        read.append(Assignment(name, part, tuple(Reference(reference.variable, path) for reference in found)))
    return tuple(read)


def _read_targets(reader: Reader, value: object, path: Path) -> tuple[Target, ...]:
    """Read a name, names with commas between them, or a list of names."""
    if isinstance(value, str):
        text = reader.text(value, path)
        reader.references(value, path)
        return () if text is None else tuple(Target(name.strip(), path) for name in text.split(","))
    if not isinstance(value, list):
        reader.fault(path, f"must be a name, names with commas between them or a list of names, not {shown(value)}")
        return ()
    names = reader.texts(value, path)
    reader.references(value, path)
    return tuple(Target(name, (*path, value.index(name))) for name in names)
