"""The plan of a local server: who reaches it, and who reads its data."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ports import free_address
from typer import BadParameter

from dalsegno.api import settings as api_settings
from dalsegno.cli.exits import CommandError
from dalsegno.cli.permissions import read_networks
from dalsegno.cli.serving import LOCK, plan_server, running
from dalsegno.engine import settings as engine_settings

LOCAL = "127.0.0.1:0"
OPEN = "0.0.0.0:0"


def test_data_is_for_its_owner_only(tmp_path: Path) -> None:
    """The data folder gets mode 0700; a wider one is narrowed, with one message."""
    told: list[str] = []
    plan_server(tmp_path / "new" / "data", LOCAL, LOCAL, report=told.append)
    assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700
    assert told == []
    older = tmp_path / "older"
    older.mkdir()
    older.chmod(0o755)
    for _ in range(2):
        plan_server(older, LOCAL, LOCAL, report=told.append)
    assert stat.S_IMODE(older.stat().st_mode) == 0o700
    assert told == [f"{older} is open to others (mode 0755): now it is for its owner only"]


def test_a_folder_that_is_shared_on_purpose_stays_as_it_is(tmp_path: Path) -> None:
    """One like /tmp, with the sticky bit, is not narrowed, and the message says why."""
    told: list[str] = []
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    plan_server(shared, LOCAL, LOCAL, report=told.append)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert len(told) == 1
    assert "shared with others on purpose" in told[0]


@pytest.mark.parametrize("database", ["mysql://x/y", "/tmp/x.db", "memory://"])
def test_what_is_no_database_is_refused_before_anything_starts(database: str, tmp_path: Path) -> None:
    """The message names the option and what it takes."""
    with pytest.raises(CommandError, match=r"--database .*: not the URL of a database") as caught:
        plan_server(tmp_path, LOCAL, LOCAL, database)
    assert "postgresql://" in caught.value.advice


@pytest.mark.parametrize(("listen", "engine", "option"), [(OPEN, LOCAL, "--listen"), (LOCAL, OPEN, "--engine-listen")])
def test_other_machines_reach_it_only_with_leave(listen: str, engine: str, option: str, tmp_path: Path) -> None:
    """An address beyond loopback needs --insecure, which every service then gets, and prints a warning."""
    told: list[str] = []
    with pytest.raises(CommandError, match=rf"{option} 0\.0\.0\.0:\d+: it speaks plain text") as caught:
        plan_server(tmp_path, listen, engine, report=told.append)
    assert "--insecure" in caught.value.advice
    assert told == []
    config = plan_server(tmp_path, listen, engine, insecure=True, report=told.append)
    assert len(told) == 1
    assert "is open to everybody who can reach it" in told[0]
    insecure = {service.name for service in config.services() if "--insecure" in service.command}
    assert insecure == {"engine", "api"}
    assert not any("--insecure" in service.command for service in plan_server(tmp_path, LOCAL, LOCAL).services())


def test_no_two_services_have_one_address(tmp_path: Path) -> None:
    """Both options are named."""
    address = free_address()
    for engine, gateway in ((address, ""), (LOCAL, address)):
        with pytest.raises(CommandError, match=rf"--listen and --(engine|gateway)-listen are both {address}"):
            plan_server(tmp_path, address, engine, gateway=gateway)
    port = address.rpartition(":")[2]
    for other in (f"localhost:{port}", f"0.0.0.0:{port}"):
        with pytest.raises(CommandError, match=rf"--listen and --engine-listen are both the same address, .*{other}"):
            plan_server(tmp_path, address, other, insecure=True)


def test_a_folder_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    """In a sentence, before any service is started."""
    config = plan_server(tmp_path, LOCAL, LOCAL)
    (tmp_path / LOCK).mkdir()
    with pytest.raises(CommandError, match=f"{LOCK} cannot be locked: Is a directory"):
        asyncio.run(running(config, print).__aenter__())
    assert list(tmp_path.glob("*.pid")) == []


def test_private_networks_are_for_engine_and_executor(tmp_path: Path) -> None:
    """What actions and notices may reach is passed on to those that send them; without the option they decide."""
    config = plan_server(tmp_path, LOCAL, LOCAL, gateway=LOCAL, private_networks="10.0.0.0/8")
    told = {each.name for each in config.services() if "--private-networks 10.0.0.0/8" in " ".join(each.command)}
    assert told == {"engine", "executor"}
    plain = plan_server(tmp_path, LOCAL, LOCAL).services()
    assert not any("--private-networks" in each.command for each in plain)


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.0/40"])
def test_serve_refuses_what_is_no_network(wrong: str) -> None:
    """A wrong network is an error of the command, before anything starts."""
    with pytest.raises(BadParameter, match=f"'{wrong}' is neither an address nor a network"):
        read_networks(f"127.0.0.1,{wrong}")


def test_the_database_is_in_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of processes shows options, and what a user runs in an executor sees its environment: the URL, which may
    have a password, is in the environment of engine and api only."""
    monkeypatch.setenv("DALSEGNO_DATABASE_URL", "postgresql://me:other@two/store")
    url = "postgresql://me:hunter2@one/store"
    config = plan_server(tmp_path, LOCAL, LOCAL, url, gateway=LOCAL)
    services = config.services()
    assert not any("hunter2" in word for service in services for word in service.command)
    found = {service.name: dict(service.environment or {}).get("DALSEGNO_DATABASE_URL") for service in services}
    assert found == {"engine": url, "api": url, "executor": None, "gateway": None}
    assert "hunter2" not in f"{config}{services}"


@pytest.mark.parametrize("service", ["engine", "api"])
@pytest.mark.long("starts services")
def test_a_service_alone_says_it_in_one_line(service: str, tmp_path: Path) -> None:
    """A service that is started without the option ends with the reason."""
    options = ["--listen", OPEN, "--database", f"sqlite:///{tmp_path}/store.db"]
    upgrade = [sys.executable, "-m", "dalsegno.store", "upgrade", *options[2:]]
    subprocess.run(upgrade, check=True, capture_output=True)
    command = [sys.executable, "-m", f"dalsegno.{service}", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "cannot listen on 0.0.0.0:0: it speaks plain text" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_leave_may_come_from_the_environment() -> None:
    """One environment variable gives the permission to all services."""
    for read in (engine_settings.read_settings, api_settings.read_settings):
        assert read([], {"DALSEGNO_INSECURE": "1"}).insecure
        assert read(["--insecure"], {}).insecure
        assert not read([], {"DALSEGNO_INSECURE": "0"}).insecure
        assert not read([], {}).insecure


def test_what_is_allowed_is_told_to_the_executor_alone(tmp_path: Path) -> None:
    """`serve --allow` turns on actions in the executor only; the data folder holds the process id of each service."""
    config = plan_server(tmp_path, LOCAL, LOCAL, allow=["core.local", "std.ssh"])
    engine, executor, api = config.services()
    assert executor.command[-4:] == ("--allow", "core.local", "--allow", "std.ssh")
    assert "--allow" not in (*engine.command, *api.command)
    assert [each.pid_file for each in (engine, executor, api)] == [
        tmp_path / "engine.pid",
        tmp_path / "executor.pid",
        tmp_path / "api.pid",
    ]
