"""Settings of a service: an option of its command line, else its environment variable, else the default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from dalsegno.access.bearer import FILE_VARIABLE, BadToken, TokenFile, open_token_file
from dalsegno.outgoing.reach import EVERYTHING, OPTION, VARIABLE, Reach, read_reach
from dalsegno.rpc.links import BadCredentials, Links, links_of, variable_of
from dalsegno.secrets.keys import UnfitKeys, read_command, read_file

if TYPE_CHECKING:
    from dalsegno.rpc.jwt_directory import IssuerFile

DATABASE_URL = "DALSEGNO_DATABASE_URL"
"""The environment variable with the URL of the store."""


AUTH_VARIABLE = "DALSEGNO_AUTH"


class Auth(StrEnum):
    """Whom a server serves."""

    OPEN = "open"
    """Everybody who reaches it."""
    TOKENS = "tokens"
    """Those who show a token, and our own services by certificates."""


AUTH = "tokens: serve only those who show a token with the role that their call needs; open: everybody who reaches it"
ISSUERS_VARIABLE = "DALSEGNO_ISSUERS"
ISSUERS = "the file of issuers whose tokens (JWT) count beside our own, and of what certificates of clients give"
SERVICE_NAMES = "names, one of which the certificate of another service of ours has, which may then act for others"

SECRET_KEYS = "the file with the keys of secrets, one a line, the newest first (openssl rand -base64 32)"
SECRET_KEYS_COMMAND = "a command that prints the keys of secrets, in place of the file"

INSECURE = "listen where other machines reach it, without TLS, or without certificates or tokens of clients"


class Options(argparse.ArgumentParser):
    """A command line whose options have environment variables, `DALSEGNO_ENGINE_LEASE_S` for the engine's --lease-s."""

    def __init__(self, service: str, description: str, default: object, environment: Mapping[str, str]) -> None:
        """`default` has an attribute of the option's name, with underscores, for each option."""
        super().__init__(f"python -m dalsegno.{service}", description=description)
        self._service = service
        self._prefix = f"DALSEGNO_{service.upper()}_"
        self._default = default
        self._environment = environment

    def add(self, name: str, kind: type, told: str, variable: str = "") -> None:
        """Add an option; its variable has the same name unless another is given.

        A variable that is not of this kind ends the program like an invalid option.
        """
        attribute = name.replace("-", "_")
        variable = variable or self._prefix + attribute.upper()
        written = self._environment.get(variable)
        try:
            value = kind(written) if written else getattr(self._default, attribute)
        except ValueError:
            self.error(f"{variable}={written!r} is not of type {kind.__name__}")
        self.add_argument(f"--{name}", type=kind, default=value, help=told)

    def add_list(self, name: str, told: str) -> None:
        """Add an option with words that commas or spaces separate; so has its variable."""
        attribute = name.replace("-", "_")
        value = words_of(self._environment.get(self._prefix + attribute.upper(), "")) or getattr(
            self._default, attribute
        )
        self.add_argument(f"--{name}", type=words_of, default=value, help=f"{told}; separated by commas")

    def add_addresses(self, name: str, attribute: str, told: str, variable: str) -> None:
        """Add an option, once or several times, with addresses `host:port` that commas or spaces separate; so has its
        variable."""
        value = words_of(self._environment.get(variable, "")) or getattr(self._default, attribute)
        self.add_argument(f"--{name}", dest=attribute, action=_Addresses, default=value, help=told)

    def add_networks(self, told: str) -> None:
        """Add the option for private networks that may be reached; its variable is the same for all services."""
        try:
            value = read_reach(self._environment.get(VARIABLE, ""))
        except ValueError as error:
            self.error(f"{VARIABLE}: {error}")
        told = f"{told} beside public addresses: networks or addresses, separated by commas, or {EVERYTHING}"
        self.add_argument(OPTION, type=_reach_of, default=value, metavar="NETWORKS", help=told)

    def add_auth(self, told: str) -> None:
        """Add the option that says whom it serves; its variable is the same for all services."""
        value = self._environment.get(AUTH_VARIABLE, "") or Auth.OPEN.value
        if value not in set(Auth):
            self.error(f"{AUTH_VARIABLE}={value!r} is none of {', '.join(Auth)}")
        self.add_argument("--auth", type=str, choices=[each.value for each in Auth], default=value, help=told)

    def add_token_file(self, told: str) -> None:
        """Add the option with the file of the program's own token. A variable of this service counts before the one of
        all programs, also if it is empty."""
        value = self._environment.get(f"{self._prefix}TOKEN_FILE", self._environment.get(FILE_VARIABLE, ""))
        self.add_argument("--token-file", default=value, metavar="FILE", help=told)

    def take_token(self, found: dict[str, Any]) -> TokenFile | None:
        """Return the token in the file of `--token-file`, taken out of what was found. Ends the program if it cannot be
        used."""
        try:
            return open_token_file(found.pop("token_file"))
        except BadToken as error:
            self.error(str(error))

    def add_issuers(self) -> None:
        """Add the option with the file of issuers. A variable of this service counts before the one of all programs,
        also if it is empty."""
        value = self._environment.get(f"{self._prefix}ISSUERS", self._environment.get(ISSUERS_VARIABLE, ""))
        self.add_argument("--issuers", default=value, metavar="FILE", help=ISSUERS)

    def take_issuers(self, found: dict[str, Any]) -> IssuerFile | None:
        """Return the issuers in the file of `--issuers`, taken out of what was found. Ends the program if they cannot
        be used."""
        path = found.pop("issuers")
        if not path:
            return None
        if found["auth"] != Auth.TOKENS:
            self.error("--issuers needs --auth tokens: without it the server asks for no token")
        from dalsegno.access.issuers import BadIssuers
        from dalsegno.rpc.jwt_directory import IssuerFile  # it loads cryptography: only where it is used

        try:
            file = IssuerFile(path)
        except BadIssuers as error:
            self.error(str(error))
        serves = found["tls"].serves
        if file.trusted.certificates and (serves is None or not serves.asks_clients):
            self.error(
                f"--issuers {path}: its certificates need --tls-client-ca: without it no client is asked for one"
            )
        return file

    def add_secret_keys(self) -> None:
        """Add the options with the keys of secrets."""
        for name, metavar, told in (
            ("secret-keys", "FILE", SECRET_KEYS),
            ("secret-keys-command", "COMMAND", SECRET_KEYS_COMMAND),
        ):
            variable = self._prefix + name.upper().replace("-", "_")
            default = self._environment.get(variable, "")
            self.add_argument(f"--{name}", default=default, metavar=metavar, help=f"{told} [{variable}]")

    def take_secret_keys(self, found: dict[str, Any]) -> tuple[bytes, ...]:
        """Return the keys of secrets, taken out of what was found. Ends the program if they cannot be read."""
        path, command = found.pop("secret_keys"), found.pop("secret_keys_command")
        if path and command:
            self.error("--secret-keys and --secret-keys-command cannot be given together")
        try:
            if path:
                return read_file(Path(path))
            return read_command(command) if command else ()
        except UnfitKeys as error:
            self.error(str(error))

    def check_service_names(self, found: Mapping[str, Any]) -> None:
        """End the program if there are names of services, but no certificates of clients that could have them."""
        serves = found["tls"].serves
        if found["service_names"] and (serves is None or not serves.asks_clients):
            self.error("--service-names needs --tls-client-ca: without it no certificate of a client is asked for")

    def add_flag(self, name: str, told: str, variable: str) -> None:
        """Add a flag; its variable sets it with 1, true or yes."""
        value = self._environment.get(variable, "").lower() in ("1", "true", "yes")
        self.add_argument(f"--{name}", action="store_true", default=value, help=told)

    def add_tls(self, told: Mapping[str, str]) -> None:
        """Add the options of TLS, which are given without `--tls-`, each with its help. A variable of this service
        counts before the one of all programs, also if it is empty."""
        for name, help_text in told.items():
            common = self._environment.get(variable_of(name), "")
            value = self._environment.get(variable_of(name, self._service), common)
            self.add_argument(f"--tls-{name}", default=value, metavar=_METAVARS.get(name, "FILE"), help=help_text)

    def take_tls(self, found: dict[str, Any], *, listens: bool) -> Links:
        """Take the options of TLS out of those that were found. Ends the program if they cannot be used."""
        given = {
            name.removeprefix("tls_").replace("_", "-"): found.pop(name) for name in list(found) if name[:4] == "tls_"
        }
        try:
            return links_of(given, listens=listens)
        except BadCredentials as error:
            self.error(str(error))


