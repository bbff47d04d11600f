"""Connections to hosts that workflows name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from tests.resolving import resolve_as

from dalsegno.actions.action import ActionFailed
from dalsegno.actions.http import Http, close
from dalsegno.actions.mail import Mailer
from dalsegno.outgoing.connecting import open_socket
from dalsegno.outgoing.reach import NOWHERE, Reach, TargetRefused, read_reach

REFUSED = "has no public address; the operator allows others with --private-networks"


@dataclass
class Server:
    """A server on all addresses of loopback, which is also a proxy."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    """The target of each request: a whole URL when it was sent to a proxy."""
    location: str = ""
    """Where it redirects to; empty: nowhere."""

    async def answer(self, request: web.Request) -> web.Response:
        """Note a request and answer it."""
        self.asked.append(request.raw_path if request.raw_path.startswith("http") else str(request.url))
        if self.location and request.path == "/moved":
            return web.Response(status=302, headers={"Location": self.location})
        return web.json_response("here")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Provide the server."""
    made = Server()
    runner = web.ServerRunner(web.Server(made.answer))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await close()
    await runner.cleanup()


async def send(url: str, reach: Reach = NOWHERE, **given: object) -> object:
    """Send a request by std.http and return what it answers."""
    return (await Http(reach).request(url, **given))["content"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::]", "user:pass@127.0.0.1", "127.0.0.1.", "①②⑦.⓪.⓪.①"),
    ],
)
async def test_this_machine_is_not_reached(server: Server, host: str) -> None:
    """However this machine is spelled, std.http gets no connection to it."""
    with pytest.raises(ActionFailed, match=f"{REFUSED}|not a canonical IPv4|getaddrinfo|Name or service not known"):
        await send(f"http://{host}:{server.port}/")
    assert server.asked == []


async def test_the_operator_allows_it(server: Server) -> None:
    """What the operator allows is reached, and nothing else."""
    here = f"127.0.0.1:{server.port}"
    assert await send(f"http://{here}/", read_reach("127.0.0.1")) == "here"
    with pytest.raises(ActionFailed, match=REFUSED):
        await send(f"http://127.0.0.2:{server.port}/", read_reach("127.0.0.1"))
    assert server.asked == [f"http://{here}/"]


async def test_a_redirect_is_checked(server: Server) -> None:
    """A redirect to an address that may not be reached is not followed."""
    server.location = f"http://127.0.0.2:{server.port}/secret"
    with pytest.raises(ActionFailed, match=REFUSED):
        await send(f"http://127.0.0.1:{server.port}/moved", read_reach("127.0.0.1"), allow_redirects=True)
    assert [each.rpartition("/")[2] for each in server.asked] == ["moved"]


async def test_a_name_is_as_good_as_its_addresses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name with private addresses is refused; of several addresses those that may be reached are used."""
    resolve_as(
        monkeypatch, {"bad.example.com": ["127.0.0.1", "10.0.0.1"], "mixed.example.com": ["127.0.0.2", "127.0.0.1"]}
    )
    with pytest.raises(ActionFailed, match=REFUSED):
        await send(f"http://bad.example.com:{server.port}/")
    assert await send(f"http://mixed.example.com:{server.port}/", read_reach("127.0.0.1")) == "here"
    assert len(server.asked) == 1


@pytest.mark.parametrize("first", ["127.0.0.1", "127.0.0.2"])
async def test_a_name_that_changes_is_connected_to_where_it_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """A name server that gives another address at the second question does not get a connection there."""
    second = {"127.0.0.1": "127.0.0.2", "127.0.0.2": "127.0.0.1"}[first]
    asked = resolve_as(monkeypatch, {"shop.example.com": [first]}, {"shop.example.com": [second]})
    reach = read_reach(first)
    opened = await open_socket(reach, "shop.example.com", server.port, 5.0)
    assert (opened.getpeername()[0], asked) == (first, ["shop.example.com"])
    opened.close()
    with pytest.raises(TargetRefused):
        await open_socket(reach, "shop.example.com", server.port, 5.0)


async def test_mail_goes_through_servers_that_may_be_reached(server: Server) -> None:
    """std.email is refused, too, and says how it is allowed."""
    with pytest.raises(ActionFailed, match=f"localhost {REFUSED}"):
        await Mailer(NOWHERE).send("a@example.com", "b@example.com", f"localhost:{server.port}")
    assert server.asked == []


@pytest.mark.parametrize("url", ["unix:///run/shop.sock", "file:///etc/passwd", "http+unix://%2Frun%2Fshop.sock/"])
async def test_a_url_is_one_of_http(url: str) -> None:
    """Sockets and files of the machine are no targets."""
    with pytest.raises(ActionFailed, match="Failed to send HTTP request"):
        await send(url)


async def test_a_proxy_of_the_environment_may_be_anywhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's proxy is used wherever it is; private targets behind it are refused, unknown names left to it."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    resolve_as(monkeypatch, {"inside.example.com": ["10.0.0.1"]})
    assert await send("http://93.184.216.34/") == "here"
    assert await send("http://elsewhere.example.com/") == "here"
    for host in ("127.0.0.2", "inside.example.com", "2130706434", "[::1]"):
        with pytest.raises(ActionFailed, match=REFUSED):
            await send(f"http://{host}:{server.port}/")
    assert server.asked == ["http://93.184.216.34/", "http://elsewhere.example.com/"]


async def test_a_redirect_through_a_proxy_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a redirect asks the operator's proxy for is checked like the first request."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    server.location = "http://10.0.0.1/secret"
    with pytest.raises(ActionFailed, match=f"10.0.0.1 {REFUSED}"):
        await send("http://93.184.216.34/moved", allow_redirects=True)
    assert server.asked == ["http://93.184.216.34/moved"]


async def test_a_proxy_of_a_workflow_is_a_target(server: Server) -> None:
    """A proxy that an input names must be where the operator lets it be."""
    proxies = {"http": f"http://127.0.0.1:{server.port}"}
    with pytest.raises(ActionFailed, match=REFUSED):
        await send("http://93.184.216.34/", proxies=proxies)
    with pytest.raises(ActionFailed, match=REFUSED):
        await send("http://127.0.0.2/", read_reach("127.0.0.1"), proxies=proxies)
    assert server.asked == []


async def test_a_connection_takes_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not accept the connection is given up."""

    async def never(*given: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    monkeypatch.setattr("dalsegno.outgoing.connecting.CONNECT_S", 0.05)
    with pytest.raises(ActionFailed, match="Failed to send HTTP request"):
        await send("http://93.184.216.34/")
