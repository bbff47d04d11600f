"""`dalsegno certs init`, and how `serve` gives certificates to its services."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from dalsegno.cli.certs import app
from dalsegno.cli.exits import CommandError
from dalsegno.cli.service_links import ServiceLinks, plan_links
from dalsegno.cli.serving import plan_server
from dalsegno.rpc.credentials import ClientTls, ServerTls, names_in

LOCAL = "127.0.0.1:0"
OPEN = "0.0.0.0:0"


def init(*words: str) -> str:
    """Run the command; its output. Raises CommandError."""
    ended = CliRunner().invoke(app, ["init", *words], catch_exceptions=False, standalone_mode=False)
    return ended.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a folder with certificates."""
    init(str(tmp_path / "certs"), "--host", "flows.example.com", "--client", "alice")
    return tmp_path / "certs"


def certificate(file: Path) -> x509.Certificate:
    """The certificate in a file."""
    return x509.load_pem_x509_certificate(file.read_bytes())


def test_it_makes_an_authority_and_certificates(folder: Path) -> None:
    """Keys are for their owner only; the names are those of this machine and those that were asked for."""
    assert {each.name for each in folder.iterdir()} == {
        *("ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "alice.pem", "alice-key.pem")
    }
    for key in folder.glob("*-key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = names_in(certificate(folder / "server.pem"))
    assert {"localhost", "127.0.0.1", "::1", "flows.example.com", "server"} <= set(names)
    assert names_in(certificate(folder / "alice.pem")) == ["alice"]
    ServerTls(f"{folder}/server.pem", f"{folder}/server-key.pem", f"{folder}/ca.pem")
    ClientTls(f"{folder}/ca.pem", f"{folder}/alice.pem", f"{folder}/alice-key.pem")


def test_new_ones_have_the_same_names(folder: Path) -> None:
    """`--renew` replaces every certificate by a new one of the same authority, with its names; it may add some."""
    before = {name: certificate(folder / f"{name}.pem") for name in ("ca", "server", "alice")}
    init(str(folder), "--renew", "--host", "more.example.com", "--client", "bob")
    after = {name: certificate(folder / f"{name}.pem") for name in ("ca", "server", "alice", "bob")}
    assert after["ca"] == before["ca"]
    for name in ("server", "alice"):
        assert after[name].serial_number != before[name].serial_number
    assert set(names_in(after["server"])) == {*names_in(before["server"]), "more.example.com"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "has an authority already"),
        (("--renew", "--client", "ca"), "'ca' cannot be the name of a file"),
        (("--renew", "--client", "../x"), "'../x' cannot be the name of a file"),
        (("--renew", "--host", "a b@c"), "'a b@c' is no host name and no address"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], told: str, folder: Path) -> None:
    """An authority is never replaced, and a name that cannot be one is refused."""
    with pytest.raises(CommandError, match=told):
        init(str(folder), *words)


def test_renewal_needs_an_authority(tmp_path: Path) -> None:
    """Without an authority there is nothing to renew."""
    with pytest.raises(CommandError, match="has no authority of `dalsegno certs init`"):
        init(str(tmp_path), "--renew")


def given(folder: Path, **more: str) -> dict[str, str]:
    """The options of `serve` with the certificates of a folder."""
    own = {"certificate": f"{folder}/server.pem", "key": f"{folder}/server-key.pem", "ca": f"{folder}/ca.pem"}
    return own | {name.replace("_", "-"): value for name, value in more.items()}


def test_all_services_get_the_same_certificate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` gives its services the options by the environment, a name by which they know each other, and lets them
    in; what only the gateway is to show comes from its own variables, and reaches no other service."""
    monkeypatch.setenv("DALSEGNO_GATEWAY_TLS_CLIENT_CA", "")
    monkeypatch.setenv("DALSEGNO_GATEWAY_TLS_CLIENT_NAMES", "")
    monkeypatch.setenv("DALSEGNO_ENGINE_TLS_CERTIFICATE", "elsewhere.pem")
    links = plan_links(given(folder, client_ca=f"{folder}/ca.pem", client_names="alice"))
    told: list[str] = []
    config = plan_server(tmp_path, OPEN, OPEN, gateway=LOCAL, links=links, report=told.append)
    assert told == []
    assert links.told == "TLS, clients with certificates only"
    for service in config.services():
        variables = {k: v for k, v in (service.environment or {}).items() if "_TLS_" in k}
        for only in ("DALSEGNO_GATEWAY_TLS_CLIENT_CA", "DALSEGNO_GATEWAY_TLS_CLIENT_NAMES"):
            assert variables.pop(only, None) == ("" if service.name == "gateway" else None)
        assert set(variables["DALSEGNO_TLS_CLIENT_NAMES"].split()) >= {"alice", "server"}
        assert variables["DALSEGNO_TLS_SERVER_NAME"] == "localhost"
        assert variables["DALSEGNO_TLS_CLIENT_CERTIFICATE"] == f"{folder}/server.pem"
        assert "DALSEGNO_ENGINE_TLS_CERTIFICATE" not in variables
    with pytest.raises(CommandError, match=r"--gateway-listen .*: it asks no client for a certificate"):
        plan_server(tmp_path, OPEN, OPEN, gateway=OPEN, links=links, report=told.append)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: found.pop("ca"), "--tls-certificate needs --tls-ca, the authorities that sign it"),
        (lambda found: found.pop("key"), "--tls-certificate and --tls-key belong together"),
        (lambda found: found.pop("certificate"), "needs --tls-certificate: without it all links are plain"),
        (lambda found: found.update(certificate="no.pem"), "no.pem: it cannot be read"),
    ],
)
def test_serve_says_what_is_missing(change: Callable[[dict[str, str]], object], told: str, folder: Path) -> None:
    """`serve` starts nothing with options that do not fit."""
    found = given(folder)
    change(found)
    with pytest.raises(CommandError, match=told):
        plan_links(found)


def test_a_private_server_takes_no_certificates_of_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a single `run` speaks plain text on loopback, whatever certificates the user has for others."""
    for name in ("DALSEGNO_TLS_CERTIFICATE", "DALSEGNO_API_TLS_CERTIFICATE", "DALSEGNO_EXECUTOR_TLS_CA"):
        monkeypatch.setenv(name, f"{folder}/server.pem")
    config = plan_server(tmp_path, LOCAL, LOCAL)
    assert config.links == ServiceLinks()
    assert not [name for each in config.services() for name in each.environment or {} if "_TLS_" in name]