_METAVARS = {"client-names": "NAMES", "server-name": "NAME"}


class _Addresses(argparse.Action):
    """Collects the addresses of an option, which may be given more than once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add the addresses of one use of the option."""
        given = words_of(str(values))
        if not given or not all(":" in each for each in given):
            parser.error(f"{option_string} {values}: not of the form host:port, or several of them with commas")
        before = getattr(namespace, self.dest)
        known = () if before is self.default else before
        setattr(namespace, self.dest, tuple(dict.fromkeys((*known, *given))))


def _reach_of(text: str) -> Reach:
    try:
        return read_reach(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def words_of(text: str) -> tuple[str, ...]:
    """Return the words that commas or spaces separate, each once.

    >>> words_of("a.example.com, b.example.com")
    ('a.example.com', 'b.example.com')
    """
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def warning_of(url: str) -> str:
    """Return what is wrong with a URL that was given as an option, empty if nothing is: the list of processes shows
    options, also a password."""
    if url == os.environ.get(DATABASE_URL) or not url.startswith(("postgresql:", "postgres:")):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:  # it is refused when it is opened
        return ""
    if parts.password is None and not {"password", "sslpassword"} & parse_qs(parts.query).keys():
        return ""
    return (
        f"--database has a password, which the list of processes shows to every user: use a passfile (~/.pgpass), a"
        f" service, or the variable {DATABASE_URL}"
    )
