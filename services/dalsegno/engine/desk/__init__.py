"""Requests of people: from a request to an operation, its plan and its answer."""
