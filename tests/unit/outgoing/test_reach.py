"""Which addresses may be reached."""

from __future__ import annotations

import pytest

from dalsegno.executor.settings import read_settings
from dalsegno.outgoing.reach import EVERYWHERE, NOWHERE, read_reach

PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "168.63.129.16", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:a00:1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1"),
    *("2001::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"),
]
PUBLIC = [
    *("93.184.216.34", "8.8.8.8", "172.15.255.255", "172.32.0.1", "100.128.0.1", "169.253.0.1", "223.255.255.254"),
    *("2606:2800:220:1::1", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_reached(address: str) -> None:
    """Neither this machine, nor private and link-local networks, nor an IPv6 address that stands for one of those."""
    assert not NOWHERE.admits(address)
    assert EVERYWHERE.admits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    """A public address needs no permission."""
    assert NOWHERE.admits(address)


@pytest.mark.parametrize("address", ["127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1 ", "localhost", ""])
def test_other_spellings_are_not_reached(address: str) -> None:
    """What is no address in its usual form is not reached, whatever the system would make of it."""
    assert not NOWHERE.admits(address)
    assert not read_reach("127.0.0.0/8").admits(address)


def test_an_operator_names_networks() -> None:
    """Single networks and addresses can be allowed; all others stay closed."""
    reach = read_reach("10.20.0.0/16, 127.0.0.1 fd00:1::/32")
    assert [reach.admits(each) for each in ("10.20.3.4", "127.0.0.1", "fd00:1::5", "::ffff:10.20.3.4")] == [True] * 4
    assert not any(reach.admits(each) for each in ("10.21.0.1", "127.0.0.2", "fd00:2::5", "169.254.169.254"))
    assert read_reach("") == NOWHERE
    assert read_reach("all") == EVERYWHERE


@pytest.mark.parametrize("word", ["10.0.0.0/33", "10.0.0.1/8", "localhost", "10.*", "All"])
def test_what_is_no_network_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A service does not start with a word that is no network, in its option or its variable."""
    with pytest.raises(ValueError, match="is neither an address nor a network such as"):
        read_reach(f"127.0.0.1,{word}")
    for arguments, variables in (([f"--private-networks={word}"], {}), ([], {"DALSEGNO_PRIVATE_NETWORKS": word})):
        with pytest.raises(SystemExit):
            read_settings(arguments, variables)
        assert f"'{word}' is neither an address nor a network" in capsys.readouterr().err


def test_settings() -> None:
    """The option has precedence over the variable; without both only public addresses are reached."""
    assert read_settings([], {}).private_networks == NOWHERE
    assert read_settings([], {"DALSEGNO_PRIVATE_NETWORKS": "all"}).private_networks == EVERYWHERE
    given = read_settings(["--private-networks", "10.0.0.0/8"], {"DALSEGNO_PRIVATE_NETWORKS": "all"})
    assert given.private_networks == read_reach("10.0.0.0/8")
