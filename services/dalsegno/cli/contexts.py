"""Contexts: names for servers, stored in a file, each with its namespace.

An option overrides its environment variable, which overrides the context, which overrides the default.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.core import TyperGroup

from dalsegno.cli.exits import CommandError
from dalsegno.cli.retries import COMMAND

FILE_VARIABLE = "DALSEGNO_CONFIG"
CONTEXT_VARIABLE = "DALSEGNO_CONTEXT"
_NAME = re.compile(r"[\w.@-]{1,100}")


@dataclass(frozen=True, slots=True)
class Context:
    """The settings of one context; "" for what is not set."""

    server: str = ""
    namespace: str = ""
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_server_name: str = ""
    token_file: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings that are not empty, by the names of the options."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(slots=True)
class Config:
    """The file: contexts by name, and which is in use."""

    contexts: dict[str, Context] = field(default_factory=dict)
    current: str = ""

    def find(self, name: str) -> Context:
        """Return the context of this name. Raises CommandError if there is none."""
        if name not in self.contexts:
            known = ", ".join(self.contexts)
            advice = f"there are {known}" if known else "make one with `dalsegno config set NAME --server HOST:PORT`"
            raise CommandError(f"there is no context {name}", advice)
        return self.contexts[name]


def config_file() -> Path:
    """Return the path of the file: DALSEGNO_CONFIG, else in the XDG folder of settings."""
    if given := os.environ.get(FILE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dalsegno" / "config.yaml"


def read_config() -> Config:
    """Return the content of the file; empty if there is none. Raises CommandError for an invalid file."""
    file = config_file()
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file} cannot be read: {error}", "repair it, or delete it") from None
    try:
        contexts = {str(name): Context(**_texts(settings)) for name, settings in (data.get("contexts") or {}).items()}
        return Config(contexts, str(data.get("current") or ""))
    except (AttributeError, TypeError) as error:
        raise CommandError(f"{file} is not a file of `dalsegno config`: {error}", "repair it, or delete it") from None


def _texts(settings: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (settings or {}).items()}


def write_config(config: Config) -> None:
    """Replace the file in one step, for its owner only. Raises CommandError."""
    file = config_file()
    data: dict[str, object] = {"contexts": {name: each.settings for name, each in config.contexts.items()}}
    if config.current:
        data = {"current": config.current, **data}
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as new:
            yaml.safe_dump(data, new, sort_keys=False, allow_unicode=True)
        os.replace(new.name, file)
    except OSError as error:
        raise CommandError(
            f"{file} cannot be written: {error.strerror}", f"choose another with {FILE_VARIABLE}"
        ) from None


def check_name(name: str) -> str:
    """Return the name of a context. Raises CommandError."""
    if not _NAME.fullmatch(name):
        raise CommandError(f"{name!r} cannot be the name of a context", "it has letters, digits and . _ @ - only")
    return name


def chosen_name(words: Sequence[str], config: Config) -> str:
    """Return the context that `--context` names, else DALSEGNO_CONTEXT, else the file; "" for none."""
    for number, word in enumerate(words):
        if word == "--":
            break
        if word == "--context" and number + 1 < len(words):
            return words[number + 1]
        if word.startswith("--context="):
            return word.partition("=")[2]
    return os.environ.get(CONTEXT_VARIABLE) or config.current


def take_context(program: object, words: Sequence[str]) -> dict[str, Any]:
    """Return the defaults that the chosen context gives all commands, in the parser's form. Raises CommandError."""
    context = Context()
    if list(words[:1]) != ["config"]:  # a command that repairs the file must work with a broken one
        config = read_config()
        name = chosen_name(words, config)
        context = config.find(name) if name else context
    COMMAND.namespace = os.environ.get("DALSEGNO_NAMESPACE") or context.namespace
    return _defaults(program, context.settings)


def _defaults(command: object, settings: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(command, TyperGroup):
        return {name: _defaults(below, settings) for name, below in command.commands.items()}
    return dict(settings)


ContextOption = typer.Option(
    "--context",
    metavar="NAME",
    envvar=CONTEXT_VARIABLE,
    expose_value=False,
    show_default=False,
    help="The context with server and namespace (dalsegno config).",
)
"""For the help only: `chosen_name` reads the option before the arguments are parsed."""
