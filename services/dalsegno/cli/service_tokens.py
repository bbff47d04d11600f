"""The tokens of `dalsegno serve --auth tokens`: one for its admin, and one for each of its services that calls others.

They are made once, directly in the store, and stay in the data folder, for its owner only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dalsegno.access.bearer import FILE_VARIABLE
from dalsegno.access.grants import Role
from dalsegno.cli.exits import UNREACHABLE, CommandError
from dalsegno.rpc.options import AUTH_VARIABLE, DATABASE_URL, ISSUERS_VARIABLE, Auth

_FILE_MODE = 0o600
_OF_SERVICES = {"api": Role.SERVICE, "executor": Role.EXECUTOR}
"""The roles of the services that call engines."""


@dataclass(frozen=True, slots=True)
class ServiceTokens:
    """The folder of the tokens; None: nobody is asked for one."""

    folder: Path | None = None
    issuers: str = ""
    """The file of the issuers whose tokens count, too; empty: none."""

    @property
    def admin(self) -> Path | None:
        """Return the file of the admin's token."""
        return self._file(Role.ADMIN) if self.folder is not None else None

    def environment(self, service: str) -> dict[str, str]:
        """Return the variables of one service, in place of those of this process."""
        if self.folder is None:
            return {}
        role = _OF_SERVICES.get(service)
        own = {FILE_VARIABLE: str(self._file(role))} if role is not None else {}
        others = {ISSUERS_VARIABLE: str(Path(self.issuers).absolute())} if self.issuers else {}
        return {AUTH_VARIABLE: Auth.TOKENS.value, **others, **own}

    def make(self, database: str) -> None:
        """Make the tokens that are missing. Raises CommandError."""
        if self.folder is None:
            return
        missing = [role for role in (Role.ADMIN, *_OF_SERVICES.values()) if not self._file(role).exists()]
        if missing:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            _run_tool(database, "upgrade")
        for role in missing:
            token = _run_tool(database, "token", f"serve-{role}", "--grant", role)
            with os.fdopen(os.open(self._file(role), os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "w") as file:
                file.write(token)

    def _file(self, role: Role) -> Path:
        assert self.folder is not None
        return self.folder / f"{role}.token"


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what it says of tokens: that is for the commands of its user."""
    left_out = (AUTH_VARIABLE, FILE_VARIABLE, ISSUERS_VARIABLE)
    return {name: value for name, value in environment.items() if name not in left_out}


def plan_tokens(data: Path, issuers: str, *, asks_tokens: bool) -> ServiceTokens:
    """Return the tokens of a server with this data folder. Raises CommandError if the file of issuers cannot be
    used."""
    if not issuers:
        return ServiceTokens(data / "tokens" if asks_tokens else None)
    if not asks_tokens:
        raise CommandError("--issuers needs --auth tokens", "without it the server asks for no token")
    from dalsegno.access.issuers import BadIssuers
    from dalsegno.rpc.jwt_directory import IssuerFile  # it loads cryptography: only where it is used

    try:
        IssuerFile(issuers)
    except BadIssuers as error:
        raise CommandError(str(error)) from None
    return ServiceTokens(data / "tokens", issuers)


def _run_tool(database: str, *words: str) -> str:
    """Run a tool of the store, and return what it prints. Raises CommandError."""
    command = (sys.executable, "-P", "-m", "dalsegno.store", *words)
    ended = subprocess.run(command, env={**os.environ, DATABASE_URL: database}, capture_output=True, text=True)
    if ended.returncode:
        raise CommandError(f"no tokens can be made: {ended.stderr.strip()}", exit_code=UNREACHABLE)
    return ended.stdout
