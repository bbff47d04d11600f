"""What an executor tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3600)


class Metrics:
    """Counters by action and outcome, the time that actions take, and what the executor has in hand."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._ended = Counter(
            "dalsegno_executor_actions", "Actions that ended", ["action", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "dalsegno_executor_action_seconds",
            "How long actions ran",
            ["action"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._running = Gauge("dalsegno_executor_running", "Actions that run", registry=registry)
        self._unacknowledged = Gauge(
            "dalsegno_executor_unacknowledged", "Outcomes that no engine has acknowledged", registry=registry
        )
        self.streams = Gauge("dalsegno_executor_streams", "Open streams to engines", registry=registry)
        self.reconnects = Counter("dalsegno_executor_reconnects", "Streams that broke", registry=registry)
        # Looking a label up costs more than counting does.
        self._counts: dict[tuple[str, str], Counter] = {}
        self._times: dict[str, Histogram] = {}

    def watch(self, running: Callable[[], float], unacknowledged: Callable[[], float]) -> None:
        """Ask for these two whenever somebody reads the metrics."""
        self._running.set_function(running)
        self._unacknowledged.set_function(unacknowledged)

    def count(self, action: str, outcome: str, elapsed_s: float) -> None:
        """An action has ended."""
        count = self._counts.get((action, outcome))
        if count is None:
            count = self._counts[action, outcome] = self._ended.labels(action, outcome)
        count.inc()
        time = self._times.get(action)
        if time is None:
            time = self._times[action] = self._seconds.labels(action)
        time.observe(elapsed_s)
