"""Checkpoints: points of the flow that an execution stops at, goes to and goes back to."""
