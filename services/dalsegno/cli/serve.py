"""`dalsegno serve`: run all services on this machine; `engine`, `executor`, `api`, `gateway`: run one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dalsegno import core_files
from dalsegno.cli.connection import DEFAULT_SERVER, why_not_ready
from dalsegno.cli.output import print_note
from dalsegno.cli.permissions import read_networks, read_permission
from dalsegno.cli.screen import console
from dalsegno.cli.service_links import plan_links
from dalsegno.cli.serving import (
    ServerConfig,
    default_data,
    gateway_is_installed,
    plan_server,
    running,
)
from dalsegno.cli.supervisor import Supervisor, is_free
from dalsegno.outgoing.reach import OPTION, VARIABLE
from dalsegno.rpc.links import BOTH_OPTIONS, variable_of
from dalsegno.rpc.options import AUTH_VARIABLE, DATABASE_URL, ISSUERS, ISSUERS_VARIABLE, Auth, warning_of

ENGINE = "127.0.0.1:7701"
GATEWAY = "127.0.0.1:7702"
LOOK_S = 2.0
"""How often `serve` asks the api whether it is ready."""

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="DALSEGNO_DATA", help="The data folder; default: ~/.local/share/dalsegno."
    ),
]
Listen = Annotated[
    str,
    typer.Option(
        "--listen", metavar="HOST:PORT", envvar="DALSEGNO_LISTEN", help="The address for clients; port 0: a free one."
    ),
]
EngineListen = Annotated[
    str,
    typer.Option(
        "--engine-listen",
        metavar="HOST:PORT",
        envvar="DALSEGNO_ENGINE_LISTEN",
        help="The address for executors; port 0: a free one.",
    ),
]
GatewayListen = Annotated[
    str,
    typer.Option(
        "--gateway-listen",
        metavar="HOST:PORT",
        envvar="DALSEGNO_GATEWAY_LISTEN",
        help=f"The address for HTTP; default: {GATEWAY}, or a free port if that is taken.",
        show_default=False,
    ),
]
PublicUrl = Annotated[
    str,
    typer.Option(
        "--public-url",
        metavar="URL",
        envvar="DALSEGNO_ENGINE_PUBLIC_URL",
        help="The address under which third parties reach the gateway, for callbacks; default: its own.",
        show_default=False,
    ),
]
NoGateway = Annotated[bool, typer.Option("--no-gateway", help="Start no gateway.")]
Database = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        envvar=DATABASE_URL,
        help="The database; default: SQLite in the data folder.",
    ),
]
Slots = Annotated[
    int, typer.Option("--slots", min=0, help="The number of actions that its executor runs at once; 0: its default.")
]


def _tls(name: str, metavar: str = "FILE") -> Any:
    told = BOTH_OPTIONS[name]
    shown = f"{told[0].upper()}{told[1:]}."
    return typer.Option(f"--tls-{name}", metavar=metavar, envvar=variable_of(name), help=shown, show_default=False)


Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar="DALSEGNO_INSECURE",
        help="Accept connections from other machines, without TLS, or without certificates or tokens.",
    ),
]
AskFor = Annotated[
    Auth,
    typer.Option(
        "--auth",
        envvar=AUTH_VARIABLE,
        help="tokens: serve only callers with a token; that of an admin is in the data folder.",
    ),
]
Issuers = Annotated[
    str,
    typer.Option(
        "--issuers",
        metavar="FILE",
        envvar=ISSUERS_VARIABLE,
        help=f"{ISSUERS[0].upper()}{ISSUERS[1:]}.",
        show_default=False,
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="ACTION",
        parser=read_permission,
        help="Allow actions that are off: std.ssh (other machines), std.javascript, core.local (this machine), "
        "grpc.call=HOST:PORT,... Repeatable.",
    ),
]
PrivateNetworks = Annotated[
    str,
    typer.Option(
        OPTION,
        metavar="NETWORKS",
        envvar=VARIABLE,
        callback=read_networks,
        help="Private networks that actions and notices may reach, such as 10.20.0.0/16,127.0.0.1, or all; default: "
        "none, only public addresses.",
        show_default=False,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log to this terminal, not to files in the data folder.")]


def serve(
    data: Data = None,
    listen: Listen = DEFAULT_SERVER,
    engine_listen: EngineListen = ENGINE,
    gateway_listen: GatewayListen = "",
    no_gateway: NoGateway = False,
    public_url: PublicUrl = "",
    database: Database = "",
    slots: Slots = 0,
    certificate: Annotated[str, _tls("certificate")] = "",
    key: Annotated[str, _tls("key")] = "",
    ca: Annotated[str, _tls("ca")] = "",
    client_ca: Annotated[str, _tls("client-ca")] = "",
    client_names: Annotated[str, _tls("client-names", "NAMES")] = "",
    client_certificate: Annotated[str, _tls("client-certificate")] = "",
    client_key: Annotated[str, _tls("client-key")] = "",
    server_name: Annotated[str, _tls("server-name", "NAME")] = "",
    auth: AskFor = Auth.OPEN,
    issuers: Issuers = "",
    insecure: Insecure = False,
    allow: Allow = None,
    private_networks: PrivateNetworks = "",
    verbose: Verbose = False,
) -> None:
    """Run a server until Ctrl-C: engine, executor, api and gateway. Each is a process, started again if it dies."""
    if warning := warning_of(database):
        print_note(warning)
    tls = {"certificate": certificate, "key": key, "ca": ca, "client-ca": client_ca, "client-names": client_names}
    tls |= {"client-certificate": client_certificate, "client-key": client_key, "server-name": server_name}
    config = plan_server(
        data or default_data(),
        listen,
        engine_listen,
        database,
        slots,
        gateway="" if no_gateway else _gateway_address(gateway_listen),
        public_url=public_url,
        logs=not verbose,
        links=plan_links(tls),
        asks_tokens=auth is Auth.TOKENS,
        issuers=issuers,
        insecure=insecure,
        allow=allow or (),
        private_networks=private_networks,
        report=print_note,
    )
    asyncio.run(_serve(config))


def _gateway_address(given: str) -> str:
    """Return where the gateway listens; empty if it is not installed."""
    if not gateway_is_installed():
        print_note("there is no gateway for HTTP: pip install 'dalsegno[gateway]' adds it")
        return ""
    return given or (GATEWAY if is_free(GATEWAY) else f"{GATEWAY.rpartition(':')[0]}:0")


async def _serve(config: ServerConfig) -> None:
    core_files.write_none()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # else nohup started it
            loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    started = asyncio.create_task(_keep_up(config, stopped))
    await asyncio.wait([stopped, started], return_when=asyncio.FIRST_COMPLETED)
    if not started.done() and stop.is_set():
        print_note("stopping")
    await started
    print_note("stopped; unfinished executions continue when it is started again")


async def _keep_up(config: ServerConfig, stopped: asyncio.Task[bool]) -> None:
    async with running(config, print_note) as supervisor:
        _introduce(config, supervisor)
        telling = asyncio.create_task(_tell_readiness(config))
        try:
            await stopped
        finally:
            telling.cancel()


async def _tell_readiness(config: ServerConfig) -> None:
    """Print when the api is no longer ready, and why, and when it is again."""
    was_ready = True
    while True:
        await asyncio.sleep(LOOK_S)
        reason = await why_not_ready(config.listen, config.links.own.calls)
        if was_ready == bool(reason):
            was_ready = not reason
            print_note("ready again" if was_ready else f"not ready: {reason}")


def _introduce(config: ServerConfig, supervisor: Supervisor) -> None:
    pids = {child.service.name: child.pid for child in supervisor.children}
    out = console()
    rows = [
        ("api", config.listen, "clients: dalsegno --help, any gRPC client"),
        ("engine", config.engine, "executors connect here"),
        ("executor", "(executor-1)", "runs the actions" + "".join(f", also {each}" for each in config.allow)),
    ]
    if config.gateway:
        rows.append(("gateway", config.gateway, f"{config.links.gateway_scheme}, for curl, browsers and webhooks"))
    width = max(len(address) for _, address, _ in rows)
    for name, address, told in rows:
        out.print(f"{name:8}  {address:{width}}  pid {pids[name]:<6} {told}", markup=False)
    speech = "TLS" if config.links.own.serves is not None else "plain text"
    links = config.links.told if config.tokens.admin is None else f"{speech}, callers with tokens only"
    out.print(f"links     {links}", markup=False)
    if config.tokens.admin is not None:
        out.print(f"tokens    needed; yours: --token-file {config.tokens.admin}", markup=False)
    out.print(f"data      {config.data}", markup=False)
    if config.logs is not None:
        out.print(f"logs      {config.logs}", markup=False)
    out.print("ready; Ctrl-C stops it")
    sys.stdout.flush()


def run_service(name: str, arguments: list[str]) -> None:
    """Replace this process by one service, with the same options."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"dalsegno.{name}", *arguments])


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="example:  dalsegno serve --data ./data --listen 0.0.0.0:7700 --insecure")(serve)

    @app.command(context_settings=_PASS_ON)
    def engine(context: typer.Context) -> None:
        """Run only an engine; its options: `dalsegno engine --help`."""
        run_service("engine", context.args)

    @app.command(context_settings=_PASS_ON)
    def executor(context: typer.Context) -> None:
        """Run only an executor; its options: `dalsegno executor --help`."""
        run_service("executor", context.args)

    @app.command("executor-check", context_settings=_PASS_ON)
    def executor_check(context: typer.Context) -> None:
        """Check an executor in any language; its options: `dalsegno executor-check --help`."""
        run_service("executor_check", context.args)

    @app.command(context_settings=_PASS_ON)
    def api(context: typer.Context) -> None:
        """Run only an api; its options: `dalsegno api --help`."""
        run_service("api", context.args)

    @app.command(context_settings=_PASS_ON)
    def gateway(context: typer.Context) -> None:
        """Run only a gateway, for HTTP; its options: `dalsegno gateway --help`."""
        run_service("gateway", context.args)

    @app.command(context_settings=_PASS_ON)
    def store(context: typer.Context) -> None:
        """Upgrade, check, back up or rekey a store: `dalsegno store --help`. It needs no server."""
        run_service("store", context.args)
