"""Compiles stored definitions for the conductor's thread. A process of the pool compiles long ones."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from dalsegno.definitions.document import Member, MemberKind, load_stored
from dalsegno.definitions.reading import begin_load, is_short, unpickle
from dalsegno.expressions.pool.pool import CallFailed, Pool
from dalsegno.expressions.pool_client import wait_for
from dalsegno.store.records import DefinitionRow
from dalsegno.workflow.model import AdHocAction, Workflow

KEPT = 4
"""How many compiled definitions are kept for works that have not asked for them yet."""

_log = logging.getLogger(__name__)


def compile_row(row: DefinitionRow) -> Workflow | AdHocAction:
    """Compile a stored definition in this process."""
    assert row.text is not None, "a definition is compiled from its text"
    return load_stored(row.text, row.name, MemberKind(row.kind)).compiled


class Compiling:
    """Compiles definitions. A work that needs a long definition waits while another process compiles it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._begun: dict[str, Future[Member]] = {}
        """By definition id."""

    def __call__(self, row: DefinitionRow) -> Workflow | AdHocAction:
        """Return the compiled definition. Raises Suspended while another process compiles it."""
        assert row.text is not None, "a definition is compiled from its text"
        if is_short(row.text):
            return compile_row(row)
        begun = self._begun.get(row.definition_id)
        if begun is None:
            self._forget()
            begun = self._begun[row.definition_id] = self._begin(row)
        wait_for(begun)
        del self._begun[row.definition_id]
        try:
            return begun.result().compiled
        except CallFailed as failure:  # stored definitions are valid, so an execution must not fail here
            _log.warning("%s; it is compiled in the engine", failure)
            return compile_row(row)

    def _forget(self) -> None:
        """Remove definitions that no work has asked for again; those works may have been dropped."""
        done = [definition_id for definition_id, begun in self._begun.items() if begun.done()]
        for definition_id in done[:-KEPT]:
            del self._begun[definition_id]

    def _begin(self, row: DefinitionRow) -> Future[Member]:
        assert row.text is not None, "a definition is compiled from its text"
        called = begin_load(self._pool, row.text, row.name, MemberKind(row.kind), row.version)
        member: Future[Member] = Future()
        # Unpickling takes up to 0.3 s, which would delay the pool's thread or the conductor's.
        called.add_done_callback(lambda done: threading.Thread(target=_unpickle, args=(done, member)).start())
        return member


def _unpickle(done: Future[bytes], member: Future[Member]) -> None:
    try:
        member.set_result(unpickle(done.result()))
    except BaseException as error:
        member.set_exception(error)
