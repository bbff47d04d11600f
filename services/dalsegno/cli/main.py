"""The program `dalsegno`: its commands, and the one place where what went wrong becomes words and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dalsegno.cli import actions, controls, demo, environments, examples, executions, run, serve, workflows
from dalsegno.cli.exits import INTERRUPTED, Complaint
from dalsegno.cli.output import print_complaint

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="""Dal Segno: durable workflows, run by gRPC services.

    dalsegno demo                  see one run, from nothing

    dalsegno serve                 run a server on this machine

    dalsegno run FILE              run a workflow and watch it
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
    # Without a docstring: the program's own help stands above.
    pass


demo.register(app)
run.register(app)
serve.register(app)
executions.register(app)
controls.register(app)
app.add_typer(workflows.app, name="workflow")
app.add_typer(actions.app, name="action")
app.add_typer(environments.app, name="environment")
app.add_typer(examples.app, name="examples")


def main() -> None:
    """Run the command that was typed. What a person did wrong is said in words, never with a traceback."""
    try:
        app()
    except Complaint as complaint:
        sys.exit(print_complaint(complaint))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `dalsegno list | head`
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
