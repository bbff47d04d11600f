"""A step in the making, and everything that it decides while an execution runs."""
