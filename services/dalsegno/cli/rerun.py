"""`dalsegno rerun`: run tasks again; or all of it, or what follows a checkpoint, as a new execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from dalsegno.cli.choices import TaskOptions, rerun_tasks
from dalsegno.cli.completion import complete_execution, complete_reached
from dalsegno.cli.connection import DEFAULT_SERVER
from dalsegno.cli.controls import (
    ChildFailed,
    DryRun,
    ItemInputs,
    Items,
    NoReset,
    Rate,
    Reset,
    Shared,
    TaskInputs,
    Variables,
    Wait,
    Which,
    object_text,
    operate,
)
from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import encode_json, read_input, read_labels, read_object
from dalsegno.cli.options import Comment, Expected, Labels, Output, RequestId, Server, StopAt
from dalsegno.cli.printing import Format
from dalsegno.cli.references import REFERENCE
from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.v1 import operation_pb2

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EXECUTION [TASK…]",
        help=f"The execution: {REFERENCE}; after --tasks further tasks.",
        autocompletion=complete_execution,
    ),
]
BeginTasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks", "--task", "-t", metavar="TASK", help="Begin at these tasks; with --edit: edit what it published."
    ),
]
Failed = Annotated[bool, typer.Option("--failed", help="Begin at all tasks that failed.")]
FromCheckpoint = Annotated[
    str,
    typer.Option(
        "--from-checkpoint",
        metavar="NAME",
        help="As a new execution, begin where this checkpoint was reached last.",
        autocompletion=complete_reached,
    ),
]
FromEntry = Annotated[
    int, typer.Option("--from-entry", min=0, help="The same, at this entry, as `checkpoints` numbers them.")
]
Latest = Annotated[bool, typer.Option("--latest", help="As a new execution: use the newest version.")]
Stay = Annotated[bool, typer.Option("--stay", help="From a checkpoint: PAUSED there, until it is resumed.")]
NewInputs = Annotated[
    list[str] | None,
    typer.Option("--set", "-i", metavar="KEY=VALUE", help="As a new execution: another input. Repeatable."),
]
Edits = Annotated[
    list[str] | None,
    typer.Option("--edit", metavar="KEY=VALUE", help="From a checkpoint: edit this value, as `context` does."),
]
Unset = Annotated[
    list[str] | None, typer.Option("--unset", metavar="KEY", help="From a checkpoint: remove this value. Repeatable.")
]


def rerun(
    words: Words = None,
    tasks: BeginTasks = None,
    failed: Failed = False,
    from_checkpoint: FromCheckpoint = "",
    from_entry: FromEntry = 0,
    latest: Latest = False,
    stay: Stay = False,
    pairs: NewInputs = None,
    edit: Edits = None,
    unset: Unset = None,
    labels: Labels = None,
    input: TaskInputs = None,
    item: Items = None,
    item_input: ItemInputs = None,
    reset: Reset = None,
    no_reset: NoReset = None,
    child_failed: ChildFailed = None,
    stop_at: StopAt = None,
    env: Variables = "",
    filter: Which = "",
    rate: Rate = 0,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    wait: Wait = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Run tasks again, or what failed; else all, or from a checkpoint on, as a new execution (-i: with other input)."""
    execution, names = _split_words(words or (), tasks or (), is_filtered=bool(filter))
    shared = Shared(execution, filter, rate, expected_revision, dry_run, wait, server, comment, request_id, output)
    request = messages.RerunExecutionRequest(
        environment_overlay=object_text(env), latest_definition=latest, stop_at=stop_at or ()
    )
    request.start_from = _beginning(names, from_checkpoint, from_entry, failed=failed)
    if request.start_from in _NEW:
        _add_new(request, input or (), pairs or (), labels or ())
        input = None
    elif pairs or labels:
        raise CommandError("-i and --label go with a new execution", "new input of a task: --input TASK=JSON")
    if request.start_from == operation_pb2.RERUN_FROM_CHECKPOINT:
        _add_entry(request, from_checkpoint, from_entry, is_filtered=bool(filter))
        _add_edit(request, edit or (), unset or (), names)
        request.stay, names = stay, []
    elif stay or edit or unset:
        raise CommandError("--stay, --edit and --unset go with --from-checkpoint or --from-entry")
    typed = TaskOptions(
        run=names,
        inputs=input or (),
        items=item or (),
        item_inputs=item_input or (),
        reset=reset or (),
        no_reset=no_reset or (),
        child_failed=child_failed or (),
    )
    request.tasks.extend(rerun_tasks(typed))
    operate("Rerun", request, shared)


_NEW = (operation_pb2.RERUN_FROM_BEGINNING, operation_pb2.RERUN_FROM_CHECKPOINT)


def _beginning(names: Sequence[str], checkpoint: str, entry: int, *, failed: bool) -> operation_pb2.RerunFrom.ValueType:
    """Return from where it is to run again. Raises CommandError for more than one place."""
    if checkpoint and entry:
        raise CommandError("give either --from-checkpoint or --from-entry")
    if failed and (checkpoint or entry):
        raise CommandError("--failed begins at all tasks that failed, --from-checkpoint and --from-entry at one point")
    if failed and names:
        raise CommandError("--failed begins at all tasks that failed, --tasks at those that it names: give one of them")
    if checkpoint or entry:
        return operation_pb2.RERUN_FROM_CHECKPOINT
    if failed:
        return operation_pb2.RERUN_FROM_FAILED
    return operation_pb2.RERUN_FROM_TASKS if names else operation_pb2.RERUN_FROM_BEGINNING


def _add_new(
    request: messages.RerunExecutionRequest, inputs: Sequence[str], pairs: Sequence[str], labels: Sequence[str]
) -> None:
    """Add the input and the labels of the new execution."""
    whole = {key: value for text in inputs for key, value in read_object(text).items()}
    request.input = encode_json({**whole, **read_input(pairs, "")})
    request.labels.update(read_labels(labels))


def _add_entry(request: messages.RerunExecutionRequest, checkpoint: str, entry: int, *, is_filtered: bool) -> None:
    if entry and is_filtered:
        raise CommandError("--from-entry goes with one execution", "with --filter, use --from-checkpoint NAME")
    if entry:
        request.checkpoint_sequence = entry
    else:
        request.checkpoint = checkpoint


def _add_edit(
    request: messages.RerunExecutionRequest, edit: Sequence[str], unset: Sequence[str], names: Sequence[str]
) -> None:
    """Add what is edited before the new execution continues; the task is the one whose values are edited."""
    if names and not (edit or unset):
        raise CommandError(
            f"--task {names[0]}: a fork begins at its checkpoint", "with --edit, --task names whose values"
        )
    if len(names) > 1:
        raise CommandError(f"--edit and --unset edit the values of one task, not of {' and '.join(names)}")
    if edit or unset:
        values = encode_json(read_input(edit, "")) if edit else ""
        request.edit.CopyFrom(messages.ContextEdit(task="".join(names), set=values, unset=unset))


def _split_words(words: Sequence[str], tasks: Sequence[str], *, is_filtered: bool) -> tuple[str, list[str]]:
    """Return the execution and all tasks. The words are the execution, unless there is a filter, and further tasks."""
    execution, *more = [*([""] if is_filtered else []), *words] or [""]
    if more and not tasks:
        raise CommandError(f"{' '.join(more)}: more than one execution", "name tasks with --tasks, or use --filter")
    return execution, [*tasks, *more]


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    example = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
    app.command(epilog=f"example:  dalsegno rerun {example} --tasks fetch store --no-reset store --dry-run")(rerun)
