"""The streams to executors: sessions, hand-out and reports."""
