"""The servers of one kind that a client knows: how each of them is, and which of them to call.

    addresses ──names are looked up──▶ peers ──asked twice a second──▶ READY · UNREADY · AWAY ──▶ choose, or in turn

A name with several addresses (a balancer's, a headless service's) gives a peer for each, and is looked up again now and
then, so that servers come and go. Whoever finds that a peer does not answer says so (`Peer.lost`): it is avoided at
once, and asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.channel import open_channel, reason_in
from dalsegno.rpc.handshake import Explainer

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

ASK_S = 0.5
"""The interval at which a peer is asked how it is."""
ASK_AGAIN_S = 0.1
"""The interval while it is not ready."""
ANSWER_S = 3.0
"""A peer without an answer for this time counts as away."""
SILENT_S = 6.0
"""The calls of a peer without an answer for this time are given up, if another peer is ready."""
LOOK_UP_S = 5.0
"""The interval at which names are looked up."""
PARTING_S = 30.0
"""The time that the calls of a peer have which is not among the addresses any more."""

_log = logging.getLogger("dalsegno.peers")

Beside = Callable[["Peer"], Coroutine[Any, Any, None]]


class Standing(IntEnum):
    """How a peer is. The greatest is the best."""

    AWAY = 0
    """It does not answer."""
    UNREADY = 1
    """It answers that it is not ready: it starts, stops, or lacks something."""
    READY = 2


class Peer:
    """One server, with a channel to it."""

    def __init__(
        self, address: str, moved: Callable[[], None], tls: ClientTls | None, name: str, token: TokenFile | None
    ) -> None:
        """With `tls` its certificate must have `name`, the host that was looked up. Calls show the `token`."""
        self.address = address
        self.channel = open_channel(address, tls=tls, name=name, token=token)
        self._explainer = Explainer(address, tls, name)
        self.standing = Standing.AWAY
        self.told = ""
        """Why it is not ready; empty if that is not known yet."""
        self.answered_s = asyncio.get_running_loop().time()
        """When it last answered, by the clock of the event loop."""
        self.calls: set[Any] = set()
        """The calls that are given up when it is silent."""
        self._moved = moved
        self._ask_now = asyncio.Event()

    def lost(self, reason: str) -> None:
        """Note that a call got no answer: it is avoided until it says that it is ready."""
        self.stand(Standing.AWAY, reason)
        self._ask_now.set()

    def refused(self) -> None:
        """Note that it does not accept calls at present, and ask it why."""
        self.stand(Standing.UNREADY, self.told)
        self._ask_now.set()

    def stand(self, standing: Standing, told: str) -> None:
        """Set how it is, and why it is not ready."""
        self.standing, self.told = standing, told
        self._moved()

    @property
    def rank(self) -> Standing:
        """Return how it is, as far as this is known now: without a connection it is not ready."""
        if self.standing is Standing.READY and self.channel.get_state() is not grpc.ChannelConnectivity.READY:
            return Standing.AWAY
        return self.standing

    async def keep_asking(self) -> None:
        """Ask it again and again how it is."""
        loop = asyncio.get_running_loop()
        while True:
            self._ask_now.clear()
            standing, told = await self._ask()
            if standing is not Standing.AWAY:
                self.answered_s = loop.time()
            if not self._ask_now.is_set() or standing is not Standing.READY:  # else it was lost meanwhile
                self.stand(standing, told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_S if standing is Standing.READY else ASK_AGAIN_S):
                    await self._ask_now.wait()
                    await asyncio.sleep(ASK_AGAIN_S)

    async def _ask(self) -> tuple[Standing, str]:
        stub = health_pb2_grpc.HealthStub(self.channel)
        try:
            call = stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)  # type: ignore[attr-defined]
            answer, metadata = await call, await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Standing.AWAY, f"it has not answered for {ANSWER_S:g} s"
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return Standing.AWAY, error.details() or "it refuses this client"
            return Standing.AWAY, self._explainer.known() or "it cannot be reached"
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return Standing.READY, ""
        return Standing.UNREADY, reason_in(metadata) or "it starts or stops"

    async def close(self, grace_s: float) -> None:
        """Close the channel; calls have this time to end."""
        self._explainer.close()
        await self.channel.close(grace_s)

    def give_up_calls(self) -> None:
        """End the calls that wait for an answer."""
        for call in list(self.calls):
            call.cancel()


class Peers:
    """All servers of one kind. Use it within one event loop."""

    def __init__(
        self,
        kind: str,
        addresses: Iterable[str],
        beside: Beside | None = None,
        tls: ClientTls | None = None,
        token: TokenFile | None = None,
    ) -> None:
        """`kind` is the word for one of them in logs. `beside` runs for each peer as long as it is among them. With
        `tls` they are called by TLS, and their certificates must have the host of the address that is given here. Calls
        show the `token` of this process."""
        self._kind = kind
        self._addresses = tuple(addresses)
        self._beside = beside
        self._tls = tls
        self._token = token
        self._peers: dict[str, Peer] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._looking_up: asyncio.Task[None] | None = None
        self._parting: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._turns = itertools.count()
        self._known: dict[str, str] = {}
        """By address: why it is not ready, as it was logged."""

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    async def start(self) -> None:
        """Look up the addresses, and begin to ask."""
        await self._look_up()
        self._looking_up = keep_running(self._keep_up, f"the look for each {self._kind}")

    async def stop(self) -> None:
        """Ask no more, and close all channels."""
        if self._looking_up is not None:
            self._looking_up.cancel()
            for task in self._parting:
                task.cancel()
            await asyncio.gather(self._looking_up, *self._parting, return_exceptions=True)
        await asyncio.gather(*(self._part(each, 0.0) for each in list(self._peers)))

    def told(self) -> str:
        """Return which peers are not ready, and why; empty if all are."""
        unready = [each for each in self if each.rank is not Standing.READY]
        return "; ".join(f"the {self._kind} at {each.address}: {each.told or 'no answer yet'}" for each in unready)

    @property
    def is_ready(self) -> bool:
        """Return whether one of them is ready."""
        return any(each.rank is Standing.READY for each in self._peers.values())

    def best(self) -> list[Peer]:
        """Return the peers to call: those that are ready; if none is, those that answer. In a fixed order."""
        ranks = {peer: peer.rank for peer in self._peers.values()}
        highest = max(ranks.values(), default=Standing.AWAY)
        return [peer for peer, rank in ranks.items() if rank is highest] if highest is not Standing.AWAY else []

    async def choose(self, key: str, home: Peer | None, ends_s: float) -> Peer:
        """Return the peer to call: `home` if it is as good as any; else all clients choose the same for a key, and in
        turn without one. It waits until one answers. Raises TimeoutError at `ends_s`, by the loop's clock."""
        while not (best := self.best()):
            self._moved.clear()
            async with asyncio.timeout_at(ends_s):
                await self._moved.wait()
        if len(best) == 1:
            return best[0]
        if home is not None and home in best:
            return home
        if key:
            return max(best, key=lambda peer: _weight(key, peer.address))
        return self.in_turn(best)

    def in_turn(self, peers: Sequence[Peer] = ()) -> Peer:
        """Return the next one of these peers, or of all that are best."""
        peers = peers or self.best() or list(self._peers.values())
        return peers[next(self._turns) % len(peers)]

    def _unready(self) -> list[Peer]:
        return [each for each in self._peers.values() if each.told]

    def _note_move(self) -> None:
        self._moved.set()
        unready = {each.address: each.told for each in self._unready()}
        for address, reason in unready.items():
            if self._known.get(address) != reason:
                _log.warning("the %s at %s is not ready: %s", self._kind, address, reason)
        for address in self._known.keys() - unready.keys():
            _log.info("the %s at %s is ready", self._kind, address)
        self._known = unready

    async def _keep_up(self) -> None:
        """Look up names again, and give up what a silent peer holds."""
        while True:
            await asyncio.sleep(LOOK_UP_S if len(self._peers) < 2 else ASK_S)
            await self._look_up()
            self._give_up_silent()

    def _give_up_silent(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for peer in self._peers.values():
            if peer.standing is Standing.AWAY and now_s - peer.answered_s > SILENT_S and self.is_ready:
                peer.give_up_calls()

    async def _look_up(self) -> None:
        found: dict[str, str] = {}
        """By address: the name that was looked up."""
        for name in self._addresses:
            for each in await addresses_of(name):
                found.setdefault(each, name)
        for address in found.keys() - self._peers.keys():
            self._add(address, found[address])
        for address in self._peers.keys() - found.keys():
            parting = asyncio.create_task(self._part(address, PARTING_S))
            self._parting.add(parting)
            parting.add_done_callback(self._parting.discard)
        self._peers = {address: self._peers[address] for address in found}

    def _add(self, address: str, name: str) -> None:
        expected = self._tls.name_for(name) if self._tls is not None else ""
        peer = self._peers[address] = Peer(address, self._note_move, self._tls, expected, self._token)
        named = f"the {self._kind} at {address}"
        self._tasks[address] = [keep_running(peer.keep_asking, f"asking {named}")]
        if self._beside is not None:
            self._tasks[address].append(keep_running(partial(self._beside, peer), f"following {named}"))

    def _part(self, address: str, grace_s: float) -> Coroutine[Any, Any, None]:
        """Leave a peer out from now on; what is returned closes it, at the latest after `grace_s`."""
        peer, tasks = self._peers.pop(address), self._tasks.pop(address)

        async def close() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await peer.close(grace_s)

        return close()


class Balanced:
    """Acts as a channel of stubs: each call goes to a peer that is ready, in turn."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def unary_unary(self, method: str, *coders: Any, **more: Any) -> Callable[..., Any]:
        """Return the method for stubs."""
        return self._method(lambda channel: channel.unary_unary(method, *coders, **more))

    def unary_stream(self, method: str, *coders: Any, **more: Any) -> Callable[..., Any]:
        """Return the method for stubs."""
        return self._method(lambda channel: channel.unary_stream(method, *coders, **more))

    def _method(self, of: Callable[[Any], Any]) -> Callable[..., Any]:
        made: WeakKeyDictionary[Peer, Any] = WeakKeyDictionary()

        def call(request: Any, **how: Any) -> Any:
            peer = self._peers.in_turn()
            method = made.get(peer)
            if method is None:
                method = made[peer] = of(peer.channel)
            return method(request, **how)

        return call


def _weight(key: str, address: str) -> bytes:
    return hashlib.blake2b(f"{address} {key}".encode(), digest_size=8).digest()


async def addresses_of(address: str) -> list[str]:
    """Return the addresses of `host:port`: the one that is given, or several if its name has several.

    Of one family only, so that a machine with two families counts once; and a loopback name is one machine, too.
    """
    host, _, port = address.rpartition(":")
    if address.startswith("unix") or not port.isdigit() or _is_number(host.strip("[]")):
        return [address]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError:
        return [address]  # the channel tells that there is no such name, or none at present
    family = found[0][0]
    hosts = sorted({str(each[4][0]) for each in found if each[0] == family})
    if len(hosts) < 2 or all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in hosts):
        return [address]
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts]


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
