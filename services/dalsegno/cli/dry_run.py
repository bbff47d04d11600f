"""Print the effect of an operation (a dry run) as a tree."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from dalsegno.cli.clean import one_line
from dalsegno.cli.execution_view import entry_words
from dalsegno.cli.output import STYLES, print_message, reason, short
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.screen import console
from dalsegno.cli.values import enum_name
from dalsegno.v1 import execution_pb2

_LISTS = (
    ("starts", "would start", "cyan"),
    ("reverts", "would be reverted", "yellow"),
    ("cancelled_delegates", "delegated actions that would be cancelled", "yellow"),
    ("superseded", "would be superseded", "yellow"),
    ("joins_waiting", "joins that would wait", "dim"),
    ("subsumed", "left out", "dim"),
    ("kept", "kept", "green"),
)
_REASON_WIDTH = 200
_SHOWN = 30
"""The number of entries of a list that are drawn; the others are counted."""


def print_dry_run(form: Format, dry_run: execution_pb2.DryRun, name: str) -> None:
    """Print the tree for people, or the message for programs."""
    if form is Format.TABLE and not PRINTING.key:
        console().print(draw_dry_run(dry_run, name))
    else:
        print_message(form, dry_run)


def draw_dry_run(dry_run: execution_pb2.DryRun, name: str) -> Tree:
    """Return the tree of one execution, with its children below."""
    state = enum_name(execution_pb2.ExecutionState.Name(dry_run.state), "ExecutionState")
    style = STYLES.get(state, "")
    tree = Tree(Text.assemble((one_line(name), "bold"), "  would be ", (state, style)), guide_style="dim")
    if dry_run.state_info:
        tree.add(Text(reason(dry_run.state_info, _REASON_WIDTH), style=style))
    if dry_run.HasField("back_to"):
        tree.add(Text(f"would go back to checkpoint {one_line(dry_run.back_to.name)}", style="yellow"))
    if dry_run.HasField("discards"):
        tree.add(Text(f"would discard {_discard_line(dry_run.discards)}", style="yellow"))
    for field, title, style in _LISTS:
        lines = [(_revert_line if field == "reverts" else _task_line)(each) for each in getattr(dry_run, field)]
        _add(tree, title, style, lines, dry_run.further.get(field, 0))
    edits = [_edit_line(each) for each in dry_run.undone_edits]
    _add(tree, "edits that would be undone", "yellow", edits, dry_run.further.get("undone_edits", 0))
    paused = [left_paused_line(each) for each in dry_run.left_paused]
    _add(tree, "would stay PAUSED", "yellow", paused, dry_run.further.get("left_paused", 0))
    _add(tree, "may follow", "dim", list(dry_run.may_follow), dry_run.further.get("may_follow", 0))
    if dry_run.children:
        branch = tree.add(Text("sub-workflows"))
        for child in dry_run.children[:_SHOWN]:
            told = f"{child.task_name}: {child.execution_id}"
            if child.HasField("effect"):
                branch.add(draw_dry_run(child.effect, told))
            else:
                branch.add(Text(one_line(told)))
        _add_hidden(branch, len(dry_run.children) + dry_run.further.get("children", 0))
    return tree


def _add(tree: Tree, title: str, style: str, lines: Sequence[str], further: int) -> None:
    if not lines:
        return
    branch = tree.add(Text(title, style=style))
    for line in lines[:_SHOWN]:
        branch.add(Text(one_line(line)))
    _add_hidden(branch, len(lines) + further)


def _add_hidden(branch: Tree, count: int) -> None:
    if count > _SHOWN:
        branch.add(Text(f"… and {count - _SHOWN} more", style="dim"))


def left_paused_line(left: execution_pb2.LeftPaused) -> str:
    """Return the line of a sub-workflow that a resume leaves PAUSED, with the reason."""
    hidden = max(0, len(left.tasks) - _SHOWN) + left.further_tasks
    more = f" and {hidden} more" if hidden else ""
    return f"{left.workflow} {left.execution_id} (failed: {', '.join(left.tasks[:_SHOWN])}{more})"


def _task_line(task: execution_pb2.DryRunTask) -> str:
    number = f" ({task.number})" if task.number else ""
    more = f" and {task.further_items} more" if task.further_items else ""
    items = f" items {_spans(task.items)}{more}" if task.items else ""
    reason = f": {task.reason}" if task.reason else ""
    return f"{task.name}{number}{items}{reason}"


def _revert_line(task: execution_pb2.DryRunTask) -> str:
    """Return the line of one end that would be reverted, with the action that undoes it."""
    called = f"by {task.action} {task.input}".rstrip() if task.action else "it has no revert, so nothing is called"
    return f"{_task_line(task)}: {short(called, _REASON_WIDTH)}"


def _edit_line(edit: execution_pb2.DryRunEdit) -> str:
    more = f" and {edit.further_names} more" if edit.further_names else ""
    return f"{edit.task or 'execution'} ({edit.sequence}): {', '.join(edit.names)}{more}"


def _discard_line(gone: execution_pb2.DryRunDiscard) -> str:
    """Return how much would be discarded, and before which entry."""
    counts = {
        "changes": gone.changes,
        "entries": gone.entries,
        "tasks": gone.tasks,
        "actions": gone.actions,
        "sub-workflows": gone.children,
    }
    told = ", ".join(f"{what}: {count:,}" for what, count in counts.items() if count)
    return f"what is before {entry_words(gone.before)}: {told or 'nothing'}"


def _spans(indexes: Sequence[int]) -> str:
    """Return indexes as ranges.

    >>> _spans([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    spans: list[list[int]] = []
    for index in sorted(indexes):
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
