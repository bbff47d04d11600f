"""Translate the options about single tasks of a resume or rerun to the choices of the API.

With one task in the command its options need no name: `--task fetch --item 3 --item-input '{"url": "..."}'`. With
several each option names its task: `--task fetch --task store --input fetch='{"url": "..."}' --item store=3`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import decode_json, encode_json, read_object
from dalsegno.v1 import operation_pb2


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options about tasks as the user typed them; each list may be empty."""

    run: Sequence[str] = ()
    skip: Sequence[str] = ()
    leave: Sequence[str] = ()
    inputs: Sequence[str] = ()
    items: Sequence[str] = ()
    item_inputs: Sequence[str] = ()
    results: Sequence[str] = ()
    reset: Sequence[str] = ()
    no_reset: Sequence[str] = ()
    child_failed: Sequence[str] = ()
    known: list[str] = field(default_factory=list)
    """The names of all tasks in the options, in order."""

    def __post_init__(self) -> None:
        self.known.extend(dict.fromkeys([*self.run, *self.skip, *self.leave]))


def resume_tasks(options: TaskOptions) -> list[operation_pb2.ResumeTask]:
    """Return the choices of a resume. Raises CommandError for an option of no task, and for a task with two choices."""
    ways = (("--task", options.run), ("--skip", options.skip), ("--leave", options.leave))
    for name in options.known:
        given = [way for way, names in ways if name in names]
        if len(given) > 1:
            raise CommandError(f"{' and '.join(given)} {name}: give one of them")
    tasks = {name: operation_pb2.ResumeTask(task=name) for name in options.known}
    for name in options.skip:
        tasks[name].skip = True
    for name in options.leave:
        tasks[name].leave = True
    for text in options.results:
        name, value = _owned(options.skip or options.known, text, "--result")
        tasks[name].output = _json(value, "--result")
    for name in options.skip:
        if not tasks[name].output:
            told = f"--skip {name}: needs the result to use instead"
            raise CommandError(
                told, f"add --result JSON, or --result {name}=JSON where several are skipped; null for none"
            )
    _add_runs(tasks, options)
    return list(tasks.values())


def rerun_tasks(options: TaskOptions) -> list[operation_pb2.RerunTask]:
    """Return the choices of a rerun. Raises CommandError for an option that belongs to no task."""
    tasks = {name: operation_pb2.RerunTask(task=name) for name in options.known}
    _add_runs(tasks, options)
    return list(tasks.values())


def _add_runs(
    tasks: dict[str, operation_pb2.ResumeTask] | dict[str, operation_pb2.RerunTask], options: TaskOptions
) -> None:
    """Add the options about how tasks run again."""
    owners = options.run or options.known
    for text in options.inputs:
        name, value = _owned(owners, text, "--input")
        tasks[name].input = encode_json(read_object(value))
    for text in options.items:
        name, value = _owned(owners, text, "--item")
        tasks[name].items.append(_index(value, "--item"))
    for text in options.item_inputs:
        name, value = _owned(owners, text, "--item-input")
        index, value = _item_of(value, tasks[name].items)
        tasks[name].item_inputs[index] = encode_json(read_object(value))
    for wanted, names, option in ((True, options.reset, "--reset"), (False, options.no_reset, "--no-reset")):
        for name in names:
            tasks[_known(tasks, name, option)].reset = wanted
    for name in options.child_failed:
        tasks[_known(tasks, name, "--child-failed")].child = operation_pb2.CHILD_RERUN_FAILED


def _owned(owners: Sequence[str], text: str, option: str) -> tuple[str, str]:
    """Return the task of an option and its value; the text is `value` or `task=value`."""
    name, equals, value = text.partition("=")
    if equals and name in owners:
        return name, value
    if len(set(owners)) == 1:
        return owners[0], text
    if not owners:
        raise CommandError(f"{option} {text}: belongs to no task", "name the task with --task")
    raise CommandError(f"{option} {text}: of which task?", f"write for instance: {option} {owners[0]}=…")


def _known(
    tasks: dict[str, operation_pb2.ResumeTask] | dict[str, operation_pb2.RerunTask], name: str, option: str
) -> str:
    if name not in tasks:
        raise CommandError(f"{option} {name}: the command does not run this task again", f"name it with --task {name}")
    return name


def _item_of(text: str, items: Sequence[int]) -> tuple[int, str]:
    """Return the index of an item and its input; the text is `input` if there is one item, else `index=input`."""
    index, equals, value = text.partition("=")
    if equals and index.strip().isdigit():
        return int(index), value
    if len(items) == 1:
        return items[0], text
    raise CommandError(f"--item-input {text}: of which item?", "write for instance: --item 3 --item-input 3='{…}'")


def _index(text: str, option: str) -> int:
    if not text.isdigit():
        raise CommandError(f"{option} {text}: not an index", "items are counted from 0")
    return int(text)


def _json(text: str, option: str) -> str:
    try:
        return encode_json(decode_json(text))
    except ValueError as problem:
        raise CommandError(f"{option} is not JSON: {problem}", f"a JSON text has quotes: {option} '\"done\"'") from None
