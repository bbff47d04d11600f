"""std.ssh and std.ssh_proxied with servers of the test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from dalsegno.actions import ssh
from dalsegno.actions.action import ActionFailed


@dataclass
class Machine:
    """A host that accepts a user by password or key, and has a few commands."""

    key: asyncssh.SSHKey
    """Whose bearer may come in."""
    port: int = 0
    logins: list[str] = field(default_factory=list)
    tunnels: list[tuple[str, int]] = field(default_factory=list)
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))


class Door(asyncssh.SSHServer):
    """Decides who may log in."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def begin_auth(self, username: str) -> bool:
        self._machine.logins.append(username)
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "open sesame"

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key.public_data == self._machine.key.public_data

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self._machine.tunnels.append((dest_host, dest_port))
        return True


async def run_command(process: asyncssh.SSHServerProcess[str]) -> None:
    """Run one of the commands of the host."""
    match process.command:
        case "hostname":
            process.stdout.write("conductor\n")
        case "noise":
            process.stdout.write("x" * (4 * 1024 * 1024 + 1))
        case "weep":
            process.stdout.write("some output\n")
            process.stderr.write("some reason\n")
            process.exit(3)
    process.exit(0)


@pytest.fixture
def key() -> asyncssh.SSHKey:
    """Provide the key of the user."""
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a home folder with an empty ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


async def _serve(key: asyncssh.SSHKey) -> AsyncIterator[Machine]:
    machine = Machine(key)
    server = await asyncssh.create_server(
        lambda: Door(machine), "127.0.0.1", 0, server_host_keys=[machine.host_key], process_factory=run_command
    )
    machine.port = server.get_port()
    yield machine
    server.close()
    await server.wait_closed()


@pytest.fixture
async def machine(key: asyncssh.SSHKey) -> AsyncIterator[Machine]:
    """Provide a host."""
    async for each in _serve(key):
        yield each


@pytest.fixture
async def gateway(key: asyncssh.SSHKey) -> AsyncIterator[Machine]:
    """Provide another host."""
    async for each in _serve(key):
        yield each


async def test_a_command_gives_what_it_writes(machine: Machine) -> None:
    """With a password the result is the text on standard output."""
    assert await ssh.run("hostname", "127.0.0.1", "anna", password="open sesame", port=machine.port) == "conductor\n"
    assert machine.logins == ["anna"]


async def test_several_hosts_give_a_list(machine: Machine) -> None:
    """Several hosts give results in their order; a list of one host gives one value, as in Mistral."""
    hosts = ["127.0.0.1", "localhost"]
    assert await ssh.run("hostname", hosts, "anna", "open sesame", port=machine.port) == ["conductor\n"] * 2
    assert await ssh.run("hostname", hosts[:1], "anna", "open sesame", port=machine.port) == "conductor\n"


@pytest.mark.long("starts servers")
async def test_a_key_opens(machine: Machine, key: asyncssh.SSHKey, home: Path) -> None:
    """A key is given as text, as a file of ~/.ssh or as a path, with and without a passphrase."""
    key.write_private_key(str(home / ".ssh" / "id_score"), passphrase="for the key")
    text = key.export_private_key().decode()

    for options in (
        {"private_key": text},
        {"private_key_filename": "id_score", "password": "for the key"},
        {"private_key_filename": str(home / ".ssh" / "id_score"), "password": "for the key"},
    ):
        assert await ssh.run("hostname", "127.0.0.1", "anna", port=machine.port, **options) == "conductor\n"


async def test_a_key_lies_where_keys_lie(machine: Machine) -> None:
    """A name that leads out of ~/.ssh is refused."""
    with pytest.raises(ActionFailed, match=r"must not contain '\.\.'"):
        await ssh.run("hostname", "127.0.0.1", "anna", private_key_filename="../score", port=machine.port)


async def test_a_command_that_fails_says_so(machine: Machine) -> None:
    """The failure has the exit status, and the output as data."""
    with pytest.raises(
        ActionFailed, match=r"Failed to execute ssh cmd 'weep' on 127\.0\.0\.1: exit status 3"
    ) as caught:
        await ssh.run("weep", "127.0.0.1", "anna", "open sesame", port=machine.port)
    assert caught.value.result == {
        "host": "127.0.0.1",
        "status": 3,
        "stdout": "some output\n",
        "stderr": "some reason\n",
    }


async def test_a_wrong_password_is_a_failure(machine: Machine) -> None:
    """The failure does not repeat the password."""
    with pytest.raises(ActionFailed, match=r"Failed to connect to 127\.0\.0\.1") as caught:
        await ssh.run("hostname", "127.0.0.1", "anna", "let me in", port=machine.port)
    assert "let me in" not in str(caught.value)


async def test_a_host_that_is_not_there_is_a_failure() -> None:
    """The failure is one short sentence."""
    with pytest.raises(ActionFailed, match=r"Connect call failed|refused"):
        await ssh.run("hostname", "127.0.0.1", "anna", "open sesame", port=1)


async def test_too_much_output_is_a_failure(machine: Machine) -> None:
    """Output beyond the size of a value is a failure and is not read."""
    with pytest.raises(ActionFailed, match="result too large"):
        await ssh.run("noise", "127.0.0.1", "anna", "open sesame", port=machine.port)


async def test_a_known_host_must_show_its_key(machine: Machine, home: Path) -> None:
    """A known host must have its key; another machine at its address gets no password."""
    known = home / ".ssh" / "known_hosts"
    place = f"[127.0.0.1]:{machine.port}"
    known.write_text(f"{place} {machine.host_key.export_public_key().decode()}")
    assert await ssh.run("hostname", "127.0.0.1", "anna", "open sesame", port=machine.port) == "conductor\n"

    stranger = asyncssh.generate_private_key("ssh-ed25519")
    known.write_text(f"{place} {stranger.export_public_key().decode()}")
    machine.logins.clear()
    with pytest.raises(ActionFailed, match=r"[Hh]ost key"):
        await ssh.run("hostname", "127.0.0.1", "anna", "open sesame", port=machine.port)
    assert machine.logins == []


async def test_a_gateway_leads_to_a_host(machine: Machine, gateway: Machine, home: Path, key: asyncssh.SSHKey) -> None:
    """The connection to the host goes through the gateway, with a user name for each."""
    key.write_private_key(str(home / ".ssh" / "id_score"))
    result = await ssh.run_proxied(
        "hostname",
        "127.0.0.1",
        "anna",
        "id_score",
        "127.0.0.1",
        gateway_username="gate",
        port=machine.port,
        gateway_port=gateway.port,
    )

    assert result == "conductor\n"
    assert (gateway.logins, machine.logins) == (["gate"], ["anna"])
    assert gateway.tunnels == [("127.0.0.1", machine.port)]


async def test_without_the_extra_the_failure_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the failure says what to install."""
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(ActionFailed, match=r"install dalsegno\[ssh\]"):
        await ssh.run("hostname", "127.0.0.1", "anna")
