"""`dalsegno config`: contexts, which are names for servers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dalsegno.cli.completion import complete_context
from dalsegno.cli.connection import DEFAULT_SERVER, check_address, typed_tls, typed_token_file
from dalsegno.cli.contexts import Config, Context, check_name, chosen_name, config_file, read_config, write_config
from dalsegno.cli.output import print_fields, print_note, print_rows
from dalsegno.cli.printing import Format
from dalsegno.cli.screen import console
from dalsegno.rpc.links import CALLER_OPTIONS

app = typer.Typer(
    no_args_is_help=True,
    help="Contexts: names for servers, stored in a file. Commands use the server of the chosen one.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the context.", autocompletion=complete_context)]


@app.command("set", epilog="example:  dalsegno config set harbour --server 10.1.2.3:7700 --namespace shop")
def set_context(
    name: Name,
    server: Annotated[str, typer.Option("--server", "-s", metavar="HOST:PORT", help="Its server.")] = "",
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="The namespace to work in; '' for the default one.")
    ] = None,
) -> None:
    """Create a context, or change the given settings of one. The first context is in use at once."""
    config = read_config()
    old = config.contexts.get(check_name(name), Context())
    if server:
        check_address(server)
    config.contexts[name] = replace(
        old,
        server=server or old.server,
        namespace=old.namespace if namespace is None else namespace,
        **_typed_tls(),
        **({"token_file": str(Path(token_file).absolute())} if (token_file := typed_token_file()) else {}),
    )
    if len(config.contexts) == 1:
        config.current = name
    write_config(config)
    _say_in_use(config, name)


@app.command(epilog="example:  dalsegno config use harbour")
def use(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="The context; none: the defaults.", autocompletion=complete_context)
    ] = "",
) -> None:
    """Choose the context of all commands without --context."""
    config = read_config()
    if name:
        config.find(name)
    config.current = name
    write_config(config)
    _say_in_use(config, name)


@app.command("list", epilog="example:  dalsegno config list")
def list_contexts() -> None:
    """List the contexts; a star marks the one in use."""
    config = read_config()
    in_use = chosen_name((), config)
    rows = [
        (name, "*" if name == in_use else "", each.server, each.namespace) for name, each in config.contexts.items()
    ]
    print_rows(Format.TABLE, [], ("CONTEXT", "IN USE", "SERVER", "NAMESPACE"), rows)


@app.command(epilog="example:  dalsegno config show")
def show() -> None:
    """Show the settings that commands use now, each with its source (environment variable, context, default)."""
    config = read_config()
    name = chosen_name((), config)
    context = config.find(name).settings if name else {}
    told: dict[str, object] = {"file": str(config_file()), "context": name or "none"}
    tls = [(f"tls_{name.replace('-', '_')}", "") for name in CALLER_OPTIONS]
    for setting, default in (("server", DEFAULT_SERVER), ("namespace", ""), *tls, ("token_file", "")):
        variable = f"DALSEGNO_{setting.upper()}"
        if value := os.environ.get(variable):
            told[setting] = f"{value}  (from {variable})"
        elif setting in context:
            told[setting] = f"{context[setting]}  (from the context)"
        elif setting in ("server", "namespace"):
            told[setting] = f"{default or 'the default one'}  (the default)"
    print_fields(told)


@app.command(epilog="example:  dalsegno config delete harbour")
def delete(name: Name) -> None:
    """Delete a context."""
    config = read_config()
    config.find(name)
    del config.contexts[name]
    if config.current == name:
        config.current = ""
    write_config(config)
    console().print_line(f"deleted {name}")
    if not config.current:
        print_note("no context is in use now: commands take the defaults")


def _typed_tls() -> dict[str, str]:
    """Return the settings of TLS that are typed; those of environment variables count without a context."""
    return {
        f"tls_{name.replace('-', '_')}": value if name == "server-name" else str(Path(value).absolute())
        for name, value in typed_tls().items()
    }


def _say_in_use(config: Config, name: str) -> None:
    in_use = chosen_name((), config)
    if not in_use:
        print_note("no context is in use: commands take the defaults")
    elif in_use == name:
        print_note(f"{name} is in use: {config.find(name).server or DEFAULT_SERVER}")
    else:
        print_note(f"{in_use} is in use; choose with: dalsegno config use {name}")
