"""Definitions: those that the stand has, and others made from them by changes of their text and of their structure."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from dalsegno.definitions.reading import Reading, read_here

MISTRAL = """
version: '2.0'
fuzz_chain:
  input: [{word: hello}, {list: [1, 2]}]
  output: {said: <% $.said %>}
  tasks:
    first: {action: std.echo output=<% $.word %>, publish: {said: <% task().result %>}, on-success: [second],
            checkpoint: begun}
    second: {action: std.noop, retry: {count: 1, delay: 0}, on-complete: [third: "<% $.said != 'no' %>"]}
    third: {action: "std.echo output='{{ _.said }}!'", checkpoint: {name: done, keep: {count: 2}}}
fuzz_items:
  input: [{list: [1, 2, 3]}]
  tasks:
    many: {with-items: n in <% $.list %>, action: std.echo output=<% $.n %>, concurrency: 2}
    left: {action: std.noop, on-success: [meet]}
    right: {action: std.fail, on-error: [meet]}
    meet: {join: all, action: std.noop}
fuzz_asks:
  input: [{word: x}]
  tasks:
    ask: {action: std.async_noop, timeout: 600, on-success: [second], revert: std.noop}
    second: {action: std.noop, checkpoint: {name: installed, when: before}}
fuzz_calls:
  input: [{word: x}]
  tasks:
    call: {workflow: fuzz_asks word=<% $.word %>}
    beside: {workflow: fuzz_items, on-error: [t1]}
    t1: {action: std.noop, wait-before: 1}
"""
POINTS = """
version: '2.0'
fuzz_points:
  on-failure: revert
  tasks:
    first: {action: std.noop, checkpoint: begun, on-success: [ask]}
    ask: {action: std.async_noop, on-success: [second]}
    second: {action: std.noop, checkpoint: installed}
"""
ORQUESTA = """
version: 1.0
input: [{word: hi}, {list: [1, 2]}]
vars: [{n: 0}]
output: [{said: <% ctx().word %>}]
tasks:
  t1:
    action: core.noop
    next:
      - when: <% succeeded() %>
        publish: [{n: "<% ctx().n + 1 %>"}]
        do: many
  many:
    with: i in <% ctx().list %>
    action: core.echo message=<% item(i) %>
    next: [{do: [ask, left]}]
  left: {action: core.noop, next: [{do: meet}]}
  ask: {action: core.ask, next: [{do: meet}]}
  meet: {join: all, action: core.noop}
"""
SECRET = """
version: '2.0'
fuzz_secret:
  input: [password]
  secrets: [password]
  output: {made: <% $.made %>}
  tasks:
    first: {action: std.echo output=<% $.password %>, publish: {made: <% task().result + '-made' %>}, on-success: [ask]}
    ask: {action: std.async_noop, on-success: [second]}
    second: {action: std.fail}
"""
PASSWORD = "pw-4711-of-nobody"
"""The secret that no answer and no log may have."""
DOCUMENTS = (MISTRAL, POINTS, ORQUESTA)

_WORDS = (
    *("action", "workflow", "join", "on-success", "on-error", "on-complete", "publish", "input", "output", "retry"),
    *("with-items", "with", "concurrency", "timeout", "wait-before", "pause-before", "next", "do", "when", "requires"),
    *("checkpoint", "keep", "revert", "on-failure", "target", "safe-rerun", "tasks", "version", "vars", "type", "tags"),
    *("secrets", "secret", "reveal"),
    *("task-defaults", "policies", "noop", "fail", "pause", "all", "retry", "count", "delay", "items", "key", "if"),
)
_VALUES: tuple[object, ...] = (
    *(None, True, 0, 1, -1, 2**63, 1.5, "", "x", [], {}, ["first"], [None], {"a": None}, "<% $.word %>", "{{ _.n }}"),
    *("<% ctx().n %>", "<% $.x.y %>", "<%", "{% for a in b %}", "{{", "std.echo output=1", "std.echo output='", "a b"),
    *("first", "second", "noop", {"first": "<% true %>"}, {"count": "<% 1 %>", "delay": -1}, "2.0", 2.0, "reverse"),
    *({"name": "begun", "when": "before"}, "one", ["a", ["b"]], {"next": ["first"]}, "n in <% $.list %>", "i, j in k"),
    *("*a", "&a b", "!!python/object:os.system x", "2026-01-01", "0x10", "1_000", ".inf", ".nan", "\N{SNOWMAN}" * 9),
)
_SIGNS = "{}[]'\"#|&*<%>:-\t\n\0"
_TEXTS = (*_SIGNS, "*a", "&a ", "<<: ", "<%", "%>", "{{", "---\n", "\n  ")

_PARSED = [yaml.safe_load(each) for each in DOCUMENTS]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def draw_document(random: Random) -> str:
    """Return the text of a definition: one of the stand's, or a changed one."""
    kind = random.randrange(8)
    text = random.choice(DOCUMENTS)
    if kind == 0:
        return text
    if kind == 1:
        return _with_damage(random, text)
    document = copy.deepcopy(random.choice(_PARSED))
    for _ in range(1 + random.randrange(4)):
        _change(random, document)
    flow = random.choice((True, False))
    return str(yaml.dump(document, Dumper=_DUMPER, sort_keys=False, default_flow_style=flow))


def _with_damage(random: Random, text: str) -> str:
    """Return the text with some characters out, in or elsewhere."""
    for _ in range(1 + random.randrange(5)):
        place, length = random.randrange(len(text) + 1), random.randrange(12)
        put = random.choice((*_TEXTS, text[random.randrange(len(text)) :][:length]))
        text = text[:place] + put + text[place + random.choice((0, length)) :]
        text = text or " "
    return text


def _change(random: Random, document: Any) -> None:
    """Change one thing somewhere in a document."""
    place = random.choice(list(_containers(document)) or [document])
    if not isinstance(place, dict | list):
        return
    changes: tuple[Callable[[], None], ...] = (
        lambda: _put(random, place, random.choice(_VALUES)),
        lambda: _put(random, place, random.choice(list(_containers(document))[-8:] or [None])),
        lambda: _remove(random, place),
        lambda: _rename(random, place),
    )
    random.choice(changes)()


def _containers(value: Any, depth: int = 0) -> list[Any]:
    if depth > 12 or not isinstance(value, dict | list):
        return []
    members = list(value.values() if isinstance(value, dict) else value)
    return [value, *(each for member in members for each in _containers(member, depth + 1))]


def _put(random: Random, place: Any, value: Any) -> None:
    copied = copy.deepcopy(value)  # a document that has itself would not end
    if isinstance(place, list):
        place.insert(random.randrange(len(place) + 1), copied)
    else:
        place[random.choice([*place, *_WORDS] if random.randrange(2) else [*place] or ["x"])] = copied


def _remove(random: Random, place: Any) -> None:
    if isinstance(place, list) and place:
        place.pop(random.randrange(len(place)))
    elif place:
        del place[random.choice(list(place))]


def _rename(random: Random, place: Any) -> None:
    if isinstance(place, dict) and place:
        value = place.pop(random.choice(list(place)))
        place[random.choice((*_WORDS, "first", 1, "x y", ""))] = value


def is_yaml(text: str) -> bool:
    """Return whether a text passes the first check of definitions: it is a mapping in YAML."""
    try:
        return isinstance(yaml.load(text, Loader=_LOADER), dict)
    except (yaml.YAMLError, ValueError):
        return False


def read_definition(text: str) -> None:
    """Read a definition as an api does for a short one."""
    read_here(Reading(text))
