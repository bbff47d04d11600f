"""The metrics of an executor, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

INSTANT_S = 0.001
"""A shorter action is counted but not timed: timing it would take longer than the action."""

_BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3600)


class Metrics(Collector):
    """Counters by action and outcome, the duration of actions, and what is running or unacknowledged."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = Histogram(
            "dalsegno_executor_action_seconds",
            "The duration of actions that took a millisecond or more.",
            ["action"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._running = Gauge("dalsegno_executor_running", "Actions that run now.", registry=registry)
        self._unacknowledged = Gauge(
            "dalsegno_executor_unacknowledged", "Outcomes that no engine has acknowledged.", registry=registry
        )
        self.streams = Gauge("dalsegno_executor_streams", "Open streams to engines.", registry=registry)
        self.reconnects = Counter("dalsegno_executor_reconnects", "Streams opened again.", registry=registry)
        # A plain dict, read on demand: a counter with labels takes a tenth of the time of an instant action.
        self._ended: dict[tuple[str, str], int] = {}
        registry.register(self)

    def watch(self, running: Callable[[], float], unacknowledged: Callable[[], float]) -> None:
        """Set the functions that give these two values when the metrics are read."""
        self._running.set_function(running)
        self._unacknowledged.set_function(unacknowledged)

    def count(self, action: str, outcome: str, elapsed_s: float) -> None:
        """Count an action that has ended."""
        key = action, outcome
        self._ended[key] = self._ended.get(key, 0) + 1
        if elapsed_s >= INSTANT_S:
            self._seconds.labels(action).observe(elapsed_s)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the number of ended actions, by action and outcome; called in the thread of the reader."""
        family = CounterMetricFamily(
            "dalsegno_executor_actions", "Actions that have ended.", labels=["action", "outcome"]
        )
        for labels, count in list(self._ended.items()):
            family.add_metric(labels, count)
        yield family
