"""Metrics: the counters of every server, and the HTTP endpoint for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram, start_http_server

CALLS = Counter("dalsegno_grpc_calls_total", "Calls that have ended.", ["service", "method", "code"])
CALL_SECONDS = Histogram(
    "dalsegno_grpc_call_seconds",
    "The duration of calls; streams from beginning to end.",
    ["service", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600),
)
CALLS_OPEN = Gauge("dalsegno_grpc_calls_open", "Calls being served now, streams included.", ["service", "method"])


def serve_metrics(host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serve the metrics of this process over HTTP; port 0: a free one. Return the port, and a function that stops it.

    Raises OSError if the port is in use.
    """
    server, thread = start_http_server(port, addr=host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
