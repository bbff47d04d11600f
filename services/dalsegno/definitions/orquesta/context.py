"""Find variables that are referenced before any task can have assigned them.

Tasks are visited in the order of a run without delays. A task is checked with the arrivals at its first visit: each
must have assigned what the task references. Later arrivals, on longer paths or around a cycle, are not checked, because
Orquesta accepts such definitions, and they run while no execution takes this path. A join is checked with everything
that any path to it may have assigned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from dalsegno.definitions.orquesta.graph import Graph
from dalsegno.definitions.orquesta.parts import Assignment, ReadTask, ReadWorkflow, Reference, Transition
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import CONTEXT

APPLICATION_NAMES = ("st2", "parent")
"""The variables that StackStorm adds to every context."""

_PRIVATE = "__"


def check_context(reader: Reader, workflow: ReadWorkflow, graph: Graph, application_names: Collection[str]) -> None:
    """Add a problem for every reference to a variable that is not assigned, or that is private."""
    _Inspection(reader, graph).inspect(workflow, application_names)


class _Inspection:
    """One inspection of one workflow. Sets of variables are bits of an integer, so that a union is cheap."""

    def __init__(self, reader: Reader, graph: Graph) -> None:
        self._reader = reader
        self._graph = graph
        self._bits: dict[str, int] = {}

    def inspect(self, workflow: ReadWorkflow, application_names: Collection[str]) -> None:
        assigned = self._bits_of(application_names)
        assigned = self._assign(workflow.input, assigned)
        assigned = self._assign(workflow.vars, assigned)
        possible = self._find_possible(assigned)
        self._walk(assigned, possible)
        at_end = assigned
        for name in self._graph.order:
            at_end |= possible[name]
            for transition in self._graph.tasks[name].transitions:
                at_end |= self._bits_of(transition.published)
        self._assign(workflow.output, at_end)
        self._check(workflow.strategy_references, at_end)

    def _find_possible(self, assigned: int) -> dict[str, int]:
        """Return for each reachable task the variables that any path to it may have assigned."""
        published: dict[tuple[str, str], int] = {}
        for name in self._graph.order:
            for transition in self._graph.tasks[name].transitions:
                bits = self._bits_of(transition.published)
                for target in transition.targets:
                    key = (name, target.name)
                    published[key] = published.get(key, 0) | bits
        return self._graph.spread(lambda source, target: published[source, target], lambda name: assigned)

    def _walk(self, assigned: int, possible: dict[str, int]) -> None:
        arrived = dict.fromkeys(self._graph.starts, assigned)
        waiting = deque(arrived)
        met: set[str] = set()
        while waiting:
            name = waiting.popleft()
            met.add(name)
            task = self._graph.tasks[name]
            known = possible[name] if task.is_join else arrived[name]
            self._check(task.references, known)
            for target, branch in self._follow(task, known):
                if target in arrived and target not in met:
                    arrived[target] &= branch
                elif target not in arrived:
                    arrived[target] = branch
                    waiting.append(target)

    def _follow(self, task: ReadTask, known: int) -> Iterator[tuple[str, int]]:
        """Yield the following tasks, with the variables that are assigned for each."""
        for transition in task.transitions:
            branch = self._inspect_transition(transition, known)
            for target in transition.targets:
                if target.name in self._graph.tasks:
                    yield target.name, branch

    def _inspect_transition(self, transition: Transition, known: int) -> int:
        self._check(transition.references, known)
        return self._assign(transition.publish, known)

    def _assign(self, assignments: Iterable[Assignment], known: int) -> int:
        """Check each value with the assignments before it, and return all assigned variables."""
        for assignment in assignments:
            self._check(assignment.references, known)
            known |= self._bits_of((assignment.name,))
        return known

    def _check(self, references: Iterable[Reference], known: int) -> None:
        for reference in references:
            name = reference.variable
            if name.startswith(_PRIVATE):
                message = f"the variable `{name}` is private: names that begin with `__` cannot be referenced"
                self._reader.fault(reference.path, message, category=CONTEXT)
            elif not known & self._bits_of((name,)):
                message = f"the variable `{name}` is referenced before it is assigned"
                self._reader.fault(reference.path, message, self._hint(name, known), CONTEXT)

    def _hint(self, name: str, known: int) -> str:
        near = self._reader.guess(name, [other for other, bit in self._bits.items() if other and bit & known])
        return near or "declare it under `input` or `vars`, or publish it on every path that leads here"

    def _bits_of(self, names: Iterable[str]) -> int:
        bits = 0
        for name in names:
            bit = self._bits.get(name)
            if bit is None:
                bit = self._bits[name] = 1 << len(self._bits)
            bits |= bit
        return bits
