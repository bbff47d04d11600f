"""The graph of a workflow: its starts, reachable tasks, splits, and unreachable joins.

Everything here takes time in proportion to the tasks and transitions: no path is visited twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from dalsegno.definitions.orquesta.parts import COMMANDS, ReadTask
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import SEMANTIC, Path


class Graph:
    """Tasks and the transitions between them, without engine commands and targets that do not exist."""

    def __init__(self, tasks: Mapping[str, ReadTask]) -> None:
        self.tasks = tasks
        self.outbound: dict[str, tuple[str, ...]] = {}
        self.inbound: dict[str, list[str]] = {name: [] for name in tasks}
        """One entry for each transition: a task with two transitions to this one is here twice."""
        self.command_counts: dict[str, int] = {}
        """The number of transitions to each engine command."""
        for name, task in tasks.items():
            targets = [target.name for transition in task.transitions for target in transition.targets]
            for target in targets:
                if target in tasks:
                    self.inbound[target].append(name)
                elif target in COMMANDS:
                    self.command_counts[target] = self.command_counts.get(target, 0) + 1
            self.outbound[name] = tuple(dict.fromkeys(target for target in targets if target in tasks))
        self.starts = tuple(sorted(name for name in tasks if not self.inbound[name]))
        components = _Components(self.outbound)
        self.cyclic: Collection[str] = components.cyclic
        """The tasks in cycles."""
        reached = self._find_reached()
        self.order = tuple(name for name in reversed(components.closed) if name in reached)
        """The reachable tasks, each after its predecessors, except in cycles."""

    def is_split(self, name: str) -> bool:
        """Return whether each arrival at the task begins a new route."""
        return not self.tasks[name].is_join and len(self.inbound[name]) > 1 and name not in self.cyclic

    def spread(self, given: Callable[[str, str], int], own: Callable[[str], int]) -> dict[str, int]:
        """Return the bits of each reachable task: its `own`, and for each inbound transition the bits of the source and
        those `given` by the transition."""
        found = {name: own(name) for name in self.order}
        is_changed = True
        while is_changed:
            is_changed = False
            for name in self.order:
                for target in self.outbound[name]:
                    joined = found[target] | found[name] | given(name, target)
                    is_changed = is_changed or joined != found[target]
                    found[target] = joined
        return found

    def _find_reached(self) -> set[str]:
        reached = set(self.starts)
        waiting = list(self.starts)
        while waiting:
            following = [target for target in self.outbound[waiting.pop()] if target not in reached]
            reached.update(following)
            waiting += following
        return reached


def check_graph(reader: Reader, graph: Graph, path: Path) -> None:
    """Add problems for reserved names, targets that do not exist, a missing start, and unreachable joins."""
    for name, task in graph.tasks.items():
        if name in COMMANDS:
            reader.fault(task.path, f"`{name}` is an engine command, so no task can be called so", category=SEMANTIC)
        if task.has_items and not task.call.action:
            reader.fault(task.path, "a task with `with` needs an `action`", "action: core.noop", SEMANTIC)
        _check_targets(reader, graph, task)
    if graph.tasks and not graph.starts:
        hint = "put a task before the cycle"
        reader.fault(path, "no task to start with: something leads to every task", hint, SEMANTIC)
    _check_joins(reader, graph)


def _check_targets(reader: Reader, graph: Graph, task: ReadTask) -> None:
    for transition in task.transitions:
        for target in transition.targets:
            if target.name not in graph.tasks and target.name not in COMMANDS:
                hint = reader.guess(target.name, (*graph.tasks, *COMMANDS))
                reader.fault(target.path, f"there is no task `{target.name[:255]}`", hint, SEMANTIC)


def _check_joins(reader: Reader, graph: Graph) -> None:
    """Add problems for unreachable joins. A join counts the arrivals of one route; paths from different splits are on
    different routes, so that it would wait for ever."""
    joins = [name for name in graph.order if graph.tasks[name].is_join]
    splits = [name for name in graph.order if graph.is_split(name)] if joins else []
    if not splits:
        return
    bits = {name: 1 << number for number, name in enumerate(splits)}
    passed = graph.spread(lambda source, target: 0, lambda name: bits.get(name, 0))
    for name in joins:
        odd = next((source for source in graph.inbound[name] if passed.get(source, passed[name]) != passed[name]), None)
        if odd is not None:
            parted = (passed[name] & ~passed[odd]).bit_length() - 1
            message = f"the join is unreachable: `{odd}` leads to it, but not through `{splits[parted]}`"
            hint = "each arrival at a task that several others lead to is a route of its own: give that one a `join`"
            reader.fault(graph.tasks[name].path, message, hint, SEMANTIC)


class _Components:
    """The tasks in cycles, and an order in which a task comes after its successors, except in cycles.

    (Tarjan's strong components, without recursion.)
    """

    def __init__(self, outbound: Mapping[str, tuple[str, ...]]) -> None:
        self.cyclic: set[str] = set()
        self.closed: list[str] = []
        self._outbound = outbound
        self._index: dict[str, int] = {}
        self._lowest: dict[str, int] = {}
        self._open: list[str] = []
        self._is_open: set[str] = set()
        for name in outbound:
            if name not in self._index:
                self._walk(name)

    def _walk(self, root: str) -> None:
        lowest = self._lowest
        way = [self._enter(root)]
        while way:
            name, targets = way[-1]
            target = next(targets, None)
            if target is None:
                way.pop()
                self._leave(name)
                if way:
                    lowest[way[-1][0]] = min(lowest[way[-1][0]], lowest[name])
            elif target not in self._index:
                way.append(self._enter(target))
            elif target in self._is_open:
                lowest[name] = min(lowest[name], self._index[target])

    def _enter(self, name: str) -> tuple[str, Iterator[str]]:
        self._index[name] = self._lowest[name] = len(self._index)
        self._open.append(name)
        self._is_open.add(name)
        return name, iter(self._outbound[name])

    def _leave(self, name: str) -> None:
        """Complete a component at the first of its tasks."""
        if self._lowest[name] != self._index[name]:
            return
        component: list[str] = []
        while not component or component[-1] != name:
            component.append(self._open.pop())
        self._is_open.difference_update(component)
        self.closed += component
        if len(component) > 1 or name in self._outbound[name]:
            self.cyclic.update(component)
