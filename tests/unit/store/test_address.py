"""URLs of PostgreSQL are libpq's, and their passwords are shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dalsegno.store.address import Host, read_address
from dalsegno.store.opening import address_of, open_store
from dalsegno.store.store import StoreUnreachable

TWO = "postgresql://me:secret@one:1,two:2/store"


def test_several_hosts_are_read() -> None:
    """Each host has its own port, or all have the same one."""
    assert read_address(TWO).hosts == (Host("one", "", "1"), Host("two", "", "2"))
    assert read_address("postgresql:///x?host=a,b&port=7").hosts == (Host("a", "", "7"), Host("b", "", "7"))
    assert read_address("postgresql://[::1]:7,b/x").hosts == (Host("::1", "", "7"), Host("b", "", ""))


@pytest.mark.parametrize(
    ("given", "writes", "asked"),
    [
        ("", True, "read-write"),
        ("any", True, "read-write"),
        ("prefer-standby", True, "read-write"),
        ("primary", True, "primary"),
        ("", False, "primary"),
        ("read-write", False, "primary"),
        ("prefer-standby", False, "prefer-standby"),
    ],
)
def test_the_same_url_serves_those_who_write_and_those_who_read(given: str, *, writes: bool, asked: str) -> None:
    """Whoever writes needs a server that takes writes; a reader takes what the URL says, and no reader needs one."""
    url = f"{TWO}?target_session_attrs={given}" if given else TWO
    assert read_address(url).asked(writes=writes)["target_session_attrs"] == asked


def test_one_server_is_read_whatever_it_is() -> None:
    """The store's tools may look at a standby."""
    assert "target_session_attrs" not in read_address("postgresql://one/store").asked(writes=False)


def test_the_pooler_is_ours() -> None:
    """libpq does not see the parameter; its other value is refused with what to do."""
    address = read_address(f"{TWO}?pooler=transaction&sslmode=require")
    assert address.is_pooled
    assert "pooler" not in address.asked(writes=True)
    assert address.parameters["sslmode"] == "require"
    assert not read_address(TWO).is_pooled
    with pytest.raises(ValueError, match="leave it out for a pooler that keeps sessions"):
        read_address(f"{TWO}?pooler=session")


@pytest.mark.parametrize(
    "url",
    [TWO, "postgresql://one/store?user=me&password=secret", f"{TWO}?sslpassword=secret&pooler=transaction"],
)
def test_a_url_is_shown_without_passwords(url: str) -> None:
    """Neither its text nor what a debugger shows has them; hosts and names stay."""
    shown = address_of(url)
    assert "secret" not in shown + repr(read_address(url))
    assert "me@one" in shown
    assert ("pooler=transaction" in shown) == ("pooler" in url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec/ret@one/store",
        "postgresql://me:x@sec@one/store",
        "postgresql://me:sec%zzret@one/store",
        "postgresql://me:sec@[one/store",
        "postgresql://me:secret@one:port/store",
    ],
)
def test_a_password_that_is_not_escaped_is_not_shown(url: str) -> None:
    """The error says what to do, and nothing of what was taken for a host or a port."""
    with pytest.raises(ValueError, match="as %40") as caught:
        open_store(url)
    assert "sec" not in str(caught.value)


def test_an_unknown_parameter_is_named() -> None:
    """A mistyped one is said."""
    with pytest.raises(ValueError, match="knows no parameter 'sslmod'"):
        open_store("postgresql://one/store?sslmod=require")


def test_a_service_names_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq reads the file of services; that nobody answers there is said by the name of the service."""
    (tmp_path / "services").write_text("[shop]\nhost=127.0.0.1,127.0.0.1\nport=1,2\nuser=me\npassword=secret\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    store = open_store("postgresql://?service=shop")
    with pytest.raises(StoreUnreachable, match=r"service=shop.*refused") as caught:
        store.upgrade()
    assert "secret" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql://me:secret@one:1,two:2/store?sslmode=require&pooler=transaction",
            "postgresql://me@one:1,two:2/store?pooler=transaction&sslmode=require",
        ),
        ("postgresql:///store?hostaddr=192.0.2.1&port=7", "postgresql://192.0.2.1:7/store"),
        ("postgresql://?service=shop", "postgresql:///?service=shop"),
        ("postgresql:///store", "postgresql:///store"),
    ],
)
def test_a_url_is_shown_as_it_is_meant(url: str, shown: str) -> None:
    """User, hosts and name in their places, and every parameter that is no secret, in order."""
    assert address_of(url) == shown


def test_hosts_that_were_chosen_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, address and port, each in its place; where several are chosen a reader wants a primary; what the
    environment says counts where the URL says nothing."""
    address = read_address("postgresql://one:1/store")
    hosts = (Host("", "192.0.2.1", ""), Host("b", "", "7"))
    asked = address.asked(writes=False, hosts=hosts)
    assert [asked[name] for name in ("host", "hostaddr", "port")] == [",b", "192.0.2.1,", ",7"]
    assert asked["target_session_attrs"] == "primary"
    one = address.asked(writes=False, hosts=hosts[1:])
    assert (one["host"], one["port"], "hostaddr" in one, "target_session_attrs" in one) == ("b", "7", False, False)
    assert read_address("postgresql://one/store?service=shop").hosts == (Host("one", "", ""),)
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    assert address.asked(writes=False)["target_session_attrs"] == "standby"
    assert (address.asked(writes=True)["target_session_attrs"], address.asked(writes=True)["connect_timeout"]) == (
        "read-write",
        "5",
    )


@pytest.mark.parametrize("port", ["\N{SUPERSCRIPT TWO}", "7a"])
def test_a_port_has_digits(port: str) -> None:
    """Anything else may be a part of a password that is not escaped."""
    with pytest.raises(ValueError, match="a host or a port is none"):
        read_address(f"postgresql://one/store?port={port}")
