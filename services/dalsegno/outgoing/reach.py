"""Which addresses the connections that workflows ask for may lead to: public ones, and what the operator adds.

An author who can have a service send requests would otherwise reach what that machine reaches and the author does not:
the services of its own network, those of the machine itself, and the credentials that clouds serve at 169.254.169.254.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

OPTION = "--private-networks"
VARIABLE = "DALSEGNO_PRIVATE_NETWORKS"
EVERYTHING = "all"

_NOT_PUBLIC = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",  # this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind the NAT of a provider
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of a virtual machine in Azure, though the address is a public one
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_UNICAST = IPv6Network("2000::/3")
"""All public addresses of IPv6 are in this network: neither loopback, link-local and unique local ones nor groups."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Its addresses lead to the IPv4 address in their last 32 bits."""


class TargetRefused(OSError):
    """A connection is refused: its target has no address that may be reached. The text says what allows it."""

    def __init__(self, host: str) -> None:
        # It does not tell the address, which the author of a workflow may not know.
        super().__init__(
            errno.EACCES,
            f"{host} has no public address; the operator allows others with {OPTION} or {VARIABLE}",
        )

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Reach:
    """The addresses that may be reached beside public ones; by default none."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everything: bool = False

    def admits(self, written: str) -> bool:
        """Return whether this address may be reached. What is no address in its usual form may not, unless all may.

        >>> NOWHERE.admits("93.184.216.34"), NOWHERE.admits("10.0.0.1"), read_reach("10.0.0.0/8").admits("10.0.0.1")
        (True, False, True)
        """
        if self.everything:
            return True
        try:
            address = _carried(ip_address(written.partition("%")[0]))
        except ValueError:
            return False
        return _is_public(address) or any(address in network for network in self.networks)


NOWHERE = Reach()
"""Public addresses only."""

EVERYWHERE = Reach(everything=True)


def read_reach(text: str) -> Reach:
    """Return what networks and addresses, separated by commas or spaces, allow: `all` allows everything.

    Raises ValueError that names the first word that is neither.
    """
    words = text.replace(",", " ").split()
    networks = []
    for word in words:
        if word == EVERYTHING:
            continue
        try:
            network = ip_network(word)
        except ValueError:
            raise ValueError(
                f"{word!r} is neither an address nor a network such as 10.20.0.0/16, nor {EVERYTHING}"
            ) from None
        networks.append(network)
    return Reach(tuple(networks), everything=EVERYTHING in words)


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return isinstance(address, IPv4Address) or address in _UNICAST
