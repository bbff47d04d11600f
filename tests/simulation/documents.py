"""The documents of the simulation of several engines: read once, and shared by all seeds of a process."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.simulation.drawing import drawing
from tests.simulation.random_checkpoints import marked_mistral, marked_orquesta
from tests.simulation.random_loops import looped_mistral, looped_orquesta
from tests.simulation.random_pooled import pooled_mistral, pooled_orquesta
from tests.simulation.random_subflows import retried_subflows

from dalsegno.definitions.document import Document, read
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.store.records import DefinitionRow
from dalsegno.workflow.model import AdHocAction, Workflow

COUNT = 72
"""How many random documents there are."""

_KINDS: tuple[Callable[[], Any], ...] = (
    *(marked_mistral, marked_orquesta, marked_mistral, marked_orquesta),
    *(looped_mistral, looped_orquesta, retried_subflows, pooled_orquesta, pooled_mistral),
)


@dataclass(frozen=True)
class Given:
    """The texts that define the workflows `wf` and `child`, and the params to start `wf` with."""

    texts: tuple[str, ...]
    params: dict[str, Any]

    @property
    def language(self) -> str:
        return documents_of(self)[0].language


@cache
def random_document(number: int) -> Given:
    """Return the document with this number, from 0 to COUNT - 1: always the same one."""
    chance = random.Random(f"document {number}")
    draw = drawing(chance)
    while True:
        texts, params = draw(_KINDS[number % len(_KINDS)]())
        if not any(read(text).problems for text in texts):
            return Given(tuple(texts), params)


_read: dict[tuple[str, ...], list[Document]] = {}


def documents_of(given: Given) -> list[Document]:
    """Return the documents, read. What they define is compiled by that."""
    found = _read.get(given.texts)
    if found is None:
        found = _read[given.texts] = [read(text) for text in given.texts]
        for text, document in zip(given.texts, found, strict=True):
            _compiled.update({(text, each.name, each.kind.value): each.compiled for each in document.members})
    return found


_compiled: dict[tuple[str | None, str, str], Workflow | AdHocAction] = {}


class SharedCompiling:
    """Stands where an engine compiles definitions: each is compiled once for all engines and seeds.

    Now and then a work has to wait for it, as it would for a long definition.
    """

    def __init__(self, wait: Callable[[Future[None]], None], is_slow: Callable[[], bool]) -> None:
        self._wait = wait
        self._is_slow = is_slow
        self._begun: dict[str, Future[None]] = {}

    def __call__(self, row: DefinitionRow) -> Workflow | AdHocAction:
        begun = self._begun.get(row.definition_id)
        if begun is None and self._is_slow():
            begun = self._begun[row.definition_id] = Future()
        if begun is not None and not begun.done():
            self._wait(begun)
        key = row.text, row.name, row.kind
        found = _compiled.get(key)
        if found is None:
            found = _compiled[key] = compile_row(row)
        return found
