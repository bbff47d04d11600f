"""The arguments of the command line: options that all commands share, before or after the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from dalsegno.access.bearer import FILE_VARIABLE
from dalsegno.cli.contexts import ContextOption
from dalsegno.cli.exits import CommandError
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.times import check_time_style
from dalsegno.cli.values import steps_of
from dalsegno.rpc.links import CALLER_OPTIONS, variable_of

_WITH_VALUE = {"--server", "-s", "--namespace", "-n", "--output", "-o", "--time", "--key", "-k", "--context"}
_WITH_VALUE |= {"--token-file"} | {f"--tls-{name}" for name in CALLER_OPTIONS}


def move_options(program: object, words: Sequence[str]) -> list[str]:
    """Move shared options from before the command to right after it; an option after the command overrides them.

    The words are those of `dalsegno --server HOST:PORT workflow list`, without the name of the program.
    """
    ahead, rest = _leading(words)
    if not ahead or not rest:
        return list(words)
    command: object = program
    count = 0
    while isinstance(command, TyperGroup) and count < len(rest):
        below = command.commands.get(rest[count])
        if below is None:
            return list(words)
        command, count = below, count + 1
    return [*rest[:count], *ahead, *rest[count:]]


def _leading(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the shared options at the beginning, with their values, and what follows them."""
    count = 0
    while count < len(words):
        name, equals, _ = words[count].partition("=")
        if words[count] in _WITH_VALUE and count + 1 < len(words):
            count += 2
        elif (equals and name in _WITH_VALUE and name.startswith("--")) or _is_joined(words[count]):
            count += 1
        else:
            break
    return list(words[:count]), list(words[count:])


def _is_joined(word: str) -> bool:
    """Return whether it is a short option with its value, such as `-ojson`."""
    return word[:2] in _WITH_VALUE and len(word) > 2 and not word.startswith("--")


def check_words(words: Sequence[str]) -> None:
    """Raise CommandError for a word with bytes that are not UTF-8: no message can carry them."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise CommandError(f"{word}: not UTF-8", "write it in UTF-8, or rename the file") from None


def find_form(words: Sequence[str]) -> Format:
    """Return the form that `-o` asks for, found without parsing: errors of parsing are printed in this form."""
    form = Format.TABLE
    for number, word in enumerate(words):
        if word == "--":
            break
        value = ""
        if word in ("-o", "--output") and number + 1 < len(words):
            value = words[number + 1]
        elif word.startswith("--output="):
            value = word.partition("=")[2]
        elif word.startswith("-o") and not word.startswith("--"):
            value = word[2:].removeprefix("=")
        form = Format(value) if value in set(Format) else form
    return form


def add_shared_options(program: object) -> None:
    """Add to every command that prints results the options for the printed field and the style of times; and to every
    command that talks to a server those that choose its context and say how to call by TLS."""
    options = {each.name: each for each in typer.main.get_command(_sharing).params}
    for command in _commands(program):
        names = {each.name for each in command.params}
        if "output" in names:
            command.params += [options["key"], options["time"]]
        if "server" in names:
            command.params += [
                options["context"],
                options["token_file"],
                *(options[f"tls_{name.replace('-', '_')}"] for name in CALLER_OPTIONS),
            ]


def _commands(program: object) -> Iterator[TyperCommand]:
    if isinstance(program, TyperGroup):
        for command in program.commands.values():
            yield from _commands(command)
    elif isinstance(program, TyperCommand):
        yield program


def _take_key(value: str) -> None:
    steps_of(value)
    PRINTING.key = value


def _take_time(value: str) -> None:
    PRINTING.time = check_time_style(value)


def _take_token_file(value: str) -> None:
    COMMAND.token_file = value


def _take_tls(parameter: typer.CallbackParam, value: str) -> None:
    COMMAND.tls[str(parameter.name).removeprefix("tls_").replace("_", "-")] = value


def _tls_option(name: str, metavar: str = "FILE") -> Any:
    return typer.Option(
        f"--tls-{name}",
        metavar=metavar,
        envvar=variable_of(name),
        callback=_take_tls,
        expose_value=False,
        show_default=False,
        help=f"{CALLER_OPTIONS[name][0].upper()}{CALLER_OPTIONS[name][1:]}.",
    )


_sharing = typer.Typer(add_completion=False)
"""Has only the options that other commands receive."""


@_sharing.command()
def _options(
    key: Annotated[
        str,
        typer.Option(
            "--key",
            "-k",
            metavar="PATH",
            callback=_take_key,
            expose_value=False,
            show_default=False,
            help="Only this field, such as output.cities[0]; of a list, that of each.",
        ),
    ] = "",
    time: Annotated[
        str,
        typer.Option(
            "--time",
            metavar="STYLE",
            envvar="DALSEGNO_TIME",
            callback=_take_time,
            expose_value=False,
            show_default=False,
            help="How times are printed: relative, local, utc, or a zone such as Europe/Lisbon.",
        ),
    ] = "",
    context: Annotated[str, ContextOption] = "",
    token_file: Annotated[
        str,
        typer.Option(
            "--token-file",
            metavar="FILE",
            envvar=FILE_VARIABLE,
            callback=_take_token_file,
            expose_value=False,
            show_default=False,
            help="The file of the token to show to a server that asks for one.",
        ),
    ] = "",
    tls_ca: Annotated[str, _tls_option("ca")] = "",
    tls_certificate: Annotated[str, _tls_option("certificate")] = "",
    tls_key: Annotated[str, _tls_option("key")] = "",
    tls_server_name: Annotated[str, _tls_option("server-name", "NAME")] = "",
) -> None:
    pass
