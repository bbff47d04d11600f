"""The metrics of an executor."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from dalsegno.worker.metrics import Metrics


def test_actions_are_counted_by_outcome_and_timed_when_they_took_time() -> None:
    """Instant actions are only counted; running and unacknowledged ones are counted at the time of a read."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    running = 3
    metrics.watch(lambda: running, lambda: 0)

    metrics.count("std.noop", "succeeded", 0.000_01)
    metrics.count("std.noop", "succeeded", 0.000_01)
    metrics.count("std.http", "failed", 0.3)
    running = 4

    lines = generate_latest(registry).decode().splitlines()
    assert 'dalsegno_executor_actions_total{action="std.noop",outcome="succeeded"} 2.0' in lines
    assert 'dalsegno_executor_actions_total{action="std.http",outcome="failed"} 1.0' in lines
    assert 'dalsegno_executor_action_seconds_bucket{action="std.http",le="0.5"} 1.0' in lines
    assert "dalsegno_executor_running 4.0" in lines
    assert not any(line.startswith('dalsegno_executor_action_seconds_count{action="std.noop"') for line in lines)
