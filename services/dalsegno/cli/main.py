"""The program `dalsegno`: its commands, and the only place that turns errors into messages and exit codes."""

from __future__ import annotations

import asyncio
import io
import sys
from functools import cache
from typing import Annotated

import typer
from typer._click.core import Command
from typer._click.exceptions import ClickException  # an error in the command line; typer exports it nowhere else

from dalsegno.cli import (
    actions,
    certs,
    checkpoints,
    config,
    controls,
    deleting,
    demo,
    environments,
    examples,
    executions,
    inquiries,
    outputs,
    rerun,
    run,
    serve,
    tokens,
    workflows,
)
from dalsegno.cli.arguments import add_shared_options, check_words, find_form, move_options
from dalsegno.cli.contexts import take_context
from dalsegno.cli.exits import INTERRUPTED, USAGE, CommandError
from dalsegno.cli.failures import print_command_error, print_leaving, print_usage
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.retries import COMMAND

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="""Dal Segno: durable workflows, run by gRPC services.

    dalsegno demo                  run an example

    dalsegno serve                 run a server on this machine

    dalsegno run FILE              run a workflow and watch it

    Options that commands share, such as --server, can also stand before the command.
    """,
)


@app.command()
def version() -> None:
    """Print the version of this program."""
    from importlib.metadata import version as installed_version

    typer.echo(f"dalsegno {installed_version('dalsegno')}")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        version()
        raise typer.Exit


@app.callback()
def take_options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # No docstring: it would replace the help of the program.
    pass


demo.register(app)
run.register(app)
serve.register(app)
executions.register(app)
outputs.register(app)
inquiries.register(app)
controls.register(app)
rerun.register(app)
checkpoints.register(app)
deleting.register(app)
app.add_typer(workflows.app, name="workflow")
app.add_typer(actions.app, name="action")
app.add_typer(environments.app, name="environment")
app.add_typer(examples.app, name="examples")
app.add_typer(config.app, name="config")
app.add_typer(certs.app, name="certs")
app.add_typer(tokens.app, name="token")


def main() -> None:
    """Run the typed command. An error of the user is printed as a message, never as a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # also in a pipe, a line is seen when it is printed
    PRINTING.reset()
    COMMAND.reset()
    program = _make_program()
    words = move_options(program, sys.argv[1:])
    PRINTING.form = find_form(words)
    try:
        check_words(words)
        defaults = take_context(program, words)
        code = program.main(words, prog_name="dalsegno", standalone_mode=False, default_map=defaults) or 0
        if code == INTERRUPTED:  # the parser turns Ctrl-C into an exit code
            print_leaving()
        sys.exit(code)
    except CommandError as error:
        sys.exit(print_command_error(error))
    except ClickException as error:
        sys.exit(_print_misuse(error))
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        print_leaving()
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `dalsegno list | head`
        sys.stderr.close()
        sys.exit(0)


@cache
def _make_program() -> Command:
    """Return what parses the command line. It is made once: that takes longer than most commands do."""
    program = typer.main.get_command(app)
    add_shared_options(program)
    return program


def _print_misuse(error: ClickException) -> int:
    if PRINTING.form is not Format.TABLE:
        print_usage(error.format_message())
    else:
        from typer import rich_utils  # loading it takes a fifth of the time of a command, and few are wrong

        rich_utils.rich_format_error(error)
    return USAGE


if __name__ == "__main__":
    main()
