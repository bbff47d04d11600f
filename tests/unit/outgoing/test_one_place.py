"""There is one place that opens connections to hosts that workflows name."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "services" / "dalsegno"

OPENING = {
    *("ClientSession", "TCPConnector", "UnixConnector", "open_connection", "open_unix_connection"),
    *("create_connection", "create_unix_connection", "create_datagram_endpoint", "sock_connect", "urlopen"),
    *("HTTPConnection", "HTTPSConnection", "SMTP", "SMTP_SSL", "FTP", "insecure_channel", "secure_channel"),
}
"""Calls of libraries that open connections."""

ELSEWHERE = {
    "rpc": "to services of the installation, which operators name",
    "actions/grpc_calls/connection.py": "to addresses of outgoing/, or to targets whose host the operator names",
}


def opened_in(path: Path) -> set[str]:
    """Return the calls of a file that open connections."""
    calls = [each.func for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
    names = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in calls}
    return names & OPENING


def test_only_outgoing_opens_connections() -> None:
    """No other module has a connection opened, but for those that have a reason."""
    found = {path.relative_to(SOURCES): opened for path in SOURCES.rglob("*.py") if (opened := opened_in(path))}
    places = {path.parts[0] if path.parts[0] in ("rpc", "outgoing") else str(path) for path in found}
    assert places == {"outgoing", *ELSEWHERE}


def test_mail_gets_its_socket() -> None:
    """The library for mail is given a socket, and no host and port to connect to by itself."""
    tree = ast.parse((SOURCES / "actions" / "mail.py").read_text())
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    sends = [each for each in calls if ast.unparse(each.func) == "aiosmtplib.send"]
    assert [{keyword.arg for keyword in each.keywords} & {"sock", "port"} for each in sends] == [{"sock"}]
