"""Files of certificates: what is wrong with them is said, and new ones are used without a restart."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import Issuer, Pair, serial_shown

from dalsegno.api.settings import read_settings
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ClientTls, ServerTls
from dalsegno.rpc.links import BadCredentials, Links, caller_from, links_of
from dalsegno.rpc.renewal import RenewedChannel
from dalsegno.rpc.server import CannotListen, Server

ENGINE = "dalsegno.v1.EngineService"


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Provide an authority."""
    return Issuer(tmp_path / "certs")


def options_of(pair: Pair, **more: str) -> dict[str, str]:
    """The options with this certificate."""
    return {"certificate": pair.certificate, "key": pair.key, **{k.replace("_", "-"): v for k, v in more.items()}}


@pytest.mark.parametrize(
    ("given", "listens", "told"),
    [
        ({"certificate": "a.pem"}, True, "--tls-certificate and --tls-key belong together"),
        ({"ca": "a", "client-key": "k"}, True, "--tls-client-certificate and --tls-client-key belong together"),
        ({"client-ca": "a.pem"}, True, "--tls-client-ca needs --tls-certificate"),
        ({"client-names": "alice"}, True, "--tls-client-names needs --tls-client-ca"),
        ({"certificate": "a.pem", "key": "b.pem"}, False, "--tls-certificate needs --tls-ca"),
        ({"server-name": "flows.example.com"}, False, "--tls-server-name needs --tls-ca"),
        ({"ca": "no/such.pem"}, False, "--tls-ca no/such.pem: it cannot be read: No such file or directory"),
    ],
)
def test_options_that_do_not_fit(given: Mapping[str, str], listens: bool, told: str) -> None:
    """An option that needs another says which and why; a file that is not there is named."""
    with pytest.raises(BadCredentials, match=told):
        links_of(given, listens=listens)


def test_files_that_do_not_fit(issuer: Issuer, tmp_path: Path) -> None:
    """Each fault of a file is told with the option, the file and what to do, before anything is served."""
    good, other = issuer.issue("good"), issuer.issue("other")
    late = issuer.issue("late", expired=True)
    text, locked = tmp_path / "text.pem", tmp_path / "locked.pem"
    text.write_text("no certificate")
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    edwards = tmp_path / "edwards.pem"
    edwards.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    header = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    locked.write_text(f"{header}\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n{header.replace('BEGIN', 'END')}\n")
    for given, told in (
        (options_of(Pair(str(text), good.key)), f"--tls-certificate {text}: no certificate in PEM can be read"),
        (options_of(Pair(good.certificate, str(text))), f"--tls-key {text}: no private key in PEM can be read"),
        (options_of(Pair(good.certificate, str(locked))), f"--tls-key {locked}: "),
        (options_of(Pair(good.certificate, str(edwards))), f"--tls-key {edwards}: the key is neither of RSA nor"),
        (options_of(Pair(good.certificate, other.key)), f"--tls-key {other.key}: not the key of the first certificate"),
        (
            options_of(late),
            f"--tls-certificate {late.certificate}: the certificate has expired on 2020-01-02 00:00 UTC",
        ),
        (options_of(good, client_ca=good.key), f"--tls-client-ca {good.key}: no certificate in PEM can be read"),
        (options_of(good, ca=str(tmp_path)), f"--tls-ca {tmp_path}: it cannot be read: Is a directory"),
    ):
        with pytest.raises(BadCredentials) as caught:
            links_of(given, listens=True)
        assert told in str(caught.value)


