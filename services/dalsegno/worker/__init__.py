"""The Python SDK for executors: what connects to engines, runs actions and reports their outcomes."""
