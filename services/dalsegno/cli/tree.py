"""The live tree: an execution, its tasks with their progress, and the executions of their sub-workflows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text
from rich.tree import Tree

from dalsegno.cli.clean import one_line
from dalsegno.cli.execution_view import Child, ExecutionView, Task, place_words
from dalsegno.cli.output import STYLES, reason, short
from dalsegno.cli.table import fold
from dalsegno.cli.times import due, seconds

_SYMBOLS = {
    "SUCCESS": "✔",
    "ERROR": "✘",
    "RUNNING": "●",
    "RUNNING_DELAYED": "◷",
    "WAITING": "○",
    "IDLE": "○",
    "PAUSED": "‖",
    "PAUSING": "‖",
    "CANCELLED": "⊘",
    "CANCELLING": "⊘",
    "SKIPPED": "↷",
    "REVERTING": "↶",
    "REVERTED": "↶",
    "REVERT_ERROR": "✘",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_WIDTH = 16
_INFO_WIDTH = 200
_LABEL_LINES = 3
"""The number of lines below a task for what it waits for, or why it failed."""
_NAME_WIDTH = 32
_GUIDE = 4
"""The width by which a branch is indented."""
_URGENCY = {
    "": 5,
    "ERROR": 0,
    "REVERT_ERROR": 0,
    "PAUSED": 1,
    "PAUSING": 1,
    "CANCELLED": 2,
    "REVERTED": 5,
    "SKIPPED": 4,
    "SUCCESS": 5,
}
"""The order: first what needs a user, then what runs (3), then what has not begun, then what is done."""
_RUNS = 3
CHILDREN_LISTED = 8
"""Up to this number all sub-workflows of a task are shown; of more only those that run or did not succeed."""
_NOT_BEGUN = {"WAITING", "IDLE"}


def draw(
    views: Mapping[str, ExecutionView], root_id: str, rows: int = 1_000, now_s: float | None = None, width: int = 120
) -> Tree:
    """Return the tree of the execution `root_id` with at most `rows` lines, at least three for the execution itself.

    `views` has every watched execution by id; `now_s` is the server's time, for what still runs.
    """
    view = views[root_id]
    now_s = view.at_s if now_s is None else now_s
    head = _header(view, now_s)
    tree = Tree(head, guide_style="dim")
    room = max(0, rows - len(head.plain.splitlines()))
    shown, hidden = _choose(list(view.tasks.values()), room)
    names = min(_NAME_WIDTH, max((len(one_line(task.name)) for task in shown), default=0))
    left = room - len(shown) - bool(hidden)
    parents = sum(bool(task.children) for task in shown)
    for task in shown:
        label = _label(view, task, names, now_s, width - _GUIDE, left)
        left -= label.plain.count("\n")
        branch = tree.add(label)
        if task.children and left > 0:
            used = _add_children(branch, views, task, left // parents, now_s, width - _GUIDE)
            left, parents = left - used, parents - 1
    if hidden and room:
        tree.add(_rest(Counter(task.state for task in hidden)))
    return tree


def _choose(tasks: list[Task], room: int) -> tuple[list[Task], list[Task]]:
    """Choose the tasks that fit, with one line for the others: first failed, then running, then the latest ones."""
    if len(tasks) <= room:
        return tasks, []
    urgent = sorted(tasks, key=lambda task: (_urgency(task.state, is_superseded=task.superseded), -task.number))
    chosen = {task.number for task in urgent[: max(0, room - 1)]}
    return [each for each in tasks if each.number in chosen], [each for each in tasks if each.number not in chosen]


def _urgency(state: str, *, is_superseded: bool = False) -> int:
    return 6 if is_superseded else _URGENCY.get(state, 4 if state in _NOT_BEGUN else _RUNS)


def _add_children(
    branch: Tree, views: Mapping[str, ExecutionView], task: Task, room: int, now_s: float, width: int
) -> int:
    """Add as many executions of a sub-workflow as fit; return the number of used lines."""
    if room < 1:
        return 0
    children = [child for place, child in task.children.items() if place[1] in (task.attempt, 0)]
    children = children or list(task.children.values())
    total = max(task.items, len(children))
    urgent = sorted(children, key=lambda child: _urgency(_state_of(views, child)))
    if total > CHILDREN_LISTED:  # the others are only counted
        urgent = [child for child in urgent if _urgency(_state_of(views, child)) <= _RUNS]
    shown = urgent if total == len(urgent) <= room else _mix(views, urgent, room - 1)
    left = room - len(shown) - (len(shown) < total)
    for count, child in enumerate(shown):
        view = views.get(child.execution_id)
        if view is None or not view.workflow:
            branch.add(_child_line(child))
            continue
        lines = 1 + left // (len(shown) - count)
        drawn = draw(views, child.execution_id, lines, now_s, width - _GUIDE)
        branch.add(drawn)
        left -= min(left, _lines_in(drawn) - 1)
    if len(shown) < total:
        branch.add(_rest(_states(views, task, children, shown)))
    return room - max(0, left)


def _mix(views: Mapping[str, ExecutionView], urgent: Sequence[Child], room: int) -> list[Child]:
    """Return as many children as fit: failed ones first, but also some that run."""
    failed = [child for child in urgent if _urgency(_state_of(views, child)) < _RUNS]
    others = urgent[len(failed) :]
    kept = failed[: max(room - len(others), -(-room // 2))]
    return [*kept, *others[: room - len(kept)]]


def _states(
    views: Mapping[str, ExecutionView], task: Task, children: Sequence[Child], shown: Sequence[Child]
) -> Counter[str]:
    """Return the number of children that are not shown, by state. The task has the counts of ended ones."""
    states = Counter(_state_of(views, child) for child in children)
    if task.items >= 0:
        states["SUCCESS"], states["ERROR"] = task.succeeded, task.failed
        states.pop("", None)
        states["not begun"] = max(0, task.items - states.total())
    states.subtract(_state_of(views, child) for child in shown)
    return +states


def _state_of(views: Mapping[str, ExecutionView], child: Child) -> str:
    view = views.get(child.execution_id)
    return view.state if view is not None and view.state else child.state


def _lines_in(tree: Tree) -> int:
    label = tree.label.plain if isinstance(tree.label, Text) else ""
    return len(label.splitlines()) + sum(map(_lines_in, tree.children))


def _rest(states: Counter[str]) -> Text:
    """Return the line about those that are not shown, by state."""
    told = ", ".join(f"{count} {state}" for state, count in states.most_common() if state)
    return Text(f"… and {states.total()} more: {told}", style="dim", no_wrap=True, overflow="ellipsis")


def _header(view: ExecutionView, now_s: float) -> Text:
    style = STYLES.get(view.state, "")
    took_s = (view.ended_s or now_s) - view.started_s if view.started_s else 0.0
    header = Text(no_wrap=True, overflow="ellipsis")
    header.append(f"{_symbol(view.state)} ", style).append(short(view.workflow, _NAME_WIDTH), "bold")
    header.append("  ").append(view.state, style)
    header.append(f"  {seconds(took_s)}", style="dim").append(f"  {view.execution_id}", style="dim")
    if view.info:
        header.append(f"\n  {reason(view.info, _INFO_WIDTH)}", style=style)
    place = place_words(view.paused_at, view.not_reached, view.info)
    back = f"goes back to checkpoint {short(view.reverting_to)}" if view.reverting_to else ""
    later = f"continues {due(view.next_at)}" if view.next_at is not None else ""
    origin = f"forked from {view.forked_from}" if view.forked_from else ""
    for told in filter(None, [place, later, back, _stops(view), origin]):
        header.append(f"\n  {told}", style="magenta")
    if view.waiting_for:
        header.append(f"\n  waits for: {short(', '.join(view.awaited), _INFO_WIDTH)}", style="dim")
    return header


def _stops(view: ExecutionView) -> str:
    """Return where it will stop, while it is on its way there."""
    is_under_way = view.stops_at and not view.paused_at and not view.ended
    return f"stops at checkpoint {short(' or '.join(view.stops_at), _INFO_WIDTH)}" if is_under_way else ""


def _label(view: ExecutionView, task: Task, names: int, now_s: float, width: int, spare: int) -> Text:
    """Return a task with what it waits for or why it failed: on its line if that fits, else on spare lines."""
    waits = str(task.waiting(view.execution_id, now_s))
    why = reason(task.info, _INFO_WIDTH) if task.info and task.state != "SUCCESS" else ""
    told = "; ".join(filter(None, [waits, why]))
    label = _line(task, names, now_s, with_runs=not waits)
    style = STYLES.get(task.state, "") if why else "bold" if "answer" in waits else "dim"
    if told and label.cell_len + cell_len(told) + 2 > width and spare > 0:
        for part in fold(Text(told, style=style), width, 2, min(spare, _LABEL_LINES)):
            label.append("\n").append_text(part)
    elif told:
        label.append(f"  {told}", style=style)
    return label


def _line(task: Task, width: int, now_s: float, *, with_runs: bool) -> Text:
    style = STYLES.get(task.state, "")
    # Cut at the width of the terminal, with an ellipsis: a tree with wrapped lines is unreadable.
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{_symbol(task.state)} ", style).append(f"{short(task.name, _NAME_WIDTH):{width}}  ")
    line.append(f"{task.state:7}", style)
    if task.items >= 0:
        line.append("  ").append_text(_bar(task))
    if task.started_s and (task.ended_s or task.state in {"RUNNING", "RUNNING_DELAYED"}):
        line.append(f"  {seconds((task.ended_s or now_s) - task.started_s)}", style="dim")
    if task.attempt > 1:
        line.append(f"  attempt {task.attempt}", style="blue")
    if task.superseded and task.state != "REVERTED":
        line.append("  superseded", style="dim")
    if task.checkpoint:
        line.append(f"  ⚑ {short(task.checkpoint, _NAME_WIDTH)}", style="magenta")
    if task.runs and with_runs:
        line.append(f"  {short(task.runs, _NAME_WIDTH)}", style="dim")
    return line


def _child_line(child: Child) -> Text:
    style = STYLES.get(child.state, "")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{_symbol(child.state)} ", style).append(f"{child.state:7}", style)
    line.append(f"  {child.execution_id}", style="dim")
    return line.append(f"  {reason(child.error, _INFO_WIDTH)}", style=style) if child.error else line


def _bar(task: Task) -> Text:
    done = task.succeeded + task.failed
    full = _BAR_WIDTH if not task.items else round(_BAR_WIDTH * task.succeeded / task.items)
    bad = 0 if not task.items else min(_BAR_WIDTH - full, -(-_BAR_WIDTH * task.failed // task.items))
    bar = Text.assemble(("█" * full, "green"), ("█" * bad, "red"), ("░" * (_BAR_WIDTH - full - bad), "dim"))
    bar.append(f" {done}/{task.items}")
    return bar.append(f", {task.failed} failed", style="red") if task.failed else bar


def _symbol(state: str) -> str:
    if state == "RUNNING":
        return _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
    return _SYMBOLS.get(state, "·")
