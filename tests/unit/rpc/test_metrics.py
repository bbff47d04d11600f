"""The endpoint for Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from dalsegno.rpc.metrics import serve_metrics


def test_metrics_are_served_until_stopped() -> None:
    """HTTP serves the metrics, and the port is free after the stop."""
    port, stop = serve_metrics("127.0.0.1", 0)
    address = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(address, timeout=5) as answer:
        text = answer.read().decode()
    assert "dalsegno_grpc_calls_total" in text

    stop()

    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=1)
