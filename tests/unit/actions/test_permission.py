"""Actions that are off until the operator turns them on."""

from __future__ import annotations

import pytest

from dalsegno.actions.permission import allows_target, explain_absence, is_target
from dalsegno.actions.registry import builtin_descriptions, load_registry
from dalsegno.executor.settings import read_settings

OFF = {"std.ssh", "std.ssh_proxied", "std.javascript", "std.js", "core.local", "grpc.call"}


@pytest.mark.parametrize(
    ("allowed", "offered"),
    [
        ((), set()),
        (("std.ssh",), {"std.ssh", "std.ssh_proxied"}),
        (("std.javascript",), {"std.javascript", "std.js"}),
        (("core.local",), {"core.local"}),
        (("grpc.call=stock.example.com:443",), {"grpc.call"}),
        (("std.javascript", "core.local", "std.ssh", "grpc.call=*"), OFF),
    ],
)
def test_an_executor_offers_what_is_allowed(allowed: tuple[str, ...], offered: set[str]) -> None:
    """An executor offers allowed actions and those that need no permission."""
    names = {action.name for action in load_registry(plugins=(), allowed=allowed)}
    assert names & OFF == offered
    assert {"std.email", "std.echo", "std.http", "std.mistral_http"} <= names


def test_all_are_described() -> None:
    """The description of an action exists on or off, for checks of parameters, and says that it is off."""
    described = {each.name: each for each in builtin_descriptions()}
    assert described.keys() >= OFF
    assert all("Off by default." in described[name].description for name in OFF)
    email = {each.name: each.required for each in described["std.email"].parameters}
    assert {name for name, required in email.items() if required} == {"from_addr", "to_addrs", "smtp_server"}


def test_a_refusal_says_how_it_is_turned_on() -> None:
    """The refusal names the option and the variable; an unknown action is just unknown."""
    assert "--allow std.ssh or DALSEGNO_EXECUTOR_ALLOW=std.ssh" in explain_absence("std.ssh_proxied")
    assert explain_absence("example.greet") == "this executor has no action named example.greet"


@pytest.mark.parametrize(
    ("arguments", "variable", "allow"),
    [
        ([], "", ()),
        ([], "std.ssh,std.javascript", ("std.ssh", "std.javascript")),
        (["--allow", "std.ssh", "--allow", "std.javascript"], "", ("std.ssh", "std.javascript")),
        (["--allow", "std.javascript, std.ssh"], "std.ssh", ("std.javascript", "std.ssh")),
        (
            [
                "--allow",
                "std.ssh,grpc.call=stock.example.com:443,[::1]:50051,core.local",
                "--allow",
                "grpc.call=*:8443",
            ],
            "",
            (
                "std.ssh",
                "grpc.call=stock.example.com:443",
                "grpc.call=[::1]:50051",
                "core.local",
                "grpc.call=*:8443",
            ),
        ),
    ],
)
def test_the_operator_turns_them_on(arguments: list[str], variable: str, allow: tuple[str, ...]) -> None:
    """Options turn actions on, else the variable."""
    assert read_settings(arguments, {"DALSEGNO_EXECUTOR_ALLOW": variable}).allow == allow


def test_a_slip_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is an error at the start, with the known names; so are targets that are none, or missing."""
    for allow, words in (
        ("std.shell", "--allow std.shell: it is one of std.ssh, std.javascript, core.local, grpc.call"),
        ("grpc.call", "--allow grpc.call: name its targets: grpc.call=host:port,... (* for all)"),
        ("grpc.call=stock", "--allow stock: neither one of"),
        ("grpc.call=a:65536", "--allow a:65536: neither one of"),
        ("grpc.call=a:1,std.shell", "--allow std.shell: neither one of std.ssh, std.javascript, core.local, grpc.call"),
        ("std.ssh=a:1", "--allow std.ssh=a:1: it is one of"),
    ):
        with pytest.raises(SystemExit):
            read_settings(["--allow", allow], {})
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("allowed", "target", "allows"),
    [
        ("stock.example.com:443", "STOCK.example.com:443", True),
        ("stock.example.com:443", "stock.example.com:4430", False),
        ("*.example.com:443", "a.stock.example.com:443", True),
        ("*.example.com:443", "example.com:443", False),
        ("*.example.com:443", "stock-example.com:443", False),
        ("*:443", "127.0.0.1:443", True),
        ("*:443", "127.0.0.1:444", False),
        ("stock.example.com:*", "stock.example.com:1", True),
        ("*", "[::1]:50051", True),
        ("*", "unix:/run/stock.sock", False),
        ("unix:/run/stock.sock", "unix:/run/stock.sock", True),
    ],
)
def test_a_target_is_allowed_by_its_pattern(allowed: str, target: str, allows: bool) -> None:
    """A pattern covers hosts and ports, never more than it says; a socket of the machine must be named."""
    assert is_target(target)
    assert allows_target((allowed,), target) is allows


def test_files_of_grpc_call_are_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """CA, client certificate and descriptor sets are options of the executor; a certificate needs its key."""
    settings = read_settings(["--grpc-ca", "ca.pem", "--grpc-descriptors", "sets"], {"DALSEGNO_EXECUTOR_GRPC_CERT": ""})
    assert (settings.grpc_ca, settings.grpc_descriptors, settings.grpc_cert) == ("ca.pem", "sets", "")
    with pytest.raises(SystemExit):
        read_settings(["--grpc-cert", "cert.pem"], {})
    assert "--grpc-cert and --grpc-key belong together" in capsys.readouterr().err
