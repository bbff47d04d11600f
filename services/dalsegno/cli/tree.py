"""The live tree: an execution, its tasks with their progress, and the executions of their sub-workflows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from rich.text import Text
from rich.tree import Tree

from dalsegno.cli.output import STYLES, reason, short
from dalsegno.cli.picture import Picture, Task
from dalsegno.cli.times import seconds

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
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_WIDTH = 16
_INFO_WIDTH = 70
CHILD_ROWS = 8


def draw(pictures: Mapping[str, Picture], root_id: str, rows: int = 1_000, now_s: float | None = None) -> Tree:
    """The tree of the execution `root_id`, with at most about `rows` tasks in each execution.

    `pictures` has every execution that is watched, by id; `now_s` is the server's time, for what still runs.
    """
    picture = pictures[root_id]
    now_s = picture.at_s if now_s is None else now_s
    tree = Tree(_header(picture, now_s), guide_style="dim")
    shown, hidden = _choose(list(picture.tasks.values()), rows)
    width = max((len(task.name) for task in shown), default=0)
    for task in shown:
        branch = tree.add(_line(task, width, now_s))
        for child_id in task.children:
            if child_id in pictures:
                branch.add(draw(pictures, child_id, CHILD_ROWS, now_s))
    if hidden:
        counts = Counter(task.state for task in hidden)
        told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        tree.add(Text(f"… and {len(hidden)} more: {told}", style="dim"))
    return tree


def _choose(tasks: list[Task], rows: int) -> tuple[list[Task], list[Task]]:
    """What there is room for: first what is not done yet or went wrong, then the latest."""
    if len(tasks) <= rows:
        return tasks, []
    quiet = {"SUCCESS", "WAITING", "IDLE"}
    urgent = sorted(tasks, key=lambda task: (task.state in quiet, -task.number))
    chosen = {task.number for task in urgent[: max(1, rows)]}
    return [each for each in tasks if each.number in chosen], [each for each in tasks if each.number not in chosen]


def _header(picture: Picture, now_s: float) -> Text:
    style = STYLES.get(picture.state, "")
    took_s = (picture.ended_s or now_s) - picture.started_s if picture.started_s else 0.0
    header = Text.assemble(
        (f"{_symbol(picture.state)} ", style), (picture.workflow, "bold"), "  ", (picture.state, style)
    )
    header.append(f"  {seconds(took_s)}", style="dim").append(f"  {picture.execution_id}", style="dim")
    if picture.info:
        header.append(f"\n  {reason(picture.info, 200)}", style=style)
    if picture.waiting_for:
        header.append(f"\n  waits for: {short(', '.join(picture.awaited), 200)}", style="dim")
    return header


def _line(task: Task, width: int, now_s: float) -> Text:
    style = STYLES.get(task.state, "")
    # Cut at the width of the terminal: a tree whose lines wrap cannot be read.
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{_symbol(task.state)} ", style).append(f"{task.name:{width}}  ").append(f"{task.state:7}", style)
    if task.items >= 0:
        line.append("  ").append_text(_bar(task))
    if task.runs:
        line.append(f"  {task.runs}", style="dim")
    if task.attempt > 1:
        line.append(f"  attempt {task.attempt}", style="blue")
    if task.started_s and (task.ended_s or task.state in {"RUNNING", "RUNNING_DELAYED"}):
        line.append(f"  {seconds((task.ended_s or now_s) - task.started_s)}", style="dim")
    if task.superseded:
        line.append("  superseded", style="dim")
    if task.info and task.state != "SUCCESS":
        line.append(f"  {reason(task.info, _INFO_WIDTH)}", style=style)
    return line


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