def test_variables_of_all_programs_and_of_one(issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    """DALSEGNO_TLS_... counts for all programs, DALSEGNO_API_TLS_... for the api alone, also an empty one; a fault ends
    the start with a sentence."""
    own = issuer.issue("server")
    common = {"DALSEGNO_TLS_CERTIFICATE": own.certificate, "DALSEGNO_TLS_KEY": own.key, "DALSEGNO_TLS_CA": issuer.ca}
    assert read_settings([], {}).tls == Links()
    found = read_settings([], common).tls
    assert found.serves is not None
    assert found.calls is not None
    plain = {f"DALSEGNO_API_TLS_{name}": "" for name in ("CERTIFICATE", "KEY", "CA")}
    assert read_settings([], common | plain).tls == Links()
    assert caller_from({}) is None
    assert caller_from({"DALSEGNO_TLS_CA": issuer.ca}) is not None
    with pytest.raises(SystemExit):
        read_settings(["--tls-key", issuer.ca], common)
    assert f"error: --tls-key {issuer.ca}: no private key in PEM can be read" in capsys.readouterr().err


async def test_it_listens_elsewhere_for_clients_with_certificates(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond loopback TLS alone is refused, as everybody can call then; with certificates of clients it is served."""
    own = issuer.issue("server")
    with pytest.raises(
        CannotListen, match=r"it asks no client for a certificate or a token: everybody .* --tls-client-ca"
    ):
        await Server("0.0.0.0:0", [ENGINE], tls=ServerTls(own.certificate, own.key)).start()
    with caplog.at_level("INFO"):
        server = Server("0.0.0.0:0", [ENGINE], tls=ServerTls(own.certificate, own.key, issuer.ca))
        await server.start()
        assert "is open to" not in caplog.text
        await server.stop(0)
        local = Server("127.0.0.1:0", [ENGINE])
        await local.start()
        assert "127.0.0.1:0 is open to all users of this machine: it speaks plain text" in caplog.text
        await local.stop(0)


def shown_by(server: Server, issuer: Issuer) -> str:
    """The number of the certificate that a server shows to a new client."""
    return serial_shown(server.port, ssl.create_default_context(cafile=issuer.ca))


async def test_new_files_are_used_and_bad_ones_are_not(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """A server shows a new certificate from the next connection on; while the files have a fault, the one before."""
    own = issuer.issue("server", "127.0.0.1")
    server = Server("127.0.0.1:0", [ENGINE], tls=ServerTls(own.certificate, own.key))
    await server.start()
    try:
        first = await asyncio.to_thread(shown_by, server, issuer)
        issuer.issue("server", "127.0.0.1")
        second = await asyncio.to_thread(shown_by, server, issuer)
        assert second != first
        issuer.issue("other")
        os.replace(own.key.replace("server-", "other-"), own.key)
        assert await asyncio.to_thread(shown_by, server, issuer) == second
        assert "not the key of the first certificate" in caplog.text
        assert "what was read before stays in use" in caplog.text
        issuer.issue("server", "127.0.0.1")
        assert await asyncio.to_thread(shown_by, server, issuer) not in (first, second)
    finally:
        await server.stop(0)


async def test_a_channel_goes_on_with_new_files(issuer: Issuer) -> None:
    """New calls of a channel use new certificates; a call that is open goes on over the connection from before, which
    ends with it."""
    tls = ServerTls(*_files(issuer.issue("server", "127.0.0.1")), issuer.ca)
    own = issuer.issue("client")
    server = Server("127.0.0.1:0", [ENGINE], tls=tls)
    await server.start()
    await server.set_ready(True)
    client = ClientTls(issuer.ca, own.certificate, own.key)
    async with open_channel(f"127.0.0.1:{server.port}", tls=client) as channel:
        assert isinstance(channel, RenewedChannel)
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        watching = stub.Watch(request)  # type: ignore[attr-defined]
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        before = channel.line()
        issuer.issue("client")
        async with asyncio.timeout(40):
            while channel.line() is before:
                await stub.Check(request)  # type: ignore[attr-defined]
        assert before.calls == 1
        await server.set_ready(False)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        async with asyncio.timeout(40):
            await before.unused.wait()
        await stub.Check(request)  # type: ignore[attr-defined]
    await server.stop(0)


def _files(pair: Pair) -> tuple[str, str]:
    return pair.certificate, pair.key
