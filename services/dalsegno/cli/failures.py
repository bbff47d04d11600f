"""Print errors as lines with the next step; with `-o json` as data."""

from __future__ import annotations

import sys
from dataclasses import replace

import grpc
from rich.text import Text

from dalsegno.cli.clean import one_line, visible, word
from dalsegno.cli.exits import UNREACHABLE, USAGE, CommandError
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.screen import console
from dalsegno.cli.values import document, plain
from dalsegno.rpc.failure import Failure, read_failure


def print_command_error(error: CommandError) -> int:
    """Print an error and the next step; return the exit code."""
    _print_error(str(error), error.advice, {"code": "USAGE"}, error.exit_code)
    return error.exit_code


def print_failure(error: grpc.aio.AioRpcError, server: str) -> int:
    """Print the error of a server, a line for each entry, and the next step; return the exit code."""
    failure = read_failure(error)
    details = _details(failure)
    entries = [str(violation) for violation in failure.violations]
    if len(entries) > 1 and failure.message == "; ".join(entries):  # do not repeat the message
        failure = replace(failure, message=f"{len(entries)} things are wrong:")
    if failure.problems:
        failure = replace(failure, message=f"the definition has {_count(len(failure.problems) + failure.left_out)}:")
    exit_code = UNREACHABLE if failure.code in _SERVERS_FAULT else USAGE
    if exit_code == UNREACHABLE and COMMAND.exit_hint:
        details["then"] = COMMAND.exit_hint
    told = str(failure)
    if COMMAND.reason:
        details["lacks"] = COMMAND.reason
        told += f"\n  its health says: {COMMAND.reason}"
    _print_error(told, _advise(failure).format(server=server), details, exit_code)
    if exit_code == UNREACHABLE:
        print_leaving()
    return exit_code


def print_leaving() -> None:
    """Print what continues after the command stops, and how to follow it again."""
    if COMMAND.exit_hint and PRINTING.form is Format.TABLE:
        console(error=True).print_line(Text.assemble(("then:  ", "bold"), one_line(COMMAND.exit_hint)), indent=7)


def print_usage(message: str) -> None:
    """Print an error in the command line as data; without `-o json` the parser prints its own message."""
    _print_error(message, "", {"code": "USAGE"}, USAGE)


def _details(failure: Failure) -> dict[str, object]:
    """Return the details of a failed call, for programs."""
    told: dict[str, object] = {"code": failure.code.name, "reason": failure.reason, "request_id": failure.request_id}
    told["violations"] = [
        {"subject": each.subject, "description": each.description, **({"kind": each.kind} if each.kind else {})}
        for each in failure.violations
    ]
    told["problems"] = [plain(each) for each in failure.problems]
    told |= {"left_out": failure.left_out, "retry_after_s": failure.retry_s, "message": failure.message}
    return {name: value for name, value in told.items() if value}


DISCARDED = "HISTORY_DISCARDED"
_SERVERS_FAULT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
}
_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: "start a server with `dalsegno serve`, or name another than {server} with --server",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server at {server} did not answer in time; ask again",
    grpc.StatusCode.UNAUTHENTICATED: "name the file of your token with --token-file, or in DALSEGNO_TOKEN_FILE",
    grpc.StatusCode.ABORTED: "it has changed meanwhile; read it again, then decide",
    grpc.StatusCode.UNIMPLEMENTED: "is {server} an engine, where commands need an api, or an older version?",
    grpc.StatusCode.FAILED_PRECONDITION: "check its state with `dalsegno show` and `dalsegno tasks`",
}
_LISTS = {
    "workflow": "dalsegno workflow list",
    "execution": "dalsegno list",
    "environment": "dalsegno environment list",
    "action": "dalsegno action list",
    "token": "dalsegno token list",
}


def _count(problems: int) -> str:
    return "a problem" if problems == 1 else f"{problems} problems"


def _advise(failure: Failure) -> str:
    """Return the next step after a failed call; empty when the message is enough."""
    match failure.code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED if COMMAND.reason:
            return "correct that at the server, then repeat the command"
        case grpc.StatusCode.UNAVAILABLE if failure.request_id:
            return "the server at {server} answers, but cannot do this now; repeat the command later"
        case grpc.StatusCode.INTERNAL if failure.request_id:
            return f"the server's log has the cause under request id {failure.request_id}"
        case grpc.StatusCode.NOT_FOUND if failure.message.startswith("action execution"):
            return "`dalsegno action attempts EXECUTION` lists them"
        case grpc.StatusCode.NOT_FOUND:
            kinds = [kind for kind in _LISTS if kind in failure.message]
            return f"list what exists with `{_LISTS[kinds[0]]}`" if kinds else ""
        case grpc.StatusCode.INVALID_ARGUMENT if "input of the action" in failure.message:
            return "`dalsegno action list` shows what actions take"
        case grpc.StatusCode.INVALID_ARGUMENT if any(each.subject.startswith("input") for each in failure.violations):
            return "give inputs with -i key=value; `dalsegno workflow show NAME` lists them"
        case grpc.StatusCode.INVALID_ARGUMENT if failure.problems:
            return "correct the file, then repeat; `dalsegno workflow validate FILE` lists all problems"
        case grpc.StatusCode.FAILED_PRECONDITION if failed := _failed_tasks(failure):
            again = " ".join(f"--task {word(name)}" for name in failed[:_NAMED])
            return f"run them again with {again}, or continue after one with --skip {word(failed[0])} --result JSON"
        case grpc.StatusCode.FAILED_PRECONDITION if failure.reason in _OF_CHECKPOINTS:
            return "`dalsegno checkpoints EXECUTION` lists those that it has reached and those ahead of it"
        case grpc.StatusCode.FAILED_PRECONDITION if any(
            _is_resume_of_ended(each.description) for each in failure.violations
        ):
            return "`dalsegno tasks` shows what it did; `dalsegno rerun` repeats it, or --tasks of it"
        case grpc.StatusCode.OUT_OF_RANGE if failure.reason == DISCARDED:
            return "without --after, `dalsegno history` lists what is left"
        case code:
            return _ADVICE.get(code, "")


_OF_CHECKPOINTS = {"NO_SUCH_CHECKPOINT", "UNREACHABLE", "UNDONE", DISCARDED}
_NAMED = 5
"""The number of tasks that an advice names at most."""


def _is_resume_of_ended(told: str) -> bool:
    """Return whether this message refuses to resume an execution that has ended."""
    return "can be resumed" in told and told.endswith(("it is SUCCESS", "it is ERROR", "it is CANCELLED"))


def _failed_tasks(failure: Failure) -> list[str]:
    """Return the failed tasks that prevent the operation."""
    return [each.subject.removeprefix("task ") for each in failure.violations if each.kind == "TASK_FAILED"]


def _print_error(message: str, advice: str, details: dict[str, object], exit_code: int) -> None:
    if PRINTING.form is not Format.TABLE:
        told = {"message": message, **details, "exit_code": exit_code, **({"next": advice} if advice else {})}
        sys.stderr.write(document(PRINTING.form, {"error": told}))
        return
    out = console(error=True)
    first, *rest = visible(message).splitlines() or [""]
    out.print_line(Text.assemble(("error: ", "bold red"), first))
    for line in rest:
        deep = max(2, len(line) - len(line.lstrip()))
        out.print_line(Text(" " * deep + line.strip()), indent=deep + 2)
    if advice:  # not folded: users copy commands from it
        out.print(Text.assemble(("next:  ", "bold"), one_line(advice)), soft_wrap=True)
