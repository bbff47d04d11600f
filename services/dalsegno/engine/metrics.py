"""The engine's metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

QUEUE_DEPTH = Gauge("dalsegno_engine_queue_depth", "Works that wait for a batch.")
BATCH_SIZE = Histogram(
    "dalsegno_engine_batch_size", "Works in one batch.", buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
)
COMMIT_SECONDS = Histogram(
    "dalsegno_engine_commit_seconds",
    "Writing and committing one batch.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
EVENTS = Counter("dalsegno_engine_events", "Events stepped, by kind.", ["event"])
POISONED = Counter("dalsegno_engine_poisoned", "Works that could not be carried out.")
LEASES_LOST = Counter("dalsegno_engine_leases_lost", "Sessions whose lease ended.")
CLOCK_SHIFT = Gauge(
    "dalsegno_engine_clock_shift_seconds", "Seconds that engines add to the store's time because its clock was set."
)
STREAMS = Gauge("dalsegno_engine_streams", "Executor streams that are open.")
