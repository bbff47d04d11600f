"""Broken definitions: whatever somebody hands in, the answer is a list of problems."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.definitions.test_document import WORKBOOK

from dalsegno.definitions.document import Document, load_stored, read

SEED = yaml.safe_load(
    WORKBOOK
    + """
  second:
    type: direct
    on-failure: {revert: there, then: retry, count: 2, delay: <% $.a %>}
    input: [a, {b: 1}]
    vars: {v: <% $.a %>}
    output: {o: '{{ _.v }}'}
    output-on-error: {e: 1}
    task-defaults: {retry: {count: 1, delay: 1, break-on: <% $.x %>}, revert: std.noop, on-error: [fail]}
    tasks:
      one:
        with-items: [i in <% $.l %>, 'j in [1, 2]']
        action: std.echo output=<% $.i %>
        input: {deep: {er: ['<% $.x %>']}}
        publish: {p: <% task().result %>}
        checkpoint: {name: ready, when: before, data: {d: <% $.l %>}}
        revert: {action: std.echo, input: {output: <% $.i %>}, retry: count=1 delay=1, publish: {p: 1}, concurrency: 2}
        wait-before: 1
        timeout: <% $.t %>
        on-success: [two, {fail msg='x': <% $.y %>}]
        on-complete: {publish: {branch: {b: 1}, global: {g: 2}}, next: {two: <% $.z %>}}
      two: {join: all, workflow: main a=1, checkpoint: there, on-skip: noop, concurrency: 2, keep-result: false}
  backwards:
    type: reverse
    tasks:
      x:
        requires: [y]
        checkpoint: {name: x, retry: 2, delay: <% $.l %>, keep: {count: 2, age: 1d}}
        revert: std.noop a=1
      y: {action: std.noop}
"""
)
ORQUESTA = """
version: 1.0
name: pack.w
description: Everything
on-failure: {revert: last, then: retry, delay: <% ctx(a) %>}
tags: [x, y]
input: [a, {b: <% ctx(a) %>}]
vars: [{v: '{{ ctx("b") }}'}]
output: [{o: <% ctx(p) %>}]
tasks:
  one:
    action: core.echo message=<% item(i) %>
    with: {items: i in <% ctx(b) %>, concurrency: <% ctx(a) %>}
    delay: 1
    safe-rerun: true
    checkpoint: {name: ready, when: after, data: {d: <% ctx(a) %>}, keep: {count: 5, age: 9}}
    revert: {action: core.echo, input: {message: <% item(i) %>}, when: always, timeout: 3, target: <% ctx(b) %>}
    retry: {count: 2, when: <% failed() %>, delay: 3}
    next:
      - {when: <% succeeded() %>, publish: [{p: 1}, {q: <% result() %>}], do: [two, noop]}
      - {publish: p=1 q="x", do: 'two, retry'}
      - {publish: [{p: 2}]}
  two: {join: all, action: core.noop, input: {deep: {er: ['{{ ctx("p") }}']}}, next: [{do: three}]}
  three: {next: [{when: <% ctx(p) %>, do: three}, {do: fail}]}
"""
SEEDS = (SEED, yaml.safe_load(ORQUESTA))


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list):
        children = list(enumerate(node))
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


PATHS = [[path for path in _paths(seed) if path] for seed in SEEDS]
WORDS = [
    "",
    "fail",
    "noop",
    "all",
    "version",
    "name",
    "tasks",
    "<% $.x %>",
    "<% * %>",
    "{{ }}",
    "{% if %}",
    "i in [",
    "a=1 b",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.dates()
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
)
NODES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
WAYS = st.sampled_from(["delete", "replace", "double", "rename", "swap"])
MUTATIONS = st.sampled_from(range(len(SEEDS))).flatmap(
    lambda seed: st.tuples(
        st.just(seed), st.lists(st.tuples(st.sampled_from(PATHS[seed]), WAYS, NODES), min_size=1, max_size=4)
    )
)


def _mutate(document: Any, path: tuple[Any, ...], way: str, node: Any) -> None:
    parent = document
    for step in path[:-1]:
        try:
            parent = parent[step]
        except (KeyError, IndexError, TypeError):
            return
    step = path[-1]
    if isinstance(parent, list) and isinstance(step, int) and step < len(parent):
        if way == "delete":
            del parent[step]
        elif way == "double":
            parent.append(copy.deepcopy(parent[step]))
        else:
            parent[step] = node
    elif isinstance(parent, dict) and step in parent:
        if way == "delete":
            del parent[step]
        elif way in ("double", "rename"):
            key = node if isinstance(node, str | int) else "other"
            parent[key] = copy.deepcopy(parent[step]) if way == "double" else parent.pop(step)
        else:
            parent[step] = node


def _check(document: Document) -> None:
    for problem in document.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        assert "Traceback" not in problem.message
    assert document.problems or document.members or document.name


@settings(max_examples=400, deadline=2_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(MUTATIONS)
def test_mutated_data(mutated: tuple[int, list[tuple[tuple[Any, ...], str, Any]]]) -> None:
    """Parts deleted, doubled, renamed or replaced give problems or a definition, in no long time, and never raise."""
    seed, mutations = mutated
    document = copy.deepcopy(SEEDS[seed])
    for path, way, node in mutations:
        _mutate(document, path, way, node)
    text = yaml.safe_dump(document, sort_keys=False)
    read_document = read(text)
    _check(read_document)
    for member in read_document.members[-1:]:
        if not member.name:  # Orquesta's, by a name from outside
            member = read(text, name="given").members[-1]
        assert load_stored(text, member.name, member.kind).name == member.name


@settings(max_examples=270, deadline=2_000)
@given(st.data())
def test_mutated_text(data: st.DataObject) -> None:
    """Characters put into, or taken out of, the text give problems or a definition, and never raise."""
    text = data.draw(st.sampled_from([WORKBOOK, ORQUESTA]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 5))
        inserted = data.draw(
            st.sampled_from(["\t", "&a ", "*", "@", "{", "[", "<%", "%>", "- ", ": ", "'", "\0", "!!x "])
            | st.text(max_size=3)
        )
        text = text[:start] + inserted + text[start + length :]
    _check(read(text))


@settings(max_examples=200, deadline=2_000)
@given(st.text())
def test_any_text(text: str) -> None:
    """Any text at all gets an answer."""
    _check(read(text))
